"""Prompts of a patch as whole volumes, to compare them."""

from __future__ import annotations

from torch import Tensor

from MedalSLib.inference.prompts import PatchPrompts


def dense_prompts(prompts: PatchPrompts, count: int) -> Tensor:
    """Return the prompts of all classes, boolean (count, H, W, D)."""
    masks = prompts.union.new_zeros((count, *prompts.union.shape))
    for part in prompts.parts:
        masks[part.index][part.box] = part.mask
    return masks
