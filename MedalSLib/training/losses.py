"""The loss: Dice and binary cross-entropy, averaged over the real queries, summed over the output levels.

The defaults are the published loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

DICE_EPSILON = 1e-7


@dataclass(frozen=True)
class LossSettings:
    """How the loss is computed; the defaults are the published ones.

    Attributes:
        squared: Whether Dice divides by sums of squares instead of sums.
        smooth_voxels: Voxels by which Dice is smoothed at full resolution.  With some, a structure that is not there
            still pulls its false positives down, so that absent structures are reported as absent.
        balance_until: Share of the schedule over which cross-entropy goes from giving the voxels in and out of a
            structure the same weight in all to counting every voxel once.  Without it a short training first learns to
            say "no" to everything; mask embeddings end up at the minimum of GELU, where there is no gradient, and most
            structures never come back (seen in a run of 350 steps).
    """

    squared: bool = True
    smooth_voxels: float = 0.0
    balance_until: float = 0.0

    def balance(self, progress: float) -> float:
        """Return how balanced cross-entropy is when a share of the schedule is done: 1 to 0."""
        return max(0.0, 1.0 - progress / self.balance_until) if self.balance_until else 0.0


@dataclass(frozen=True)
class LossParts:
    """One batch's loss.

    Attributes:
        total: Scalar to minimise: mean over all real queries of the batch, summed over the weighted levels.
        dice: (B,) Dice part of each sample, mean over its real queries, for logging.
        bce: (B,) cross-entropy part of each sample, likewise.
    """

    total: Tensor
    dice: Tensor
    bce: Tensor


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Return 1, 1/2, 1/4, ... for each output, full resolution first, scaled to a sum of 1 (reference behaviour)."""
    raw = [0.5**level for level in range(levels)]
    return tuple(value / sum(raw) for value in raw)


def dice_per_query(logits: Tensor, target: Tensor, settings: LossSettings | None = None, scale: int = 1) -> Tensor:
    """Return the Dice loss of each query, (B, N).

    Args:
        logits: (B, N, H, W, D).
        target: Same shape, 0 or 1.
        settings: Settings; None for the published ones.
        scale: Voxels at full resolution that one voxel is wide.
    """
    settings = settings or LossSettings()
    probability = torch.sigmoid(logits.float()).flatten(2)
    truth = target.float().flatten(2)
    smooth = DICE_EPSILON + settings.smooth_voxels / scale**3
    intersection = 2.0 * (probability * truth).sum(2) + smooth
    union = (probability.square() if settings.squared else probability) + truth
    return 1.0 - intersection / (union.sum(2) + smooth)


def bce_per_query(logits: Tensor, target: Tensor, balance: float = 0.0) -> Tensor:
    """Return the mean binary cross-entropy of each query, (B, N), from (B, N, H, W, D) logits and 0/1 targets.

    Args:
        logits: (B, N, H, W, D).
        target: Same shape, 0 or 1.
        balance: 1 to give the voxels in and out of a structure the same weight in all, 0 to count every voxel once.
    """
    voxelwise = functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none").flatten(2)
    if not balance:
        return voxelwise.mean(2)
    truth = target.float().flatten(2)
    share = truth.mean(2, keepdim=True).clamp_min(1e-3)
    extra = ((1.0 - share) / share).clamp_min(1.0) ** balance - 1.0
    return (voxelwise * (1.0 + extra * truth)).mean(2) / (1.0 + extra * share).squeeze(2)


def segmentation_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    real_queries: Tensor | None = None,
    settings: LossSettings | None = None,
    balance: float = 0.0,
) -> LossParts:
    """Return the training loss over all output levels, weighted by `deep_supervision_weights`.

    Args:
        outputs: Logits (B, N, h, w, d), full resolution first, as `MedalS.forward` returns them.
        target: (B, N, H, W, D), 0 or 1; made smaller by nearest neighbours for the coarser levels.
        real_queries: (B, N), 1 for a query and 0 for padding; None if every query is real.
        settings: Settings; None for the published ones.
        balance: As of `bce_per_query`.
    """
    real = target.new_ones(target.shape[:2]) if real_queries is None else real_queries
    real = real.to(device=target.device, dtype=torch.float32)
    everything, each = real.sum().clamp_min(1.0), real.sum(1).clamp_min(1.0)
    totals, dices, entropies = [], [], []
    for logits, weight in zip(outputs, deep_supervision_weights(len(outputs)), strict=True):
        small, scale = target, round(target.shape[2] / logits.shape[2])
        if logits.shape[2:] != target.shape[2:]:
            small = functional.interpolate(target.float(), size=logits.shape[2:], mode="nearest")
        dice = dice_per_query(logits, small, settings, scale) * real
        entropy = bce_per_query(logits, small, balance) * real
        totals.append(weight * (dice.sum() + entropy.sum()) / everything)
        dices.append(weight * dice.sum(1) / each)
        entropies.append(weight * entropy.sum(1) / each)
    return LossParts(torch.stack(totals).sum(), torch.stack(dices).sum(0), torch.stack(entropies).sum(0))
