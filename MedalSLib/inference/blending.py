"""Blending of overlapping patches in cells that come and go, so that the whole volume never exists for all classes.

Tiles come with H slowest, then W.  Their edges cut rows and columns into cells: a cell appears with the first patch
that reaches it and goes as soon as no further one will.  Of 365^3 voxels in patches of 192^3, two fifths exist for all
classes at a time.  What a voxel's weights come to is worked out again for each patch, but for small ones, where that
takes longer than the rest of another name on an open image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.resampling_policy import Hwd, ResamplingPlan
from MedalSLib.inference.tiling import Tile, gaussian_weights

Rows = Callable[[int], Tensor]
"""`class -> float32 (rows, columns, D)`: blended probabilities of a region that is final; not to be changed."""
Span = tuple[int, int]
_SMALL = 1 << 18
"""Voxels of a patch whose shares of the weights are kept, a few MiB in all."""


@dataclass(frozen=True)
class Region:
    """A part of the padded grid, of full depth.

    Attributes:
        rows: Half-open bounds along H.
        columns: Half-open bounds along W.
    """

    rows: Span
    columns: Span

    def holds(self, row: Span, column: Span) -> bool:
        """Return whether a cell lies in the region."""
        return self.rows[0] <= row[0] < self.rows[1] and self.columns[0] <= column[0] < self.columns[1]


def batches(plan: ResamplingPlan) -> Iterator[tuple[tuple[Tile, ...], Region]]:
    """Yield the patches of a plan that run one after the other, and the region that no later patch reaches.

    Over all batches these regions come with rows slowest.
    """
    tops, lefts = (sorted({tile[axis] for tile in plan.tiles}) for axis in (0, 2))
    for top, bottom in pairwise([*tops, plan.shape[0]]):
        for left, right in pairwise([*lefts, plan.shape[1]]):
            tiles = tuple(tile for tile in plan.tiles if (tile[0], tile[2]) == (top, left))
            yield tiles, Region((top, bottom), (left, right))


def most_voxels(plan: ResamplingPlan) -> int:
    """Return how many voxels of each class exist at most while the patches of a plan run in their order."""
    row_cells, column_cells = (_cells(plan, axis) for axis in (0, 2))
    live: set[tuple[Span, Span]] = set()
    most = 0
    for tiles, final in batches(plan):
        (top, bottom), (left, right) = tiles[0][0:2], tiles[0][2:4]
        live |= {
            (row, column)
            for row in row_cells
            for column in column_cells
            if top <= row[0] < bottom and left <= column[0] < right
        }
        most = max(most, sum((row[1] - row[0]) * (column[1] - column[0]) for row, column in live))
        live -= {cell for cell in live if final.holds(*cell)}
    return most * plan.shape[2]


class BlendedPatches:
    """Weighted means of probabilities of all classes.

    A patch is added with its share of the weight a voxel will have got in the end, so the sums are probabilities from
    the start: at the corners weights are 6e-8, which half precision could not hold.

    Args:
        count: Number of classes.
        plan: Grid, patch and tiles.
        dtype: Precision of the sums.
        device: Where they live.
    """

    def __init__(self, count: int, plan: ResamplingPlan, dtype: torch.dtype, device: torch.device) -> None:
        self._count = count
        self._plan = plan
        self._dtype = dtype
        self._device = device
        self._row_cells, self._column_cells = (_cells(plan, axis) for axis in (0, 2))
        self._sums: dict[tuple[Span, Span], Tensor] = {}

    def add(self, tile: Tile, parts: Iterable[tuple[int, int, Tensor]]) -> None:
        """Add a patch: `(top, bottom, probabilities)` of its rows, which are overwritten."""
        share = self._share(tile)
        for top, bottom, probabilities in parts:
            weighted = probabilities.to(self._device).mul_(share[top:bottom])
            self._spread(weighted, (tile[0] + top, tile[0] + bottom), tile)

    def rows(self, region: Region) -> Rows:
        """Return the probabilities of a region that is final."""
        rows, columns = (
            [cell for cell in cells if span[0] <= cell[0] < span[1]]
            for cells, span in ((self._row_cells, region.rows), (self._column_cells, region.columns))
        )

        def probabilities(index: int) -> Tensor:
            strips = [_concatenated([self._sums[row, column][index] for column in columns], 1) for row in rows]
            return _concatenated(strips, 0).float()

        return probabilities

    def forget(self, region: Region) -> None:
        """Free what a region took."""
        for cell in list(self._sums):
            if region.holds(*cell):
                del self._sums[cell]

    def _spread(self, weighted: Tensor, rows: Span, tile: Tile) -> None:
        """Add weighted probabilities of some rows of a patch to the cells they lie in."""
        for row in self._row_cells:
            top, bottom = max(row[0], rows[0]), min(row[1], rows[1])
            if top >= bottom:
                continue
            for column in self._column_cells:
                if not tile[2] <= column[0] < tile[3]:
                    continue
                here = (slice(None), slice(top - row[0], bottom - row[0]), slice(None), slice(*tile[4:6]))
                there = (
                    slice(None),
                    slice(top - rows[0], bottom - rows[0]),
                    slice(column[0] - tile[2], column[1] - tile[2]),
                )
                self._cell(row, column)[here] += weighted[there]

    def _cell(self, row: Span, column: Span) -> Tensor:
        sums = self._sums.get((row, column))
        if sums is None:
            size = (self._count, row[1] - row[0], column[1] - column[0], self._plan.shape[2])
            sums = self._sums[row, column] = torch.zeros(size, dtype=self._dtype, device=self._device)
        return sums

    def _share(self, tile: Tile) -> Tensor:
        """Return a patch's weights as shares of what the weights of all patches come to."""
        offsets = (tuple(other[side] - tile[side] for side in (0, 2, 4)) for other in self._plan.tiles)
        patch = self._plan.patch
        near = tuple(one for one in offsets if all(abs(by) < size for by, size in zip(one, patch, strict=True)))
        make = _kept_share if prod(patch) <= _SMALL else _share
        return make(patch, near, self._device)


def _share(patch: Hwd, offsets: tuple[tuple[int, ...], ...], device: torch.device) -> Tensor:
    """Return the weights of a patch divided by those of all patches that overlap it, which begin at `offsets`."""
    gaussian = _gaussian(patch, device)
    total = torch.zeros_like(gaussian)
    for offset in offsets:
        here = tuple(slice(max(by, 0), size + min(by, 0)) for by, size in zip(offset, patch, strict=True))
        there = tuple(slice(max(-by, 0), size + min(-by, 0)) for by, size in zip(offset, patch, strict=True))
        total[here] += gaussian[there]
    return gaussian / total


_kept_share = lru_cache(maxsize=32)(_share)


@lru_cache(maxsize=2)
def _gaussian(patch: Hwd, device: torch.device) -> Tensor:
    return torch.from_numpy(gaussian_weights(patch).astype(np.float32)).to(device)


def _cells(plan: ResamplingPlan, side: int) -> list[Span]:
    """Return the spans into which the tiles' edges cut an axis."""
    return list(pairwise(sorted({edge for tile in plan.tiles for edge in tile[side : side + 2]})))


def _concatenated(parts: Sequence[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=axis)
