"""Where blended probabilities go, and the published place: one labelmap (`mask_output` is the product's)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from MedalSLib.inference.blending import Region, Rows
from MedalSLib.inference.resampling import labelmap_to_shape, trilinear, unpad
from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.tensor_ops import relabel
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

THRESHOLD = 0.5


@dataclass(frozen=True)
class StageResult:
    """What one stage found, on the volume's own grid (H, W, D).

    Attributes:
        labelmap: Integers: label of the most probable class where it reaches 0.5, else 0.
        max_probability: float16 or float32: the largest probability; the product's is 0 where none reaches 0.5.
        masks: A mask for each class, which may overlap; empty from the published policy.
        mean_probability: Of each class over its mask, 0 where the mask is empty; empty from the published policy.
        probabilities: Of each class where it is wanted, float16, 0 where it is less than 0.02.
        runs: Runs of the network.
        reused: Patches whose voxel features came from the cache.
        repeated: Prompted patches whose whole answer came from the cache.
    """

    labelmap: np.ndarray
    max_probability: np.ndarray
    masks: tuple[BoxMask, ...] = ()
    mean_probability: tuple[float, ...] = ()
    probabilities: tuple[BoxArray, ...] = ()
    runs: int = 0
    reused: int = 0
    repeated: int = 0


class LabelOutput:
    """The published answer: argmax on the plan's grid, then the labels (not the probabilities) resampled back.

    Takes regions of the padded grid as they become final, rows slowest, for one sweep of classes at a time.

    Args:
        plan: Plan of the stage.
        count: Number of classes; class k has label k + 1.
        device: Where the labelmap is made.
    """

    def __init__(self, plan: ResamplingPlan, count: int, device: torch.device) -> None:
        self._plan = plan
        self._best = torch.full(plan.shape, -1.0, device=device)
        self._labels = torch.zeros(plan.shape, dtype=torch.uint8 if count < 256 else torch.int16, device=device)
        self._sweep = range(0)

    def begin(self, start: int, stop: int) -> None:
        """Announce a sweep over the classes start..stop."""
        self._sweep = range(start, stop)

    def take(self, region: Region, rows: Rows) -> None:
        """Keep the largest probability so far and its label; `rows(0)` is the sweep's first, who wins a tie."""
        here = slice(*region.rows), slice(*region.columns)
        best, labels = self._best[here], self._labels[here]
        for index in self._sweep:
            probability = rows(index - self._sweep.start)
            relabel(labels, probability > best, index + 1)
            torch.maximum(best, probability, out=best)

    def result(self) -> StageResult:
        """Return the labelmap and the largest probability on the volume's own grid."""
        labels = unpad(torch.where(self._best >= THRESHOLD, self._labels, 0), self._plan)
        shape = self._plan.original_shape
        return StageResult(
            labelmap=labelmap_to_shape(labels, shape).cpu().numpy(),
            max_probability=trilinear(unpad(self._best, self._plan), shape).cpu().numpy(),
        )
