"""Resampled intensities and labels against the published samples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import golden_inputs
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_stages import PUBLISHED_STAGES

from MedalSLib.inference.resampling import (
    labelmap_to_plan,
    labelmap_to_shape,
    mask_to_plan,
    preprocess,
    trilinear,
)
from MedalSLib.inference.resampling_policy import StageSpec, plan
from MedalSLib.volume.mask import BoxMask

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
CASES = json.loads((GOLDEN / "preprocess.json").read_text())
MISC = np.load(GOLDEN / "misc.npz", allow_pickle=False)
LARGE = 40e6
SPEC = StageSpec(1, (1.0, 1.0, 1.0), (16, 16, 16))


def case_numbers() -> list[object]:
    large = [np.prod(case["case"]["shape_dhw"]) > LARGE for case in CASES]
    return [pytest.param(n, marks=pytest.mark.slow) if large[n] else n for n in range(len(CASES))]


def cut(volume: torch.Tensor, tile: tuple[int, ...]) -> np.ndarray:
    return volume[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]].numpy()


@pytest.mark.parametrize("index", case_numbers())
@pytest.mark.slow
def test_patches_hold_the_published_intensities_and_labels(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    image = golden_inputs.blocky_image(case["seed"], case["shape_dhw"]).transpose(1, 2, 0)
    made = plan(image.shape, case["spacing_hwd"], case["classes"], PUBLISHED_STAGES[int(case["stage"])])
    volume = preprocess(image, made)
    first, last = cut(volume, made.tiles[0]), cut(volume, made.tiles[-1])
    where = np.random.default_rng(0).integers(0, first.size, 64)
    np.testing.assert_allclose(first.ravel()[where], expect["first_samples"], atol=1e-3)
    assert abs(first.mean(dtype=np.float64) - expect["first_mean"]) < 1e-2
    assert abs(first.std(dtype=np.float64) - expect["first_std"]) < 1e-2
    where = np.random.default_rng(1).integers(0, last.size, 64)
    np.testing.assert_allclose(last.ravel()[where], expect["last_samples"], atol=1e-3)
    if case["with_mask"]:
        labels = labelmap_to_plan((image // 64).astype(np.int16), made)
        patch = cut(labels, made.tiles[0])
        assert np.bincount(patch.ravel().astype(int)).tolist() == expect["mask_hist"]
        where = np.random.default_rng(0).integers(0, patch.size, 64)
        assert patch.ravel()[where].tolist() == expect["mask_samples"]


@pytest.mark.parametrize("index", range(3))
def test_labels_come_back_as_published(index: int) -> None:
    labels, shape = MISC[f"open/segresample/{index}/seg"], MISC[f"open/segresample/{index}/shape"]
    np.testing.assert_array_equal(
        labelmap_to_shape(labels, tuple(shape.tolist())).numpy(), MISC[f"open/segresample/{index}/expect"]
    )


def test_padding_is_zero_and_at_the_end() -> None:
    made = plan((9, 20, 20), (1.0, 1.0, 1.0), ["CT_Liver", "CT_Spleen"], SPEC)
    assert made.padding[0] > 0
    volume = preprocess(np.full((9, 20, 20), 7.0), made)
    assert tuple(volume.shape) == made.shape
    assert (volume[: made.resampled_shape[0]] == 7).all()
    assert (volume[made.resampled_shape[0] :] == 0).all()
    assert not labelmap_to_plan(np.ones((9, 20, 20), np.uint8), made)[made.resampled_shape[0] :].any()


def test_thick_slices_are_not_mixed() -> None:
    image = np.zeros((20, 20, 5), dtype=np.float32)
    image[:, :, 2] = 100
    made = plan(image.shape, (1.0, 1.0, 5.0), ["CT_Liver", "CT_Spleen"], SPEC)
    assert made.separate_axis == 2
    assert set(np.unique(preprocess(image, made))) == {0.0, 100.0}


def test_one_mask_is_resampled_as_a_labelmap_of_one_label() -> None:
    mask = np.random.default_rng(0).random((21, 30, 17)) > 0.6
    for spacing in ((1.4, 1.4, 1.4), (0.9, 0.9, 4.0)):
        made = plan(mask.shape, spacing, ["CT_Liver", "CT_Spleen"], replace(SPEC, spacing_hwd=(1.1, 1.3, 1.2)))
        expected = labelmap_to_plan(mask.astype(np.uint8), made).bool()
        assert np.array_equal(mask_to_plan(BoxMask.of(mask), made).array(), expected.numpy())
        assert expected.any()
        assert mask_to_plan(BoxMask.of(np.zeros_like(mask)), made).is_empty


@given(
    seed=st.integers(0, 10_000),
    spacing=st.tuples(*[st.sampled_from((0.3, 0.5, 0.75, 1.0, 1.1, 1.7, 2.0, 4.0))] * 3),
    target=st.tuples(*[st.sampled_from((0.5, 1.0, 1.5, 3.0, 6.0))] * 3),
)
@settings(max_examples=150, deadline=None)
def test_a_mask_in_a_corner_is_resampled_as_in_the_whole_volume(
    seed: int, spacing: tuple[float, float, float], target: tuple[float, float, float]
) -> None:
    """Only voxels near a mask are interpolated; which they are must not show, but for what single precision decides."""
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 24, 3).tolist())
    mask = np.zeros(shape, dtype=bool)
    (a, b), (c, d), (e, f) = (sorted(random.integers(0, size + 1, 2).tolist()) for size in shape)
    mask[a:b, c:d, e:f] = random.random((b - a, d - c, f - e)) > 0.4
    for resampling in ("plain", "published"):
        spec = replace(SPEC, spacing_hwd=target, resampling=resampling)
        made = plan(shape, spacing, ["CT_Liver", "CT_Spleen"], spec)
        expected = labelmap_to_plan(mask.astype(np.uint8), made).bool().numpy()
        share = preprocess(mask.astype(np.float32), made).numpy()
        decided = np.abs(share - (0.5 + 2**-12)) > 1e-5  # between 1/2 and the next larger half float
        found = mask_to_plan(BoxMask.of(mask), made).array()
        assert np.array_equal(found[decided], expected[decided])


def test_what_has_the_right_shape_is_left_alone() -> None:
    values = torch.rand(5, 6, 7)
    assert trilinear(values, (5, 6, 7)) is values
    labels = torch.randint(0, 9, (5, 6, 7), dtype=torch.uint8)
    assert torch.equal(labelmap_to_shape(labels, (5, 6, 7)), labels)


def test_label_values_of_any_size_survive() -> None:
    labels = np.zeros((8, 8, 8), dtype=np.int32)
    labels[2:6, 2:6, 2:6] = 40000
    assert set(np.unique(labelmap_to_shape(labels, (13, 11, 16)))) == {0, 40000}


def test_an_array_of_another_shape_than_the_plans_is_refused() -> None:
    made = plan((20, 20, 20), (1, 1, 1), ["CT_Liver"], SPEC)
    with pytest.raises(ValueError, match="plan"):
        preprocess(np.zeros((20, 20, 21)), made)
