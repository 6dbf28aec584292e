"""Boxes of voxels: half-open bounds along the three axes of an array, whatever these axes are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil

import numpy as np

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open bounds along the three axes of the array at hand, in the order of its axes."""
Shape = tuple[int, int, int]
Slices = tuple[slice, slice, slice]

EMPTY: Box = ((0, 0), (0, 0), (0, 0))


def bounding_box(array: np.ndarray) -> Box | None:
    """Return the box of the voxels that are not zero, None if there are none.

    Each axis is only searched within what the axes before it left, which saves most of the work on a small mask in a
    large volume.

    Args:
        array: Three axes, boolean or numbers.
    """
    filled = array if array.dtype == bool else array != 0
    box: list[tuple[int, int]] = []
    inside: list[slice] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        indexes = np.flatnonzero(filled[tuple(inside)].any(axis=others))
        if not indexes.size:
            return None
        box.append((int(indexes[0]), int(indexes[-1]) + 1))
        inside.append(slice(*box[-1]))
    return box[0], box[1], box[2]


def slices(box: Box) -> Slices:
    """Return a box as slices."""
    first, second, third = (slice(start, stop) for start, stop in box)
    return first, second, third


def box_of(part: Slices) -> Box:
    """Return slices, all of whose bounds are given, as a box."""
    first, second, third = ((span.start, span.stop) for span in part)
    return first, second, third


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a whole volume."""
    first, second, third = ((0, int(size)) for size in shape)
    return first, second, third


def shape_of(box: Box) -> Shape:
    """Return the number of voxels of a box along each axis."""
    first, second, third = (stop - start for start, stop in box)
    return first, second, third


def corner_of(box: Box) -> Shape:
    """Return the index of the first voxel of a box."""
    first, second, third = (start for start, _ in box)
    return first, second, third


def shifted(box: Box, offset: Sequence[int]) -> Box:
    """Return a box moved by an offset."""
    first, second, third = ((start + by, stop + by) for (start, stop), by in zip(box, offset, strict=True))
    return first, second, third


def relative(box: Box, origin: Box) -> Box:
    """Return a box as seen from the first voxel of another one."""
    return shifted(box, [-start for start, _ in origin])


def intersection(box: Box, other: Box) -> Box | None:
    """Return where two boxes meet, None if they do not."""
    spans = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, other, strict=True)]
    if any(start >= stop for start, stop in spans):
        return None
    return spans[0], spans[1], spans[2]


def turned(box: Box, shape: Sequence[int], order: Sequence[int], flips: Sequence[int] = ()) -> Box:
    """Return a box on other axes.

    Args:
        box: A box of the volume before.
        shape: Of the volume on the new axes.
        order: Axis that becomes the first, second, third one, as for `numpy.transpose`.
        flips: Of the new axes, those that run backwards afterwards.
    """
    spans = [box[axis] for axis in order]
    for axis in flips:
        spans[axis] = shape[axis] - spans[axis][1], shape[axis] - spans[axis][0]
    return spans[0], spans[1], spans[2]


def union(boxes: Iterable[Box | None]) -> Box | None:
    """Return the box around several boxes; None stands for one without voxels, and is returned if all are that."""
    some = [box for box in boxes if box is not None]
    if not some:
        return None
    first, second, third = ((min(box[axis][0] for box in some), max(box[axis][1] for box in some)) for axis in range(3))
    return first, second, third


def grown(box: Box, margin_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> Box:
    """Return a box grown by a margin, within a volume.

    Args:
        box: The box.
        margin_mm: The margin on each side.
        spacing: Spacing of the volume in mm, in the order of its axes.
        shape: (A, B, C) of the volume.
    """
    first, second, third = (
        (max(0, low - ceil(margin_mm / step)), min(size, high + ceil(margin_mm / step)))
        for (low, high), step, size in zip(box, spacing, shape, strict=True)
    )
    return first, second, third
