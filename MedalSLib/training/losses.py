"""The published loss: Dice and binary cross-entropy, averaged over the real queries, summed over the output levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor

DICE_EPSILON = 1e-7


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

    def values(self) -> list[float]:
        """Return total, then the Dice parts, then the cross-entropy parts, as plain numbers."""
        return [float(value) for value in torch.cat([self.total.reshape(1), self.dice, self.bce]).detach().cpu()]


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Return 1, 1/2, 1/4, ... scaled to a sum of 1 (reference behaviour).

    Args:
        levels: Number of outputs, the full resolution included.
    """
    raw = [0.5**level for level in range(levels)]
    return tuple(value / sum(raw) for value in raw)


def dice_per_query(logits: Tensor, target: Tensor) -> Tensor:
    """Return the squared-denominator Dice loss of each query, (B, N), from (B, N, H, W, D) logits and 0/1 targets."""
    probability = torch.sigmoid(logits.float()).flatten(2)
    truth = target.float().flatten(2)
    intersection = 2.0 * (probability * truth).sum(2) + DICE_EPSILON
    union = (probability.square() + truth.square()).sum(2) + DICE_EPSILON
    return 1.0 - intersection / union


def bce_per_query(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of each query, (B, N), from (B, N, H, W, D) logits and 0/1 targets."""
    pixelwise = functional.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none")
    return pixelwise.flatten(2).mean(2)


def level_loss(logits: Tensor, target: Tensor, real_queries: Tensor, weight: float = 1.0) -> LossParts:
    """Return the loss of one output level.

    Args:
        logits: (B, N, H, W, D).
        target: Same shape, 0 or 1.
        real_queries: (B, N), 1 for a query, 0 for the padding of samples with fewer queries.
        weight: Weight of this level.
    """
    real = real_queries.to(device=logits.device, dtype=torch.float32)
    dice = dice_per_query(logits, target) * real
    bce = bce_per_query(logits, target) * real
    everything = real.sum().clamp_min(1.0)
    each = real.sum(1).clamp_min(1.0)
    return LossParts(
        total=weight * (dice.sum() + bce.sum()) / everything,
        dice=weight * dice.sum(1) / each,
        bce=weight * bce.sum(1) / each,
    )


def segmentation_loss(
    outputs: Sequence[Tensor],
    target: Tensor,
    real_queries: Tensor | None = None,
    weights: Sequence[float] | None = None,
) -> LossParts:
    """Return the training loss over all output levels.

    Args:
        outputs: Logits (B, N, h, w, d), full resolution first, as `MedalS.forward` returns them.
        target: (B, N, H, W, D), 0 or 1; made smaller by nearest neighbours for the coarser levels.
        real_queries: (B, N), 1 for a query and 0 for padding; None if every query is real.
        weights: One weight a level; None for `deep_supervision_weights`.
    """
    if weights is None:
        weights = deep_supervision_weights(len(outputs))
    if real_queries is None:
        real_queries = target.new_ones(target.shape[:2])
    levels = []
    for logits, weight in zip(outputs, weights, strict=True):
        small = target
        if logits.shape[2:] != target.shape[2:]:
            small = functional.interpolate(target.float(), size=logits.shape[2:], mode="nearest")
        levels.append(level_loss(logits, small, real_queries, weight))
    return LossParts(
        total=torch.stack([level.total for level in levels]).sum(),
        dice=torch.stack([level.dice for level in levels]).sum(0),
        bce=torch.stack([level.bce for level in levels]).sum(0),
    )
