"""Class prompts of a patch mixed by the network, each only where it lies: most organs fill little of a patch."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.inference.backends import Network
from MedalSLib.inference.prompts import ClassPrompt, PatchPrompts
from MedalSLib.volume.box import Slices

_AT_ONCE = 8
"""Classes with prompts all over the patch that are mixed together."""
_SMALL = 4
"""On a CPU, a prompt whose box is less than one such part of the patch is mixed alone, within its box; GPUs would
prepare a convolution for each size of box, which takes longer."""


def fused_prompts(
    network: Network, embeddings: Tensor, prompts: PatchPrompts, halves: Sequence[Tensor]
) -> Tensor | None:
    """Return what the network's mixing block sees of the prompts of all classes, None if no class has one.

    Mixing is linear and looks one voxel far, so a prompt adds nothing outside its box and one voxel around.

    Args:
        network: The network.
        embeddings: Mask embeddings [B, N, C] of all classes.
        prompts: Prompts of the patch (H, W, D).
        halves: For each pass of the batch where prompts are shown, boolean (H, W, D).

    Returns:
        [B, C, H, W, D] for `Network.fuse`.
    """
    shape = prompts.union.shape
    shown = torch.stack(list(halves))
    most = prod(shape) // _SMALL if shown.device.type == "cpu" else 0
    small = [part for part in prompts.parts if part.mask.numel() < most]
    large = [part for part in prompts.parts if part.mask.numel() >= most]
    total: Tensor | None = None
    for start in range(0, len(large), _AT_ONCE):
        chunk = large[start : start + _AT_ONCE]
        masks = prompts.union.new_zeros((len(chunk), *shape))
        for mask, part in zip(masks, chunk, strict=True):
            mask[part.box] = part.mask
        chosen = embeddings[:, [part.index for part in chunk]]
        total = network.mix_prompts(chosen, masks[None] & shown[:, None], total)
    for part in small:
        box, mask = _grown(part, shape)
        seen = (mask & shown[(slice(None), *box)])[:, None]
        piece = network.mix_prompts(embeddings[:, part.index : part.index + 1], seen)
        if total is None:
            total = _zeros_like(piece, shape)
        total[(..., *box)] += piece
    return total


def _grown(part: ClassPrompt, shape: Sequence[int]) -> tuple[Slices, Tensor]:
    """Return the box of a prompt with one voxel around, where the patch has one, and the mask there."""
    margins = [(int(span.start > 0), int(span.stop < size)) for span, size in zip(part.box, shape, strict=True)]
    high, wide, deep = (
        slice(span.start - low, span.stop + up) for span, (low, up) in zip(part.box, margins, strict=True)
    )
    return (high, wide, deep), functional.pad(part.mask, [side for margin in reversed(margins) for side in margin])


def _zeros_like(piece: Tensor, shape: Sequence[int]) -> Tensor:
    last = piece.is_contiguous(memory_format=torch.channels_last_3d) and not piece.is_contiguous()
    layout = torch.channels_last_3d if last else torch.contiguous_format
    return torch.empty((*piece.shape[:2], *shape), dtype=piece.dtype, device=piece.device, memory_format=layout).zero_()
