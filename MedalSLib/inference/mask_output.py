"""The product's answer: a mask for each class on the volume's own grid."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.blending import Region, Rows, Span
from MedalSLib.inference.outputs import THRESHOLD, StageResult
from MedalSLib.inference.resampling_axis import ResamplingAxis
from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.tensor_ops import bits_of, relabel, tensor_box, threshold_to_zero
from MedalSLib.volume.box import Box, intersection, slices, union
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

_VALUES = 1 << 21
"""Voxels of one class that are interpolated at once."""
_LEAST = 0.02
"""Where the probability of each class is wanted, what is less is taken for zero."""
_SET_BITS = np.array([bin(byte).count("1") for byte in range(256)])
"""Of each byte."""


class MaskOutput:
    """Each class's probability interpolated to the volume's own grid, then thresholded at 0.5.

    Interpolating the probability rather than the thresholded mask puts the boundary between voxels where the network
    puts it: a sphere of radius 9.3 mm comes from a grid of 3 mm to one of 1 mm with a Dice of 0.975 instead of 0.944.
    Regions are interpolated as they become final, and only where some probability reaches 0.5; all that is kept of one
    for the next is its last column and its last row.  So only bits, one labelmap and one probability map are held.

    Args:
        plan: Plan of the stage.
        count: Number of classes; class k has label k + 1.
        device: Where regions are interpolated.
        labels: Whether labels and the largest probability are wanted too; without them theirs is a volume of no voxels.
        each: Whether the probability of each class is wanted too, where it reaches 0.02.
    """

    def __init__(
        self, plan: ResamplingPlan, count: int, device: torch.device, labels: bool = True, each: bool = False
    ) -> None:
        self._plan = plan
        self._shape = plan.original_shape
        self._device = device
        high, wide, deep = self._shape
        wanted = self._shape if labels else (0, 0, 0)
        self._best = _zeros(wanted, torch.float16, device)
        self._labels = _zeros(wanted, torch.uint8 if count < 256 else torch.int16, device)
        self._bits = np.zeros((count, high, wide, -(-deep // 8)), dtype=np.uint8)
        self._probabilities = [np.zeros(self._shape, dtype=np.float16) for _ in range(count)] if each else []
        self._least = _LEAST if each else THRESHOLD
        self._written: list[Box | None] = [None] * count
        self._sums = np.zeros(count)
        self._voxels = np.zeros(count, dtype=np.int64)
        self._rows, self._columns, self._depth = (
            ResamplingAxis.of(source, target) for source, target in zip(plan.resampled_shape, self._shape, strict=True)
        )
        self._start = 0
        self._last_row: list[Tensor] = []
        self._last_column: list[Tensor] = []

    def begin(self, start: int, stop: int) -> None:
        """Announce a sweep over the classes start..stop."""
        self._start = start
        plane = (0, 0) if self._rows.same else self._shape[1:]
        self._last_row = [torch.zeros(plane, device=self._device) for _ in range(start, stop)]
        self._last_column = [torch.empty(0)] * (stop - start)

    def take(self, region: Region, rows: Rows) -> None:
        """Interpolate every voxel of the volume that lies between voxels already here."""
        high, wide, deep = self._plan.resampled_shape
        top, bottom = region.rows[0], min(region.rows[1], high)
        left, right = region.columns[0], min(region.columns[1], wide)
        if top >= bottom or left >= right:
            return
        new_rows = self._rows.ready(top), self._rows.ready(bottom)
        new_columns = self._columns.ready(left), self._columns.ready(right)
        for offset in range(len(self._last_row)):
            values, begin = rows(offset)[: bottom - top, : right - left, :deep].to(self._device), left
            if not self._columns.same:
                last, self._last_column[offset] = self._last_column[offset], values[:, -1:].clone()
                if left > 0:
                    values, begin = torch.cat((last, values), dim=1), left - 1
            self._take_class(offset, _Part(values, top, begin), new_rows, new_columns)

    def result(self) -> StageResult:
        """Return masks, labels and figures on the volume's own grid."""
        means = np.divide(self._sums, self._voxels, out=np.zeros_like(self._sums), where=self._voxels > 0)
        return StageResult(
            labelmap=self._labels.cpu().numpy(),
            max_probability=self._best.cpu().numpy(),
            masks=tuple(self._mask(index) for index in range(len(self._bits))),
            mean_probability=tuple(means.tolist()),
            probabilities=tuple(BoxArray.of(values) for values in self._probabilities),
        )

    def _mask(self, index: int) -> BoxMask:
        rows, columns, (start, stop) = self._written[index] or ((0, 0),) * 3
        bits = self._bits[index][slice(*rows), slice(*columns), start // 8 : -(-stop // 8)]
        part = np.unpackbits(bits, axis=-1, count=stop - start)
        return BoxMask.from_crop(part.view(bool), (rows[0], columns[0], start), self._shape)

    def _take_class(self, offset: int, part: _Part, rows: Span, columns: Span) -> None:
        """Interpolate the volume's voxels of some rows and columns, of one class."""
        before: Tensor | None = None
        if not self._rows.same:
            plane = self._last_row[offset][slice(*columns)]
            before = plane.clone() if part.top > 0 else None
            plane.copy_(self._in_plane(part.values[-1:], part.left, columns, (0, self._shape[2]))[0])
        where = self._where(part, before, rows, columns)
        if where is None:
            return
        (start, stop), near, depth = where
        if before is not None:
            before = before[near[0] - columns[0] : near[1] - columns[0], slice(*depth)]
        step = max(1, _VALUES // ((near[1] - near[0]) * (depth[1] - depth[0])))
        for first in range(start, stop, step):
            place = (first, min(first + step, stop)), near, depth
            self._write(self._start + offset, self._probability(part, before, place), place)

    def _where(self, part: _Part, before: Tensor | None, rows: Span, columns: Span) -> Box | None:
        """Return the part of some rows and columns that may reach the least probability: none exceeds those around it.

        Its depth begins and ends with a byte of bits; None if no voxel can.
        """
        near: list[Box] = []
        found = tensor_box(part.values, self._least)
        if found is not None:
            high, wide, deep = found
            near.append(
                (
                    self._rows.near(part.top + high[0], part.top + high[1]),
                    self._columns.near(part.left + wide[0], part.left + wide[1]),
                    self._depth.near(*deep),
                )
            )
        beyond = None if before is None else tensor_box(before[None], self._least)
        if beyond is not None:
            _, (left, right), deep = beyond
            near.append((self._rows.near(part.top - 1, part.top), (columns[0] + left, columns[0] + right), deep))
        around = union(near)
        box = None if around is None else intersection(around, (rows, columns, (0, self._shape[2])))
        if box is None:
            return None
        return box[0], box[1], (box[2][0] // 8 * 8, min(-(-box[2][1] // 8) * 8, self._shape[2]))

    def _probability(self, part: _Part, before: Tensor | None, place: Box) -> Tensor:
        rows, columns, depth = place
        first, last = self._rows.needed(*rows)
        old = self._in_plane(part.values[max(first - part.top, 0) : last - part.top], part.left, columns, depth)
        if first < part.top:
            assert before is not None
            old = torch.cat((before[None], old))
        return self._rows.interpolate(old, 0, first, *rows)

    def _in_plane(self, values: Tensor, left: int, columns: Span, depth: Span) -> Tensor:
        """Return rows (rows, columns, D) of some of the volume's own columns and depth."""
        return self._columns.interpolate(self._depth.interpolate(values, 2, 0, *depth), 1, left, *columns)

    def _write(self, index: int, probability: Tensor, place: Box) -> None:
        here, (start, stop) = slices(place), place[2]
        mask = probability >= THRESHOLD
        sure = threshold_to_zero(probability, THRESHOLD)
        if self._best.numel():
            best, rounded = self._best[here], sure.half()
            relabel(self._labels[here], rounded > best, index + 1)  # compared as stored: the earlier class wins a tie
            torch.maximum(best, rounded, out=best)
        if self._probabilities:
            self._probabilities[index][here] = probability.half().cpu().numpy()
        bits = bits_of(mask)
        self._bits[index][here[0], here[1], start // 8 : -(-stop // 8)] = bits
        self._written[index] = union([self._written[index], place])
        self._voxels[index] += int(_SET_BITS[bits].sum())
        self._sums[index] += float(sure.sum(dim=2).cpu().double().sum())


class _Part(NamedTuple):
    """Old voxels (rows, columns, D) of one class, from (top, left) on."""

    values: Tensor
    top: int
    left: int


def _zeros(shape: tuple[int, int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros; in main memory the system gives a page when it is written to first, and most never are."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(shape, dtype=torch.empty(0, dtype=dtype).numpy().dtype))
