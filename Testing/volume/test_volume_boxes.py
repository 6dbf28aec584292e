"""The box around what is not zero."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.volume import bounding_box


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 7)), max_size=6))
def test_the_box_is_the_smallest_that_holds_every_voxel(voxels: list[tuple[int, int, int]]) -> None:
    array = np.zeros((6, 7, 8), np.int16)
    for voxel in voxels:
        array[voxel] = -3
    expected = tuple((min(axis), max(axis) + 1) for axis in zip(*voxels, strict=True)) if voxels else None
    assert bounding_box(array) == bounding_box(array != 0) == expected
