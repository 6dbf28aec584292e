"""Arrays of a volume that are zero outside a box: of a large image an answer fills a small part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.boxes import Box, intersection, shifted, slices, whole


@dataclass(frozen=True, eq=False)
class Boxed:
    """The part of an array of a volume that may hold anything but zeros.

    Attributes:
        part: (a, b, c) of the box; may be a view of another array.
        bounds: The box, None if there is none.
        shape: (A, B, C) of the volume.
    """

    part: np.ndarray
    bounds: Box | None
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, array: np.ndarray) -> Boxed:
        """Return a whole array (A, B, C)."""
        first, second, third = array.shape
        return cls(array, whole(array.shape), (first, second, third))

    def moved(self, corner: Sequence[int], shape: tuple[int, int, int]) -> Boxed:
        """Return the same in a larger volume, in which this one begins at `corner`."""
        return Boxed(self.part, None if self.bounds is None else shifted(self.bounds, corner), shape)

    def cut(self, box: Box | None) -> np.ndarray:
        """Return a box of the volume, newly made; (0, 0, 0) for None."""
        wanted = box or ((0, 0), (0, 0), (0, 0))
        result = np.zeros([stop - start for start, stop in wanted], dtype=self.part.dtype)
        shared = None if self.bounds is None else intersection(wanted, self.bounds)
        if shared is not None and self.bounds is not None:
            there = self.part[slices(shifted(shared, [-start for start, _ in self.bounds]))]
            result[slices(shifted(shared, [-start for start, _ in wanted]))] = there
        return result

    def within(self, box: Box | None) -> np.ndarray:
        """Return a box of the volume, which may be a view of what is kept."""
        return self.part if box == self.bounds else self.cut(box)

    def dense(self) -> np.ndarray:
        """Return the whole volume (A, B, C), newly made."""
        return self.cut(whole(self.shape))
