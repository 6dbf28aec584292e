"""The starter's loss: Dice that misses absent structures too, and cross-entropy that is balanced at first."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.training.losses import deep_supervision_weights

_DICE_SMOOTH = 20.0


def dice_and_cross_entropy(
    outputs: list[Tensor], target: Tensor, real: Tensor, balance: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the loss summed over the levels, and the Dice of each query at full resolution, [B, N].

    Other than the published loss, Dice is smoothed by a few voxels, so that a structure that is not there still pulls
    its false positives down; a bundled model must report absent structures as absent.

    At the beginning a structure's few voxels must weigh as much as the many others.  Otherwise the network first
    learns to say "no" to everything, its mask embeddings end up at the minimum of GELU, where there is no gradient, and
    most structures never come back (seen in a run of 350 steps).

    Args:
        outputs: Logits [B, N, H, W, D], full resolution first.
        target: [B, N, H, W, D] bool.
        real: [B, N] bool, false for queries that do not count.
        balance: 1 to give the voxels in and out of a structure the same weight in all, 0 to count every voxel once.
    """
    share = real.float() / real.float().sum().clamp_min(1.0)
    total = target.new_zeros((), dtype=torch.float32)
    dices = []
    for weight, logits in zip(deep_supervision_weights(len(outputs)), outputs, strict=True):
        step = target.shape[2] // logits.shape[2]
        truth = target[..., ::step, ::step, ::step].flatten(2).float()
        flat = logits.flatten(2).float()
        probability = torch.sigmoid(flat)
        smooth = _DICE_SMOOTH / step**3
        overlap = 2.0 * (probability * truth).sum(2) + smooth
        dice = overlap / (probability.sum(2) + truth.sum(2) + smooth)
        entropy = functional.binary_cross_entropy_with_logits(flat, truth, reduction="none")
        inside = truth.mean(2, keepdim=True).clamp_min(1e-3)
        weight_in = ((1.0 - inside) / inside).clamp_min(1.0) ** balance
        entropy = (entropy * (1.0 + (weight_in - 1.0) * truth)).mean(2) / (1.0 + (weight_in - 1.0) * inside).squeeze(2)
        total = total + weight * (share * (1.0 - dice + entropy)).sum()
        dices.append(dice.detach())
    return total, dices[0]
