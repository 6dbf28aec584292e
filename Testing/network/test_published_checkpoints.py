"""Published checkpoints: every entry accounted for, in each way they may be named, and nothing in them is run."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import small_config

from MedalSLib.errors import ModelError
from MedalSLib.network.checkpoints import load_published
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.medals import MedalS

TWINS = {".conv.": ".all_modules.0.", ".norm.": ".all_modules.1."}
FILE = "nano_UNet_CVPR2025_crop_size_224_224_128_spacing_1.5_1.5_3.0_step_358600.pth"
PUBLISHED = MedalSConfig((224, 224, 128))


def constants(golden: Path) -> dict[str, torch.Tensor]:
    """One number for each weight, expanded to its shape: a whole checkpoint in a small file."""
    shapes = json.loads((golden / "network_state_dict_shapes.json").read_text())
    names = [key for key in shapes if ".all_modules." not in key]
    return {key: torch.full((1,), float(number)).expand(shapes[key]) for number, key in enumerate(names)}


def renamed(weights: dict[str, torch.Tensor], naming: str, prefix: str) -> dict[str, torch.Tensor]:
    def twin(key: str) -> str:
        for own, other in TWINS.items():
            key = key.replace(own, other)
        return key

    twins = {prefix + twin(key): value for key, value in weights.items()}
    return (
        twins
        if naming == "twins"
        else {prefix + key: value for key, value in weights.items()} | (twins if naming == "both" else {})
    )


def written(path: Path, weights: object) -> Path:
    torch.save({"step": np.int64(358600), "model_state_dict": weights}, path)
    return path


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("naming", ["own names", "twins", "both"])
def test_every_weight_finds_its_place_in_each_naming(golden: Path, tmp_path: Path, naming: str, prefix: str) -> None:
    weights = constants(golden)
    path = written(tmp_path / FILE, renamed(weights, naming, prefix))
    network = load_published(path, PUBLISHED)
    state = network.state_dict()
    assert set(state) == {key for key in weights if not key.startswith("mid_mask_embed_proj")}
    assert all(value.min() == value.max() == weights[key].flatten()[0] for key, value in state.items())
    assert not network.training


def test_training_keeps_the_heads(golden: Path, tmp_path: Path) -> None:
    path = written(tmp_path / "b.pth", renamed(constants(golden), "both", "module."))
    network = load_published(path, replace(PUBLISHED, deep_supervision=True))
    assert "mid_mask_embed_proj.2.2.bias" in network.state_dict()


@pytest.fixture
def small() -> MedalS:
    torch.manual_seed(0)
    return MedalS(small_config((64, 64, 64), widths=(4, 8), query_dim=16))


def test_all_that_does_not_fit_is_named(small: MedalS, tmp_path: Path) -> None:
    weights = small.state_dict()
    del weights["mask_embed_proj.0.bias"]
    weights["surprise.weight"] = torch.zeros(1)
    weights["mask_embed_proj.0.weight"] = torch.zeros(2, 2)
    with pytest.raises(ModelError) as caught:
        load_published(written(tmp_path / "x.pth", weights), small.config)
    for part in (
        "1 missing (mask_embed_proj.0.bias)",
        "1 unexpected (surprise.weight)",
        "mask_embed_proj.0.weight [2, 2]",
    ):
        assert part in caught.value.cause
    assert caught.value.remedy


def test_a_network_of_other_widths_is_refused(small: MedalS, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not fit"):
        load_published(written(tmp_path / "x.pth", small.state_dict()), PUBLISHED)


def test_twins_that_differ_are_refused(small: MedalS, tmp_path: Path) -> None:
    weights = renamed(small.state_dict(), "both", "module.")
    key = next(key for key in weights if ".all_modules." in key)
    weights[key] = weights[key] + 1
    with pytest.raises(ModelError, match="two different values"):
        load_published(written(tmp_path / "x.pth", weights), small.config)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("exploded"),))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", ["torch", "plain pickle", "in the weights"])
def test_pickle_bombs_do_not_go_off(small: MedalS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bomb.pth"
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"model_state_dict": Bomb()}))
    elif form == "torch":
        torch.save({"step": Bomb(), "model_state_dict": small.state_dict()}, path)
    else:
        written(path, {"weight": Bomb()})
    with pytest.raises(ModelError, match="damaged or holds more than tensors"):
        load_published(path, small.config)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"damaged\.pth"):
        load_published(path, PUBLISHED)


@pytest.mark.parametrize("content", [[1, 2], {}, {"model_state_dict": {}}, {"model_state_dict": {"step": 3}}])
def test_files_without_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "empty.pth")
    with pytest.raises(ModelError):
        load_published(tmp_path / "empty.pth", PUBLISHED)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load_published(tmp_path / "nowhere.pth", PUBLISHED)


def test_half_precision_checkpoints_become_float32(small: MedalS, tmp_path: Path) -> None:
    halves = {key: value.half() for key, value in small.state_dict().items()}
    network = load_published(written(tmp_path / "half.pth", halves), small.config)
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("core", ["core", "_core"])
def test_a_step_that_any_numpy_wrote_is_read(small: MedalS, tmp_path: Path, core: str) -> None:
    plain = written(tmp_path / "plain.pth", small.state_dict())
    path = tmp_path / "other.pth"
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(path, "w") as write:
        for entry in read.infolist():
            content = read.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = re.sub(rb"numpy\._?core\.", f"numpy.{core}.".encode(), content)
            write.writestr(entry.filename, content)
    assert load_published(path, small.config).config == small.config
