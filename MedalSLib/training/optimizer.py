"""AdamW and averaged weights as a recipe wants them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import OptimizerSettings


def adamw(model: PromptedModel, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Return the optimiser; its learning rates are set in every step (`set_learning_rate`)."""
    groups = [{"params": group} for group in _parameter_groups(model, settings)]
    return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, eps=settings.eps, weight_decay=settings.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float, settings: OptimizerSettings, done: float) -> None:
    """Set the learning rates of a step.

    Args:
        optimizer: As `adamw` returned it.
        rate: Learning rate of the U-Net.
        settings: Settings.
        done: Share of the schedule that is done, this step included.
    """
    query_rate = settings.query_rate if done > settings.query_begins else 0.0
    # In the order of `_parameter_groups`; a single group has the U-Net's rate.
    for group, factor in zip(optimizer.param_groups, (1.0, query_rate), strict=False):
        group["lr"] = factor * rate


def averaged(model: PromptedModel, settings: OptimizerSettings) -> AveragedModel | None:
    """Return the averaged copy of a model, None if the recipe wants none."""
    decay = settings.ema_decay
    if decay is None:
        return None

    @torch.no_grad()
    def update(averages: Any, weights: Any, count: Any) -> None:
        kept = min(decay, (1 + int(count)) / (10 + int(count))) if settings.ema_warm_up else decay
        torch._foreach_lerp_(averages, weights, 1.0 - kept)

    return AveragedModel(model, multi_avg_fn=update)


def _parameter_groups(model: PromptedModel, settings: OptimizerSettings) -> list[list[nn.Parameter]]:
    """Return what learns: in one group, or the U-Net first and then what has a learning rate of its own."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.query_rate == 1.0 and not settings.query_begins:
        return [learning]
    network = model.network  # whose U-Net and mixing block no text touches
    image_side = {id(one) for part in (network.backbone, network.fusion_conv) for one in part.parameters()}
    return [[one for one in learning if (id(one) in image_side) == inside] for inside in (True, False)]
