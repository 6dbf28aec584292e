"""The middle of one patch on the volume's own grid: what a user may see before the patch is blended with the others."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.tiling import Tile
from MedalSLib.volume.box import Box


def middle_of_patch(tile: Tile, probabilities: Tensor, plan: ResamplingPlan) -> tuple[Box, np.ndarray]:
    """Bring the part of a patch that the blending trusts most back to the volume's own grid.

    A quarter is cut off at each side that another patch covers better; sides at the end of the grid stay.

    Args:
        tile: The patch's place on the plan's padded grid.
        probabilities: Its probabilities (N, H, W, D).
        plan: The plan.

    Returns:
        Bounds (D, H, W) on the volume that was planned for, and float32 probabilities (N, D, H, W) there; both are
        empty for a patch of padding alone.
    """
    inner, bounds = [slice(None)], []
    for axis, (valid, size) in enumerate(zip(plan.resampled_shape, plan.original_shape, strict=True)):
        low, high = tile[2 * axis], min(tile[2 * axis + 1], valid)
        margin = (tile[2 * axis + 1] - tile[2 * axis]) // 4
        start = 0 if low == 0 else low + margin
        stop = valid if high == valid else high - margin
        stop = max(start, stop)
        inner.append(slice(start - low, stop - low))
        bounds.append((round(start * size / valid), round(stop * size / valid)))
    (h0, h1), (w0, w1), (d0, d1) = bounds
    box = ((d0, d1), (h0, h1), (w0, w1))
    part = probabilities[tuple(inner)]
    shape = (h1 - h0, w1 - w0, d1 - d0)
    if 0 in part.shape or 0 in shape:
        return box, np.zeros((len(part), *(stop - start for start, stop in box)), dtype=np.float32)
    if tuple(part.shape[1:]) != shape:
        part = functional.interpolate(part[None].float(), size=shape, mode="trilinear", align_corners=False)[0]
    return box, part.float().permute(0, 3, 1, 2).cpu().numpy()
