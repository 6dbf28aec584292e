"""A segmentation that was read: named, possibly overlapping masks on a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from MedalSLib.vocabulary.terminology import Terminology
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.resample import resample_mask
from MedalSLib.volume.segment_info import Color


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment.

    Attributes:
        name: Its name, unique in its segmentation.
        labels: Labelmap (K, J, I) it is stored in, shared with the other segments of its layer.
        value: Label value that is this segment.
        color: Its colour, None if the file says none.
        terminology: Its codes, None if the file says none.
    """

    name: str
    labels: np.ndarray
    value: int
    color: Color | None = None
    terminology: Terminology | None = None

    @property
    def mask(self) -> np.ndarray:
        """Boolean (K, J, I)."""
        return self.labels == self.value

    def mask_on(self, own: Grid, wanted: Grid) -> np.ndarray:
        """Return the mask on another grid, by the nearest voxel.

        Args:
            own: Grid of the labelmap.
            wanted: The other grid.

        Raises:
            InputError: The grids do not overlap, or the segment lies off the wanted one; it is named.
        """
        return resample_mask(self.mask, own, wanted, self.name)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments on their grid.

    Attributes:
        segments: In the order of the file; they may overlap.
        grid: Grid of all of them, which may be a part of the image's grid.
        warnings: Sentences the user should read.
    """

    segments: tuple[Segment, ...]
    grid: Grid
    warnings: tuple[str, ...] = ()

    @property
    def masks(self) -> dict[str, np.ndarray]:
        """Boolean masks (K, J, I) on the segmentation's own grid, by name."""
        return {segment.name: segment.mask for segment in self.segments}

    def masks_on(self, grid: Grid) -> dict[str, np.ndarray]:
        """Return the masks on another grid, by the nearest voxel.

        Raises:
            InputError: The grids do not overlap, or a segment lies off the wanted one; it is named.
        """
        return {segment.name: segment.mask_on(self.grid, grid) for segment in self.segments}


def unique_names(names: Mapping[int, str]) -> dict[int, str]:
    """Return the names with a number behind repeated ones, and "Segment" for empty ones."""
    seen: set[str] = set()
    result = {}
    for key, name in names.items():
        base = " ".join(name.split()) or "Segment"
        unique, number = base, 1
        while unique in seen:
            number += 1
            unique = f"{base} ({number})"
        seen.add(unique)
        result[key] = unique
    return result
