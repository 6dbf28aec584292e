"""A line drawn in a slice takes what it encloses there, whichever way the slice lies."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.volume.polygon import polygon

SHAPE = (8, 10, 12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_inside_is_taken_in_one_slice(axis: int) -> None:
    corners = np.insert(np.array([(1.2, 2.0), (1.0, 5.0), (4.0, 5.1), (4.0, 2.0)]), axis, 6.2, axis=1)
    expected = np.zeros(SHAPE, dtype=bool)
    at: list[slice | int] = [slice(1, 5), slice(2, 6)]
    at.insert(axis, 6)
    expected[tuple(at)] = True
    assert np.array_equal(polygon(corners, SHAPE).array(), expected)


def test_what_lies_beside_the_volume_is_left_out() -> None:
    corners = np.array([(3.0, -4.0, 2.0), (3.0, 4.0, 2.0), (3.0, 4.0, 40.0), (3.0, -4.0, 40.0)])
    assert polygon(corners, SHAPE).box == ((3, 4), (0, 5), (2, 12))
    assert polygon(corners + np.array((20, 0, 0)), SHAPE).is_empty
