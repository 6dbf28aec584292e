"""Resampled intensities and labels against the published samples."""

from __future__ import annotations

import json
from pathlib import Path

import golden_inputs
import numpy as np
import pytest
import torch

from MedalSLib.inference.resampling import (
    labelmap_to_plan,
    preprocess,
)
from MedalSLib.inference.resampling_policy import plan

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = json.loads((GOLDEN / "preprocess.json").read_text())


def cut(volume: torch.Tensor, tile: tuple[int, ...]) -> np.ndarray:
    return volume[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]].numpy()


@pytest.mark.parametrize("index", range(len(CASES)))
def test_patches_hold_the_published_intensities_and_labels(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    image = golden_inputs.blocky_image(case["seed"], case["shape_dhw"]).transpose(1, 2, 0)
    made = plan(image.shape, case["spacing_hwd"], case["classes"], case["stage"])
    volume = preprocess(image, made)
    first, last = cut(volume, made.tiles[0]), cut(volume, made.tiles[-1])
    where = np.random.default_rng(0).integers(0, first.size, 64)
    np.testing.assert_allclose(first.ravel()[where], expect["first_samples"], atol=1e-3)
    assert abs(first.mean(dtype=np.float64) - expect["first_mean"]) < 1e-2
    where = np.random.default_rng(1).integers(0, last.size, 64)
    np.testing.assert_allclose(last.ravel()[where], expect["last_samples"], atol=1e-3)
    if case["with_mask"]:
        labels = labelmap_to_plan((image // 64).astype(np.int16), made)
        patch = cut(labels, made.tiles[0])
        assert np.bincount(patch.ravel().astype(int)).tolist() == expect["mask_hist"]
        where = np.random.default_rng(0).integers(0, patch.size, 64)
        assert patch.ravel()[where].tolist() == expect["mask_samples"]
