"""Masks and labels kept for the box they lie in: nothing of them may get lost or move."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedalSLib.inference.results import VolumeResult, merge_results
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

SHAPE = (9, 11, 21)


def scattered(seed: int) -> np.ndarray:
    """Return a mask in some box of the volume, often an empty one."""
    random = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, dtype=bool)
    (a, b), (c, d), (e, f) = (sorted(random.integers(0, size + 1, 2)) for size in SHAPE)
    mask[a:b, c:d, e:f] = random.random((b - a, d - c, f - e)) > 0.6
    return mask


class TestBoxMask:
    @given(st.integers(0, 10_000), st.integers(0, 10_000))
    @settings(max_examples=100, deadline=None)
    def test_any_part_comes_back_as_it_was(self, seed: int, other: int) -> None:
        mask, random = scattered(seed), np.random.default_rng(other)
        packed = BoxMask.of(mask)
        (a, b), (c, d), (e, f) = (sorted(random.integers(0, size + 1, 2).tolist()) for size in SHAPE)
        assert np.array_equal(packed.array(), mask)
        assert np.array_equal(packed.array(((a, b), (c, d), (e, f))), mask[a:b, c:d, e:f])
        assert packed.is_empty == (not mask.any())

    def test_only_the_box_of_the_mask_is_kept(self) -> None:
        mask = np.zeros((300, 300, 300), dtype=bool)
        mask[7, 20:30, 5:8] = True
        packed = BoxMask.of(mask)
        assert packed.box == ((7, 8), (20, 30), (5, 8))
        assert packed.bits.nbytes <= 10
        assert packed.crop().shape == (1, 10, 3)

    def test_a_part_is_put_where_it_belongs(self) -> None:
        part = np.zeros((3, 4, 5), dtype=bool)
        part[1, 2, 3] = True
        packed = BoxMask.from_crop(part, (2, 3, 10), SHAPE)
        assert packed.box == ((3, 4), (5, 6), (13, 14))
        assert np.argwhere(packed.array()).tolist() == [[3, 5, 13]]


class TestBoxArray:
    @given(st.integers(0, 10_000), st.integers(0, 10_000))
    @settings(max_examples=100, deadline=None)
    def test_any_box_comes_back_as_it_was(self, seed: int, other: int) -> None:
        random = np.random.default_rng(other)
        labels = scattered(seed) * random.integers(1, 9, SHAPE, dtype=np.uint8)
        box = BoxMask.of(labels > 0).box
        inside = (slice(0, 0),) * 3 if box is None else tuple(slice(*span) for span in box)
        boxed = BoxArray(labels[inside], box, SHAPE)
        (a, b), (c, d), (e, f) = (sorted(random.integers(0, size + 1, 2).tolist()) for size in SHAPE)
        assert np.array_equal(boxed.array(), labels)
        assert np.array_equal(boxed.array(((a, b), (c, d), (e, f))), labels[a:b, c:d, e:f])

    def test_it_moves_into_a_larger_volume(self) -> None:
        labels = np.arange(1, 9, dtype=np.uint8).reshape(2, 2, 2)
        moved = BoxArray.of(labels).placed((1, 0, 2), (4, 4, 4)).array()
        assert np.array_equal(moved[1:3, 0:2, 2:4], labels)
        assert np.count_nonzero(moved) == 8


class Named:
    kind = "semantic"

    def __init__(self, key: str) -> None:
        self.key = key


def answer(key: str, mask: np.ndarray, probability: float) -> VolumeResult:
    box = BoxMask.of(mask).box
    inside = (slice(0, 0),) * 3 if box is None else tuple(slice(*span) for span in box)
    labels = BoxArray(mask[inside].astype(np.uint8), box, SHAPE)
    return VolumeResult(
        {key: BoxMask.of(mask)},
        labels,
        BoxArray((mask * probability).astype(np.float16)[inside], box, SHAPE),
        {},
    )


@pytest.mark.parametrize("seed", range(6))
def test_joined_answers_give_each_voxel_to_the_more_probable_structure(seed: int) -> None:
    first, second = scattered(seed), scattered(seed + 100)
    merged = merge_results(
        [answer("CT_Liver", first, 0.6), answer("CT_Spleen", second, 0.9)], [Named("CT_Spleen"), Named("CT_Liver")]
    )
    expected = np.where(second, 1, np.where(first, 2, 0))
    assert np.array_equal(merged.labelmap, expected)
    assert np.array_equal(merged.confidence.array() > 0, expected > 0)
    assert list(merged.masks) == ["CT_Spleen", "CT_Liver"]
    assert np.array_equal(merged.masks["CT_Liver"], first)
