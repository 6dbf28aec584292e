"""Blending of overlapping patches in a slab that moves along H, so that the whole volume never exists for all classes.

Tiles come with H slowest, so once all tiles of one H position are in, the rows before the next position are final.
They are handed on and the slab moves up: for 365^3 voxels and patches of 192^3 that is half of the volume, and there is
one volume of weights, not one for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from MedalSLib.inference.resampling_policy import Hwd
from MedalSLib.inference.tiling import Tile, gaussian_weights

Rows = Callable[[int], Tensor]
"""`class -> float32 (rows, W, D)`: blended probabilities of rows that are final."""


class SlabAccumulator:
    """Weighted sums of probabilities for a slab of rows.

    Args:
        count: Number of classes.
        shape_hwd: Padded grid.
        patch_hwd: Patch of the network.
        rows: Rows held at once: the patch's, or all of the grid's if tiles come in any order.
        dtype: Precision of the sums.
        device: Where they live.
    """

    def __init__(
        self, count: int, shape_hwd: Hwd, patch_hwd: Hwd, rows: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._sums = torch.zeros((count, rows, *shape_hwd[1:]), dtype=dtype, device=device)
        self._weights = torch.zeros((rows, *shape_hwd[1:]), device=device)
        self._gaussian = torch.tensor(gaussian_weights(patch_hwd), device=device).float()
        self._base = 0

    def add(self, tile: Tile, parts: Iterator[tuple[int, int, Tensor]], offset: int = 0) -> None:
        """Add a patch: `(first, last, probabilities)` of its classes, of which `offset` is the accumulator's first."""
        high, wide, deep = slice(tile[0] - self._base, tile[1] - self._base), slice(*tile[2:4]), slice(*tile[4:6])
        for first, last, probabilities in parts:
            weighted = probabilities.to(self._gaussian.device).mul_(self._gaussian)
            self._sums[first - offset : last - offset, high, wide, deep] += weighted
        self._weights[high, wide, deep] += self._gaussian

    def finish(self, stop: int) -> tuple[int, int, Rows]:
        """Return `(first row, stop, probabilities)` of the rows that are final; call `advance` when they are used."""
        count = stop - self._base
        return self._base, stop, lambda index: self._sums[index, :count].float() / self._weights[:count]

    def advance(self, start: int) -> None:
        """Move the slab up so that it begins at row `start`."""
        done = start - self._base
        for part in (*self._sums, self._weights):
            kept = part[done:].clone()
            part.zero_()
            part[: len(kept)] = kept
        self._base = start
