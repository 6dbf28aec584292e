"""Our weight files: what is written is read back, with all they say about themselves, and damage is noticed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import small_config

from MedalSLib.errors import ModelError, OutputError
from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
from MedalSLib.network.medals import MedalS
from MedalSLib.network.weights_file import load_compact_encoder, load_network, read_weights, save_weights


@pytest.fixture
def network() -> MedalS:
    torch.manual_seed(0)
    return MedalS(small_config((64, 64, 32), widths=(4, 8, 8), query_dim=16)).eval()


def test_the_same_weights_are_the_same_file(network: MedalS, tmp_path: Path) -> None:
    """The order of the metadata would differ from process to process."""
    sums = {save_weights(tmp_path / f"{at}.safetensors", network, ("CT_Übergang",), "data", "CC0") for at in range(8)}
    assert len(sums) == 1
    raw = (tmp_path / "0.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"])
    assert read_weights(tmp_path / "0.safetensors")[0]["training_data"] == "data"


def test_a_network_comes_back_as_it_was(network: MedalS, tmp_path: Path) -> None:
    path = tmp_path / "new" / "stage1.safetensors"
    checksum = save_weights(path, network, ("CT_Liver", "MRI_Alzheimer's disease plaque"), "two volumes", "CC-BY-4.0")
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    header, _ = read_weights(path)
    assert header["kind"] == "network"
    assert json.loads(header["classes"]) == ["CT_Liver", "MRI_Alzheimer's disease plaque"]
    assert (header["training_data"], header["licence"]) == ("two volumes", "CC-BY-4.0")
    again = load_network(path)
    assert again.config == network.config
    assert not again.training
    state = again.state_dict()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_half_precision_on_disk_is_float32_in_memory(network: MedalS, tmp_path: Path) -> None:
    save_weights(tmp_path / "full.safetensors", network)
    save_weights(tmp_path / "half.safetensors", network, dtype=torch.float16)
    again = load_network(tmp_path / "half.safetensors")
    assert {value.dtype for value in again.state_dict().values()} == {torch.float32}
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * (tmp_path / "full.safetensors").stat().st_size


def test_a_compact_encoder_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = CompactTextEncoder(CompactEncoderConfig(query_dim=24)).eval()
    save_weights(tmp_path / "text.safetensors", encoder)
    again = load_compact_encoder(tmp_path / "text.safetensors")
    with torch.inference_mode():
        assert torch.allclose(again(["left kidney"], "CT"), encoder(["left kidney"], "CT"), atol=1e-6)
    with pytest.raises(ModelError, match="compact text encoder, not a network"):
        load_network(tmp_path / "text.safetensors")


def test_one_changed_bit_is_noticed(network: MedalS, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_weights(path, network)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match="wrong checksum"):
        load_network(path)


@pytest.mark.parametrize("kept", [0, 4, 200, -10])
def test_a_file_cut_short_is_noticed(network: MedalS, tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.safetensors"
    save_weights(path, network)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="damaged"):
        load_network(path)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="not a weight file of Medal S"):
        load_network(tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not exist"):
        load_network(tmp_path / "nowhere.safetensors")


def test_a_file_that_cannot_be_written_leaves_the_old_one(network: MedalS, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        save_weights(tmp_path / "file" / "x.safetensors", network)
    assert (tmp_path / "file").read_text() == "in the way"
