"""The box around what is not zero."""

from __future__ import annotations

import numpy as np

from MedalSLib.volume.geometry import Box


def bounding_box(array: np.ndarray) -> Box | None:
    """Return the half-open bounds of the voxels that are not zero along each axis, None if there are none.

    Each axis is only searched within what the axes before it left, which saves most of the work on a small mask in a
    large volume.

    Args:
        array: Three axes, boolean or numbers.
    """
    filled = array if array.dtype == bool else array != 0
    bounds: list[tuple[int, int]] = []
    inside: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        indexes = np.flatnonzero(filled[tuple(inside)].any(axis=others))
        if not indexes.size:
            return None
        bounds.append((int(indexes[0]), int(indexes[-1]) + 1))
        inside.append(slice(*bounds[-1]))
    return bounds[0], bounds[1], bounds[2]
