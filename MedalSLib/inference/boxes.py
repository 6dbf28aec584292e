"""Boxes of voxels: half-open bounds along the three axes of the array at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open bounds along the three axes of the array at hand."""
Slices = tuple[slice, slice, slice]


def slices(box: Box) -> Slices:
    """Return a box as slices."""
    first, second, third = (slice(start, stop) for start, stop in box)
    return first, second, third


def bounds(part: Slices) -> Box:
    """Return slices, all of whose bounds are given, as a box."""
    first, second, third = ((span.start, span.stop) for span in part)
    return first, second, third


def intersection(box: Box, other: Box) -> Box | None:
    """Return where two boxes meet, None if they do not."""
    spans = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, other, strict=True)]
    if any(start >= stop for start, stop in spans):
        return None
    return spans[0], spans[1], spans[2]


def shifted(box: Box, offset: Sequence[int]) -> Box:
    """Return a box moved by an offset."""
    first, second, third = ((start + by, stop + by) for (start, stop), by in zip(box, offset, strict=True))
    return first, second, third


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a whole volume."""
    first, second, third = ((0, int(size)) for size in shape)
    return first, second, third


def joined(boxes: Iterable[Box | None]) -> Box | None:
    """Return the box around several boxes; None stands for one without voxels, and is returned if all are that."""
    some = [box for box in boxes if box is not None]
    if not some:
        return None
    first, second, third = ((min(box[axis][0] for box in some), max(box[axis][1] for box in some)) for axis in range(3))
    return first, second, third
