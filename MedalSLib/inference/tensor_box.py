"""The box around the voxels of a tensor, on whatever device it is (`volume.bounding_box` is for arrays)."""

from __future__ import annotations

import torch
from torch import Tensor

from MedalSLib.inference.boxes import Box


def tensor_box(mask: Tensor) -> Box | None:
    """Return the half-open bounds of the set voxels of a boolean (A, B, C) tensor, None if there are none."""
    plane = mask.any(dim=0)
    spans = []
    for line in (mask.any(dim=2).any(dim=1), plane.any(dim=1), plane.any(dim=0)):
        inside = torch.nonzero(line).flatten()
        if not len(inside):
            return None
        spans.append((int(inside[0]), int(inside[-1]) + 1))
    return spans[0], spans[1], spans[2]
