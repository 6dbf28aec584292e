"""Blending of overlapping patches in a slab that moves along H, so that the whole volume never exists for all classes.

Tiles come with H slowest, so once all tiles of one H position are in, the rows before the next position are final.
They are handed on and the slab moves up: for 365^3 voxels and patches of 192^3 that is half of the volume, and there is
one volume of weights, not one for each class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.tiling import Tile, gaussian_weights

Rows = Callable[[int], Tensor]
"""`class -> float32 (rows, W, D)`: blended probabilities of rows that are final."""


class SlabAccumulator:
    """Weighted means of probabilities for a slab of rows.

    A patch is added with its share of the weight a voxel will have got in the end, so the sums are probabilities from
    the start: at the corners weights are 6e-8, which half precision could not hold.

    Args:
        count: Number of classes.
        plan: Grid, patch and tiles.
        rows: Rows held at once: the patch's, or all of the grid's if tiles come in any order.
        dtype: Precision of the sums.
        device: Where they live.
    """

    def __init__(self, count: int, plan: ResamplingPlan, rows: int, dtype: torch.dtype, device: torch.device) -> None:
        self._sums = torch.zeros((count, rows, *plan.shape[1:]), dtype=dtype, device=device)
        self._gaussian = torch.tensor(gaussian_weights(plan.patch), device=device).float()
        self._total = torch.zeros(plan.shape, device=device)
        for tile in plan.tiles:
            self._total[_slices(tile)] += self._gaussian
        self._base = 0

    def add(self, tile: Tile, parts: Iterable[tuple[int, int, Tensor]], offset: int = 0) -> None:
        """Add a patch: `(first, last, probabilities)` of its classes, of which `offset` is the accumulator's first."""
        high, wide, deep = _slices(tile)
        rows = slice(high.start - self._base, high.stop - self._base)
        share = self._gaussian / self._total[high, wide, deep]
        for first, last, probabilities in parts:
            weighted = probabilities.to(share.device).mul_(share)
            self._sums[first - offset : last - offset, rows, wide, deep] += weighted

    def finish(self, stop: int) -> tuple[int, int, Rows]:
        """Return `(first row, stop, probabilities)` of the rows that are final; call `advance` when they are used."""
        count = stop - self._base
        return self._base, stop, lambda index: self._sums[index, :count].float()

    def advance(self, start: int) -> None:
        """Move the slab up so that it begins at row `start`."""
        done = start - self._base
        for part in self._sums:
            kept = part[done:].clone()
            part.zero_()
            part[: len(kept)] = kept
        self._base = start


def _slices(tile: Tile) -> tuple[slice, slice, slice]:
    return slice(*tile[0:2]), slice(*tile[2:4]), slice(*tile[4:6])
