"""Prompt patches and the halves in which they are shown."""

from __future__ import annotations

import numpy as np
import torch
from dense_prompts import dense_prompts
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.inference.prompts import (
    LabelmapVolume,
    MaskVolume,
    seeded_permutation,
    shown_first,
)
from MedalSLib.inference.resampling_policy import StageSpec, plan
from MedalSLib.inference.tensor_ops import tensor_box

SPEC = StageSpec(2, (1.0, 1.0, 1.0), (16, 16, 16))
PLAN = plan((30, 24, 20), (1.0, 1.3, 1.1), ["CT_Liver", "CT_Spleen"], SPEC)
CPU = torch.device("cpu")


@given(st.tuples(*[st.integers(1, 40)] * 3), st.sampled_from([4, 8]))
def test_half_of_the_blocks_is_shown_first(shape: tuple[int, int, int], block: int) -> None:
    counts = [-(-size // block) for size in shape]
    order = np.arange(int(np.prod(counts)))[::-1]
    shown = shown_first(shape, block, order)
    assert tuple(shown.shape) == shape
    corners = shown[::block, ::block, ::block]
    assert int(corners.sum()) == max(1, len(order) // 2)
    repeated = corners
    for axis in range(3):
        repeated = repeated.repeat_interleave(block, dim=axis)
    assert torch.equal(repeated[: shape[0], : shape[1], : shape[2]], shown)


def test_blocks_depend_on_seed_tile_and_iteration_alone() -> None:
    tile, other = PLAN.tiles[0], PLAN.tiles[-1]
    order = seeded_permutation(5)
    first = order(64, tile, 0)
    order(64, other, 0)
    assert np.array_equal(order(64, tile, 0), first)
    assert np.array_equal(seeded_permutation(5)(64, tile, 0), first)
    for changed in (seeded_permutation(6)(64, tile, 0), order(64, other, 0), order(64, tile, 1)):
        assert not np.array_equal(changed, first)
        assert sorted(changed) == list(range(64))


def test_masks_that_do_not_overlap_are_the_prompts_of_a_labelmap() -> None:
    labels = np.zeros((30, 24, 20), dtype=np.uint8)
    labels[2:12, 3:9, 4:15] = 1
    labels[20:29, 10:22, 2:8] = 3
    by_label = LabelmapVolume(labels, 3, PLAN)
    by_mask = MaskVolume({0: labels == 1, 2: labels == 3}, PLAN)
    prompted = 0
    for tile in PLAN.tiles:
        first, second = by_label.patch(tile, CPU), by_mask.patch(tile, CPU)
        assert (first is None) == (second is None)
        if first is not None and second is not None:
            prompted += 1
            assert torch.equal(first.union, second.union)
            assert torch.equal(dense_prompts(first, 3), dense_prompts(second, 3))
    assert prompted > 0


def test_a_patch_without_prompt_voxels_has_no_prompts() -> None:
    empty = np.zeros((30, 24, 20), dtype=bool)
    assert all(MaskVolume({0: empty}, PLAN).patch(tile, CPU) is None for tile in PLAN.tiles)
    assert all(LabelmapVolume(empty.astype(np.int16), 2, PLAN).patch(tile, CPU) is None for tile in PLAN.tiles)


def test_overlapping_masks_stay_whole() -> None:
    inner, outer = np.zeros((2, 30, 24, 20), dtype=bool)
    outer[5:20, 5:20, 5:15] = True
    inner[8:14, 8:14, 8:12] = True
    prompts = MaskVolume({0: outer, 1: inner}, PLAN).patch(PLAN.tiles[0], CPU)
    assert prompts is not None
    classes = dense_prompts(prompts, 2)
    assert classes[1].any()
    assert not (classes[1] & ~classes[0]).any()
    assert torch.equal(prompts.union, classes[0])


def test_bounding_box_of_a_single_voxel_and_of_nothing() -> None:
    mask = torch.zeros(4, 5, 6, dtype=torch.bool)
    assert tensor_box(mask) is None
    mask[1, 2, 3] = True
    assert tensor_box(mask) == ((1, 2), (2, 3), (3, 4))
