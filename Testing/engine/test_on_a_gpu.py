"""The engine's way on a GPU, walked on a pretended one: the same masks, and nothing large travels to and fro."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pretend_gpu import OnGpu, Traffic, pretend_gpu, reset_traffic
from tiny_models import blocky_image, write_tiny_model

from MedalSLib.engine import computing, open_engine
from MedalSLib.engine.local import LocalEngine
from MedalSLib.inference.compute import Compute
from MedalSLib.run import RunOptions, RunResult

pytestmark = pytest.mark.slow

PATCH = (16, 16, 32)
KNOWN = ("CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Liver tumors")
NAMES = ["liver", "spleen", "left kidney"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that are sure of what they say, so that structures are found."""
    folder = tmp_path_factory.mktemp("models") / "sure"
    write_tiny_model(folder, classes=KNOWN, patch=PATCH, contrast=300.0, widths=(4, 4, 8, 8))
    return folder


@pytest.fixture
def wide_image() -> np.ndarray:
    """Intensities (K, J, I) of several patches in each stage."""
    return blocky_image(1, (4, 7, 7), (5, 4, 4))


@pytest.fixture
def gpu() -> Iterator[None]:
    with pretend_gpu():
        yield


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the GPU compute as the CPU does: in float32, with the network as it is."""
    monkeypatch.setattr(computing, "choose_compute", Compute)


def drawn(image: np.ndarray) -> np.ndarray:
    mask = np.zeros(image.shape, dtype=bool)
    mask[6:13, 7:18, 8:21] = True
    return mask


def asked(model: Path, device: str, image: np.ndarray, affine: np.ndarray, **wanted: Any) -> RunResult:
    with open_engine(str(model), device=device) as engine, engine.open_session(image, affine, "CT") as session:
        return session.segment(NAMES, **wanted)


def ways(image: np.ndarray) -> Mapping[str, dict[str, Any]]:
    mask = drawn(image)
    return {
        "both stages": {},
        "first stage": {"options": RunOptions(stages="first")},
        "with a mask": {"masks": {"liver": mask}},
        "refined": {"masks": {"liver": mask}, "options": RunOptions(mode="refine")},
        "locked, in a box": {
            "masks": {"liver": mask},
            "locked": {"liver": mask},
            "roi": ((3, 25), (3, 25), (2, 19)),
        },
        "as published": {"options": RunOptions(policy="published")},
    }


@pytest.mark.parametrize(
    "way",
    ["first stage", "refined", "both stages", "with a mask", "locked, in a box", "as published"],
)
def test_the_masks_are_those_of_the_cpu_to_the_bit(
    tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray, exact: None, way: str
) -> None:
    wanted = ways(wide_image)[way]
    expected = asked(tiny_model, "cpu", wide_image, affine, **wanted)
    with pretend_gpu():
        found = asked(tiny_model, "auto", wide_image, affine, **wanted)
    assert "Pretended GPU" in found.report.device
    assert any(mask.any() for mask in expected.masks.values())
    for name in expected.names:
        np.testing.assert_array_equal(found.masks[name], expected.masks[name], err_msg=name)
    np.testing.assert_array_equal(found.labelmap, expected.labelmap)
    means = [result.report.structures["Liver"].mean_probability for result in (found, expected)]
    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_half_precision_says_nearly_the_same(tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray) -> None:
    expected = asked(tiny_model, "cpu", wide_image, affine)
    with pretend_gpu():
        found = asked(tiny_model, "cuda:0", wide_image, affine)
    for name in ("Liver", "Left kidney"):
        here, there = (np.asarray(result.masks[name]) for result in (expected, found))
        assert here.sum() > 200
        assert (here & there).sum() / (here | there).sum() > 0.8, name


def test_instances_are_refined_and_told_apart_on_a_gpu(
    tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray, exact: None
) -> None:
    found = []
    for device in ("cpu", "cuda:0"):
        with (
            pretend_gpu(),
            open_engine(str(tiny_model), device=device) as engine,
            engine.open_session(wide_image, affine, "CT") as session,
        ):
            found.append(session.segment(["liver tumors"], options=RunOptions(instances=("*",))).instances)
    assert found[0].keys() == found[1].keys()
    assert found[0]["Liver tumors"].array().max() > 1
    for name, labels in found[0].items():
        np.testing.assert_array_equal(found[1][name].array(), labels.array())


def traffic_of(engine: LocalEngine, image: np.ndarray, affine: np.ndarray, *runs: dict[str, Any]) -> list[Traffic]:
    counted = []
    with engine.open_session(image, affine, "CT") as session:
        for wanted in runs:
            reset_traffic()
            session.segment(**wanted)
            counted.append(OnGpu.traffic)
    return counted


def test_only_the_image_and_the_weights_of_patches_are_sent_as_figures(
    gpu: None, tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray
) -> None:
    """Prompts go as booleans; all else that a patch needs is made where it is needed."""
    with open_engine(str(tiny_model), device="cuda:0") as engine:
        engine.open_session(wide_image, affine, "CT").segment(["liver"])  # loads the model
        (counted,) = traffic_of(engine, wide_image, affine, {"prompts": NAMES, "masks": {"liver": drawn(wide_image)}})
    assert len([size for size in counted.sent if size >= 4 * prod(PATCH)]) <= 4  # image and weights of two stages


def test_masks_are_fetched_as_bits(gpu: None, tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray) -> None:
    """Whole figures come twice, as labels and as probabilities; as booleans, three masks of each stage would too."""
    with open_engine(str(tiny_model), device="cuda:0") as engine:
        (counted,) = traffic_of(engine, wide_image, affine, {"prompts": NAMES})
    assert len([size for size in counted.fetched if size > wide_image.size / 4]) == 2


def test_another_name_sends_no_patch_and_runs_no_convolution(
    gpu: None, tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray
) -> None:
    options = RunOptions(stages="first")
    with open_engine(str(tiny_model), device="cuda:0") as engine:
        first, further = traffic_of(
            engine, wide_image, affine, *({"prompts": [name], "options": options} for name in ("liver", "spleen"))
        )
    assert first.calls["torch.nn.functional.conv3d"] > 0
    assert further.calls["torch.nn.functional.conv3d"] == 0
    assert sum(further.sent) <= 5 * wide_image.size


def test_a_gpus_answers_stay_on_it_and_nothing_goes_to_files(
    gpu: None, tiny_model: Path, wide_image: np.ndarray, affine: np.ndarray
) -> None:
    with (
        open_engine(str(tiny_model), device="cuda:0") as engine,
        engine.open_session(wide_image, affine, "CT") as session,
    ):
        session.segment(NAMES, masks={"liver": drawn(wide_image)})
        store = session._caches.store
        assert store.used("device") > 0
        assert store.used("host") == store.used("disk") == 0


def test_the_pretended_gpu_refuses_what_cuda_refuses(gpu: None) -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda:0")
    with pytest.raises(RuntimeError, match="two devices"):
        here + there
    with pytest.raises(RuntimeError, match="two devices"):
        there[1:] = here[1:]
    with pytest.raises(TypeError, match="cpu"):
        there.numpy()
    with pytest.raises(TypeError, match="cpu"):
        np.asarray(there)
    assert (there + 1).device == there[1:].device == torch.device("cuda:0")
    assert (there.cpu() + here).device.type == "cpu"
    there.cpu().zero_()
    assert there.sum().item() == 3
