"""The part of an image that a correction may change, brought to a grid of bounded size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from MedalSLib.volume.box import Box

MARGIN_MM = 4.0
"""What is looked at beyond the reach of a correction, so that borders there are seen from both sides."""
LARGEST_VOXELS = 250_000
"""Voxels of the working grid: keeps a correction well under a second on an old processor."""
_REACH_MM = (24.0, 40.0)
"""Least and greatest reach; the least serves small glands, the greatest the longest run of a vessel."""
_REACH_IN_KNOWN_MM = 30.0
"""Greatest reach in a structure that a network drew: its errors are local."""


@dataclass(frozen=True)
class Extent:
    """Size and pose of a set of voxels.

    Attributes:
        size_mm: Twice the geometric mean of the standard deviations along its two longest directions: about the radius
            of a painted section.
        normal: Unit vector (D, H, W) along its shortest direction: that of the slice it was painted in.
    """

    size_mm: float
    normal: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, spacing: np.ndarray) -> Extent:
        """Measure a mask (D, H, W) that is not empty; spacing in mm."""
        points = np.argwhere(mask) * spacing
        points -= points.mean(axis=0)
        # The voxels' own extent counts too: a section one voxel thick is not flat.
        spread = points.T @ points / len(points) + np.diag(spacing**2 / 12)
        values, vectors = np.linalg.eigh(spread)
        return cls(2 * float(values[1] * values[2]) ** 0.25, vectors[:, 0])


@dataclass(frozen=True, eq=False)
class Seeds:
    """What is known in a box, boolean (D, H, W).

    Attributes:
        paint: The new paint.
        mask: The structure as it is with the paint.
        known_in: Voxels outside the paint that certainly belong to the structure.
        known_out: Voxels outside the paint that certainly do not.
    """

    paint: np.ndarray
    mask: np.ndarray
    known_in: np.ndarray
    known_out: np.ndarray

    def pooled(self, factors: np.ndarray, adds: bool) -> Seeds:
        """Return the same on a coarser grid; a voxel that was painted in part counts as painted."""
        if factors.max() == 1:
            return self
        paint = pool(self.paint, factors) > 0
        mask = pool(self.mask, factors) >= 0.5
        known_in = (pool(self.known_in, factors) > 0.5) & ~paint
        known_out = (pool(self.known_out, factors) > 0.5) & ~paint
        return Seeds(paint, mask | paint if adds else mask & ~paint, known_in, known_out)


@dataclass(frozen=True, eq=False)
class WorkingBox:
    """Everything a correction is decided from.

    Attributes:
        box: Where it lies in the volume.
        adds: Whether the paint adds to the structure; else it erases.
        fine: What is known on the volume's own grid.
        seeds: The same on the working grid, like all that follows.
        factors: Voxels of the volume that make one of the working grid (D, H, W).
        spacing: Spacing of the working grid in mm (D, H, W).
        image: Intensities, float32.
        probability: The network's probability, None without a network.
        distance: Distance to the paint in mm.
        nearest: Index of the nearest painted voxel, (3, D, H, W).
        free: Voxels to decide.
        extent: Size and pose of the paint.
        reach_mm: Greatest distance to the paint of a voxel to decide.
        volume_mm3: Volume of the whole structure.
        by_hand: The structure was begun by painting, so that voxels outside it are not known to be outside.
    """

    box: Box
    adds: bool
    fine: Seeds
    seeds: Seeds
    factors: np.ndarray
    spacing: np.ndarray
    image: np.ndarray
    probability: np.ndarray | None
    extent: Extent
    reach_mm: float
    volume_mm3: float
    by_hand: bool
    distance: np.ndarray = field(init=False)
    nearest: np.ndarray = field(init=False)
    free: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        seeds = self.seeds
        distance, nearest = distance_transform_edt(~seeds.paint, sampling=self.spacing, return_indices=True)
        undecided = ~seeds.mask if self.adds else seeds.mask
        free = (distance <= self.reach_mm) & undecided & ~seeds.known_in & ~seeds.known_out
        object.__setattr__(self, "distance", distance.astype(np.float32))
        object.__setattr__(self, "nearest", nearest)
        object.__setattr__(self, "free", free)


def reach_mm(extent: Extent, by_hand: bool) -> float:
    """Return how far from a paint a correction may change anything: further for a larger section."""
    return float(np.clip(2 * extent.size_mm + 15, _REACH_MM[0], _REACH_MM[1] if by_hand else _REACH_IN_KNOWN_MM))


def pooling_factors(shape: Sequence[int], spacing: np.ndarray, most: int) -> np.ndarray:
    """Return how many voxels (D, H, W) to join into one, the finest axes first.

    Args:
        shape: (D, H, W).
        spacing: In mm.
        most: Voxels that may be left.
    """
    factors = np.ones(3, dtype=int)
    while np.prod(-(-np.asarray(shape) // factors)) > most:
        factors[np.argmin(spacing * factors)] += 1
    return factors


def pool(array: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the means (float32) of blocks of voxels; the last block of an axis repeats the border."""
    if factors.max() == 1:
        return array
    padded = np.pad(array, [(0, -size % factor) for size, factor in zip(array.shape, factors, strict=True)], "edge")
    d, h, w = (size // factor for size, factor in zip(padded.shape, factors, strict=True))
    blocks = padded.reshape(d, factors[0], h, factors[1], w, factors[2])
    return blocks.mean(axis=(1, 3, 5), dtype=np.float32)


def unpool(array: np.ndarray, factors: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Interpolate block means back to a finer grid, linearly between the middles of the blocks.

    Args:
        array: (D, H, W) of the blocks.
        factors: Voxels that make a block.
        shape: (D, H, W) of the finer grid.
    """
    for axis, (factor, size) in enumerate(zip(factors, shape, strict=True)):
        if factor > 1:
            place = np.clip((np.arange(size) + 0.5) / factor - 0.5, 0, array.shape[axis] - 1)
            low = place.astype(int)
            high = np.minimum(low + 1, array.shape[axis] - 1)
            share = (place - low).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
            array = np.take(array, low, axis) * (1 - share) + np.take(array, high, axis) * share
    return array
