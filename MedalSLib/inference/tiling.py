"""Tiles that overlap by half, and the Gaussian weights they are blended with.

MONAI's `sliding_window_inference` was measured against the published figures: its tile boxes are the same for every
axis length from 192 to 1200, its Gaussian is not (at a peak of 10 it differs by up to 1.0 at 64x64x32 and 0.22 at
192x192x192, and ends at 0.01 instead of 6e-8), and it keeps every class of the whole volume.  So scipy's filter serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import ceil

import numpy as np
from scipy.ndimage import gaussian_filter1d

Tile = tuple[int, int, int, int, int, int]
"""Half-open bounds (h0, h1, w0, w1, d0, d1) of a patch on a plan's padded grid."""

_PEAK = 10.0
_SIGMA = 1.0 / 8.0


def axis_starts(size: int, patch: int) -> list[int]:
    """Return where tiles start along one axis of `size >= patch` voxels: every half patch, the last one flush."""
    step = patch // 2
    count = max(ceil(size / step) - 1, 1)
    return [min(index * step, size - patch) for index in range(count)]


def tiles(shape_hwd: Sequence[int], patch_hwd: Sequence[int]) -> tuple[Tile, ...]:
    """Return the tiles that cover a padded grid, D running fastest (the published order).

    Args:
        shape_hwd: Padded grid, nowhere smaller than the patch.
        patch_hwd: Patch of the network.
    """
    starts = [axis_starts(size, patch) for size, patch in zip(shape_hwd, patch_hwd, strict=True)]
    high, wide, deep = patch_hwd
    return tuple((h, h + high, w, w + wide, d, d + deep) for h, w, d in product(*starts))


@lru_cache(maxsize=8)
def gaussian_weights(patch_hwd: tuple[int, int, int]) -> np.ndarray:
    """Return the published blending weights of a patch: float16 (H, W, D), read-only.

    A Gaussian of sigma 1/8 of the patch around voxel `size // 2`, cut at four sigma, scaled to a peak of 10, rounded
    to half precision; what rounds to zero is raised to the smallest value that does not, so that every voxel counts.
    """
    profiles = []
    for size in patch_hwd:
        delta = np.zeros(size)
        delta[size // 2] = 1.0
        profiles.append(gaussian_filter1d(delta, size * _SIGMA, mode="constant"))
    high, wide, deep = profiles
    # Filtering a point axis by axis multiplies in this order, so the figures are those of the 3-D filter to the bit.
    weights = high[:, None, None] * wide[None, :, None] * deep[None, None, :]
    rounded = (weights / weights.max() * _PEAK).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded != 0].min()
    rounded.setflags(write=False)
    return rounded
