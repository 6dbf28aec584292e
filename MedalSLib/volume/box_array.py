"""Labels and probabilities of a volume that are zero outside a box: of a large image a result fills a small part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.volume.box import (
    EMPTY,
    Box,
    Shape,
    bounding_box,
    intersection,
    relative,
    shape_of,
    shifted,
    slices,
    turned,
    union,
    whole,
)


@dataclass(frozen=True, eq=False)
class BoxArray:
    """The part of an array of a volume that may hold anything but zeros (masks are `BoxMask`s).

    Attributes:
        crop: (a, b, c) of the box; may be a view of another array, and is not to be changed.
        box: The box, None if there is none.
        shape: (A, B, C) of the volume.
    """

    crop: np.ndarray
    box: Box | None
    shape: Shape

    @classmethod
    def of(cls, array: np.ndarray) -> BoxArray:
        """Return the part of an array (A, B, C) that is not zero, as a view."""
        first, second, third = array.shape
        box = bounding_box(array)
        return cls(array[slices(box or EMPTY)], box, (first, second, third))

    def placed(self, corner: Sequence[int], shape: Shape) -> BoxArray:
        """Return the same in a larger volume, in which this one begins at `corner`."""
        return BoxArray(self.crop, None if self.box is None else shifted(self.box, corner), shape)

    def array(self, box: Box | None = None) -> np.ndarray:
        """Return the whole volume (A, B, C), or a box of it, newly made."""
        wanted = box or whole(self.shape)
        result = np.zeros(shape_of(wanted), dtype=self.crop.dtype)
        shared = None if self.box is None else intersection(wanted, self.box)
        if shared is not None and self.box is not None:
            result[slices(relative(shared, wanted))] = self.crop[slices(relative(shared, self.box))]
        return result

    def view(self, box: Box) -> np.ndarray:
        """Return a box of the volume, which may be a view of what is kept."""
        return self.crop if box == self.box else self.array(box)

    def turned(self, order: Sequence[int], flips: Sequence[int] = ()) -> BoxArray:
        """Return the same on other axes, as a view (see `box.turned`)."""
        first, second, third = order
        shape = self.shape[first], self.shape[second], self.shape[third]
        if self.box is None:
            return BoxArray(self.crop, None, shape)
        crop = self.crop.transpose(tuple(order))
        return BoxArray(np.flip(crop, tuple(flips)) if flips else crop, turned(self.box, shape, order, flips), shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoxArray):
            return NotImplemented
        box = union([self.box, other.box]) or EMPTY
        same = self.shape == other.shape and self.crop.dtype == other.crop.dtype
        return same and np.array_equal(self.array(box), other.array(box))

    __hash__ = None  # type: ignore[assignment]  # an array has none
