"""Where blended probabilities go: to one published labelmap, or to a mask for each class on the volume's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.inference.accumulator import Rows
from MedalSLib.inference.packed import PackedMask
from MedalSLib.inference.resampling import labelmap_to_shape, trilinear, unpad
from MedalSLib.inference.resampling_policy import Hwd, ResamplingPlan

_THRESHOLD = 0.5


@dataclass(frozen=True)
class StageResult:
    """What one stage found, on the volume's own grid (H, W, D).

    Attributes:
        labelmap: Integers: label of the most probable class where it reaches 0.5, else 0.
        max_probability: float16 or float32: the largest probability; the product's is 0 where none reaches 0.5.
        masks: A mask for each class, which may overlap; empty from the published policy.
        mean_probability: Of each class over its mask, 0 where the mask is empty; empty from the published policy.
        voxels: Size of each mask; empty from the published policy.
        runs: Runs of the network.
        reused: Patches whose voxel features came from the cache.
        repeated: Prompted patches whose whole answer came from the cache.
    """

    labelmap: np.ndarray
    max_probability: np.ndarray
    masks: tuple[PackedMask, ...] = ()
    mean_probability: tuple[float, ...] = ()
    voxels: tuple[int, ...] = ()
    runs: int = 0
    reused: int = 0
    repeated: int = 0


class Sink(Protocol):
    """Takes final rows of blended probabilities in order, for one sweep of classes after another."""

    def begin(self, start: int, stop: int) -> None:
        """Announce a sweep over the classes start..stop."""
        ...

    def take(self, first: int, last: int, rows: Rows) -> None:
        """Take the rows first..last of the padded grid; `rows(0)` is class `start` of this sweep."""
        ...

    def result(self) -> StageResult:
        """Return what came of it, once all sweeps are done."""
        ...


class LabelSink:
    """The published answer: argmax on the plan's grid, then the labels (not the probabilities) resampled back.

    Args:
        plan: Plan of the stage.
        values: Label of each class.
        device: Where the labelmap is made.
    """

    def __init__(self, plan: ResamplingPlan, values: Sequence[int], device: torch.device) -> None:
        self._plan = plan
        self._values = tuple(int(value) for value in values)
        self._best = torch.full(plan.shape, -1.0, device=device)
        self._labels = torch.zeros(plan.shape, dtype=torch.int16, device=device)
        self._sweep = range(0)

    def begin(self, start: int, stop: int) -> None:
        """Announce a sweep over the classes start..stop."""
        self._sweep = range(start, stop)

    def take(self, first: int, last: int, rows: Rows) -> None:
        """Keep the largest probability so far and its label; the earlier class wins a tie."""
        best, labels = self._best[first:last], self._labels[first:last]
        for index in self._sweep:
            probability = rows(index - self._sweep.start)
            labels[probability > best] = self._values[index]
            torch.maximum(best, probability, out=best)

    def result(self) -> StageResult:
        """Return the labelmap and the largest probability on the volume's own grid."""
        labels = unpad(torch.where(self._best >= _THRESHOLD, self._labels, 0), self._plan)
        shape = self._plan.original_shape
        return StageResult(
            labelmap=labelmap_to_shape(labels, shape).cpu().numpy(),
            max_probability=trilinear(unpad(self._best, self._plan), shape).cpu().numpy(),
        )


class MaskSink:
    """The product's answer: each class's probability interpolated to the volume's own grid, then thresholded at 0.5.

    Interpolating the probability rather than the thresholded mask puts the boundary between voxels where the network
    puts it: a sphere of radius 9.3 mm comes from a grid of 3 mm to one of 1 mm with a Dice of 0.975 instead of 0.944.
    Rows are interpolated as they become final, so only bits, one labelmap and one probability map are ever held.

    Args:
        plan: Plan of the stage.
        count: Number of classes; class k has label k + 1.
        device: Where rows are interpolated.
    """

    def __init__(self, plan: ResamplingPlan, count: int, device: torch.device) -> None:
        self._plan = plan
        self._shape = plan.original_shape
        self._device = device
        high, wide, deep = self._shape
        self._best = torch.zeros(self._shape, dtype=torch.float16, device=device)
        kind = torch.uint8 if count < 256 else torch.int16
        self._labels = torch.zeros(self._shape, dtype=kind, device=device)
        self._bits = np.zeros((count, high, wide, -(-deep // 8)), dtype=np.uint8)
        self._sums = np.zeros(count)
        self._voxels = np.zeros(count, dtype=np.int64)
        self._below, self._above, self._share = _neighbours(plan.resampled_shape[0], high)
        self._start = 0
        self._next = 0
        self._last_row: list[Tensor] = []

    def begin(self, start: int, stop: int) -> None:
        """Announce a sweep over the classes start..stop."""
        self._start, self._next = start, 0
        self._last_row = [torch.empty(0)] * (stop - start)

    def take(self, first: int, last: int, rows: Rows) -> None:
        """Interpolate every row of the volume that lies between rows already here."""
        last = min(last, self._plan.resampled_shape[0])
        if first >= last:
            return
        stop = int(np.searchsorted(self._above, last, side="left"))
        for offset in range(len(self._last_row)):
            values = unpad(rows(offset), self._plan)[: last - first].to(self._device)
            if first > 0:
                values = torch.cat((self._last_row[offset][None], values))
            self._last_row[offset] = values[-1].clone()
            if stop > self._next and bool((values >= _THRESHOLD).any()):
                self._write(self._start + offset, values, first - (first > 0), stop)
        self._next = stop

    def result(self) -> StageResult:
        """Return masks, labels and figures on the volume's own grid."""
        means = np.divide(self._sums, self._voxels, out=np.zeros_like(self._sums), where=self._voxels > 0)
        return StageResult(
            labelmap=self._labels.cpu().numpy(),
            max_probability=self._best.cpu().numpy(),
            masks=tuple(PackedMask(bits, self._shape) for bits in self._bits),
            mean_probability=tuple(means.tolist()),
            voxels=tuple(self._voxels.tolist()),
        )

    def _write(self, index: int, values: Tensor, base: int, stop: int) -> None:
        """Interpolate the volume's rows `self._next`..`stop` of one class from the plan's rows `base`.. ."""
        span = slice(self._next, stop)
        below = torch.as_tensor(self._below[span] - base, device=self._device)
        above = torch.as_tensor(self._above[span] - base, device=self._device)
        share = torch.as_tensor(self._share[span], device=self._device)[:, None, None]
        probability = torch.lerp(values[below], values[above], share)
        size: Hwd = (stop - self._next, *self._shape[1:])
        if tuple(probability.shape) != size:
            probability = functional.interpolate(
                probability[:, None], size=size[1:], mode="bilinear", align_corners=False
            )[:, 0]
        mask = probability >= _THRESHOLD
        best, labels = self._best[span], self._labels[span]
        rounded = probability.half()
        better = mask & (rounded > best)  # compared as stored, so that the earlier class wins a tie
        labels[better] = index + 1
        best[better] = rounded[better]
        self._bits[index, span] = np.packbits(mask.cpu().numpy(), axis=-1)
        self._sums[index] += float(probability[mask].double().sum())
        self._voxels[index] += int(mask.sum())


def _neighbours(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each of `target` rows the two of `source` rows around it and the share of the second.

    Voxel edges are aligned, and rows beyond the outermost centres repeat them, as in `torch`'s interpolation.
    """
    places = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0)
    below = np.minimum(places.astype(np.int64), source - 1)
    return below, np.minimum(below + 1, source - 1), (places - below).astype(np.float32)
