"""The forms of the network made for a GPU and for a CPU give the figures of the network itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend_gpu import RoundedConvolutions
from tiny_models import small_config
from torch import Tensor

from MedalSLib.inference import backends
from MedalSLib.inference.compute import Compute
from MedalSLib.network.gpu_network import GpuNetwork
from MedalSLib.network.medals import MedalS
from MedalSLib.network.openvino_network import OpenVinoNetwork

PATCH = (16, 24, 32)


@pytest.fixture(scope="module")
def network() -> MedalS:
    """Random weights, the normalizations' too, channels that are no multiple of eight."""
    torch.manual_seed(0)
    made = MedalS(small_config(PATCH, widths=(12, 8, 20, 24), query_dim=24, layers=2)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.dim() == 1:
                parameter += 0.2 * torch.randn_like(parameter)
    return made


@pytest.fixture(scope="module")
def scene() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(2, 5, *PATCH, generator=generator) > 0.7
    return {
        "image": torch.rand(2, 1, *PATCH, generator=generator) * 255,
        "union": masks.any(dim=1, keepdim=True).float(),
        "masks": masks,
        "queries": torch.randn(2, 5, 24, generator=generator),
    }


def answered(form: Any, scene: dict[str, Tensor], prompted: bool, first: int = 5) -> Tensor:
    """Logits as inference asks for them: prompts mixed in two chunks."""
    with torch.inference_mode():
        features = form.encode(scene["image"], scene["union"]) if prompted else form.plain(scene["image"])
        embeddings = form.mask_embeddings(features, scene["queries"])
        voxels = features.embedding
        if prompted:
            mixed = form.mix_prompts(embeddings[:, :3], scene["masks"][:, :3])
            voxels = form.fuse(features, form.mix_prompts(embeddings[:, 3:], scene["masks"][:, 3:], mixed))
        logits: Tensor = form.project(voxels, embeddings)
        return logits.float()


@pytest.mark.parametrize("prompted", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda network, folder: GpuNetwork(network, torch.float32),
        lambda network, folder: OpenVinoNetwork(network, PATCH, torch.float32, folder),
    ],
    ids=["gpu form", "openvino"],
)
def test_every_form_gives_the_networks_logits(
    network: MedalS,
    scene: dict[str, Tensor],
    tmp_path: Path,
    make: Callable[[MedalS, Path], Any],
    prompted: bool,
    request: pytest.FixtureRequest,
) -> None:
    if "openvino" in request.node.name:
        pytest.importorskip("openvino")
    expected = answered(network, scene, prompted)
    found = answered(make(network, tmp_path), scene, prompted)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3 * float(expected.std()))


def test_bf16_on_the_gpus_form_is_close(network: MedalS, scene: dict[str, Tensor]) -> None:
    expected = answered(network, scene, True)
    form = GpuNetwork(network)
    with torch.autocast("cpu", dtype=torch.bfloat16), RoundedConvolutions():
        found = answered(form, scene, True)
    assert not torch.equal(found, answered(GpuNetwork(network, torch.float32), scene, True))
    assert float((found - expected).std() / expected.std()) < 0.1


@pytest.mark.slow
def test_compiled_networks_are_kept_on_disk_and_follow_the_weights(network: MedalS, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    image = torch.rand(1, 1, *PATCH)
    with torch.inference_mode():
        OpenVinoNetwork(network, PATCH, torch.float32, tmp_path).plain(image)
        graphs = sorted(path.name for path in tmp_path.glob("*.xml"))
        assert len(graphs) == 1  # what is not needed is not compiled
        OpenVinoNetwork(network, PATCH, torch.float32, tmp_path).plain(image)
        assert sorted(path.name for path in tmp_path.glob("*.xml")) == graphs
        torch.manual_seed(5)
        other = MedalS(network.config).eval()
        OpenVinoNetwork(other, PATCH, torch.float32, tmp_path).plain(image)
    assert len(list(tmp_path.glob("*.xml"))) == 2


def test_a_patch_of_another_size_goes_through_pytorch(network: MedalS, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    form = OpenVinoNetwork(network, PATCH, torch.float32, tmp_path)
    image = torch.rand(1, 1, 32, 32, 32) * 255
    with torch.inference_mode():
        found, expected = (one.encode(image, torch.zeros_like(image)) for one in (form, network))
    torch.testing.assert_close(found.embedding, expected.embedding)


@pytest.mark.parametrize("prompted", [True, False])
def test_where_openvino_fails_the_network_itself_runs(
    network: MedalS,
    scene: dict[str, Tensor],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    prompted: bool,
) -> None:
    def failing(*arguments: object) -> object:
        raise RuntimeError("no such processor")

    monkeypatch.setattr("MedalSLib.network.openvino_network.available", lambda: True)
    monkeypatch.setattr("MedalSLib.network.openvino_network._compiled", failing)
    other = MedalS(network.config).eval()
    form = backends.backend(other, Compute(fast=True), PATCH)
    torch.testing.assert_close(answered(form, scene, prompted), answered(other, scene, prompted))
    assert "no such processor" in caplog.text


def test_only_a_run_that_wants_it_gets_another_form(network: MedalS, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("MedalSLib.network.openvino_network.available", lambda: True)
    monkeypatch.setattr("MedalSLib.network.openvino_network.OpenVinoNetwork", lambda *arguments: object())
    assert backends.backend(network, Compute(), PATCH) is network
    made = backends.backend(network, Compute(fast=True), PATCH)
    assert made is not network
    assert backends.backend(network, Compute(fast=True), PATCH) is made
    assert backends.backend("another kind", Compute(fast=True), PATCH) == "another kind"
