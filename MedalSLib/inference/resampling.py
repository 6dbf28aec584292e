"""Images and masks to a plan's grid and back, on any device, one class at a time.

The published resampling is trilinear; where slices are more than three times as thick as the in-plane spacing it is
bilinear within slices and takes the nearest slice across them.  A labelmap is resampled one class at a time, the
largest interpolated value wins, and it is compared in half precision of a thousandth, ties going to the lower label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.inference.resampling_axis import ResamplingAxis
from MedalSLib.inference.resampling_policy import Hwd, ResamplingPlan
from MedalSLib.inference.tensor_ops import bits_of, relabel, tensor_box
from MedalSLib.volume.box import shifted, slices
from MedalSLib.volume.mask import BoxMask

_ONE = 1000.0
"""One, in the units in which interpolated masks are compared."""
_Interpolation = Callable[[Tensor], Tensor]


def preprocess(image_hwd: np.ndarray | Tensor, plan: ResamplingPlan, device: torch.device | str = "cpu") -> Tensor:
    """Bring an image to the plan's grid.

    Args:
        image_hwd: Intensities (H, W, D), 0..255.
        plan: The plan made for its shape.
        device: Where to resample; the result stays there.

    Returns:
        float32 (H, W, D) of `plan.shape`, zeros where padded.
    """
    image = torch.as_tensor(image_hwd, device=device).to(torch.float32)
    _same_shape(image, plan)
    return pad(_interpolation(plan)(image), plan)


def labelmap_to_plan(
    labels_hwd: np.ndarray | Tensor, plan: ResamplingPlan, device: torch.device | str = "cpu"
) -> Tensor:
    """Bring a labelmap to the plan's grid; padding is label 0.

    Args:
        labels_hwd: Integers (H, W, D).
        plan: The plan made for its shape.
        device: Where to resample; the result stays there.
    """
    labels = _integers(labels_hwd, device)
    _same_shape(labels, plan)
    return pad(_vote(labels, plan.resampled_shape, _interpolation(plan)), plan)


def mask_to_plan(mask_hwd: BoxMask, plan: ResamplingPlan, device: torch.device | str = "cpu") -> BoxMask:
    """Bring one mask to the plan's padded grid: what `labelmap_to_plan` does with a single label.

    Only voxels near the mask are interpolated.

    Args:
        mask_hwd: The mask (H, W, D).
        plan: The plan made for its shape.
        device: Where to resample.
    """
    if mask_hwd.shape != plan.original_shape:
        raise ValueError(f"the plan is for a volume of {plan.original_shape}, not {mask_hwd.shape}")
    if mask_hwd.box is None:
        return BoxMask.empty(plan.shape)
    axes = [
        (ResamplingAxis.nearest if axis == plan.separate_axis else ResamplingAxis.of)(source, target)
        for axis, (source, target) in enumerate(zip(plan.original_shape, plan.resampled_shape, strict=True))
    ]
    new = [axis.near(*span) for axis, span in zip(axes, mask_hwd.box, strict=True)]
    if any(start >= stop for start, stop in new):  # it lies between the voxels that are sampled
        return BoxMask.empty(plan.shape)
    high, wide, deep = (axis.needed(*span) for axis, span in zip(axes, new, strict=True))
    values = torch.from_numpy(mask_hwd.array((high, wide, deep))).to(device).float() * _ONE
    for axis, (begin, _) in ((2, deep), (1, wide), (0, high)):
        values = axes[axis].interpolate(values, axis, begin, *new[axis])
    mask = values.half() > _ONE / 2
    box = tensor_box(mask)
    if box is None:
        return BoxMask.empty(plan.shape)
    return BoxMask(bits_of(mask[slices(box)]), plan.shape, shifted(box, [start for start, _ in new]))


def labelmap_to_shape(labels_hwd: np.ndarray | Tensor, shape: Hwd) -> Tensor:
    """Bring a labelmap from a plan's unpadded grid back to the volume's own: trilinear votes, in any anisotropy."""
    return _vote(_integers(labels_hwd, None), shape, lambda values: trilinear(values, shape))


def trilinear(values: Tensor, shape: Hwd) -> Tensor:
    """Resample float values (H, W, D) to another shape over the same extent (voxel edges aligned)."""
    if tuple(values.shape) == shape:
        return values
    return functional.interpolate(values[None, None].float(), size=shape, mode="trilinear", align_corners=False)[0, 0]


def pad(values: Tensor, plan: ResamplingPlan) -> Tensor:
    """Add the plan's zeros at the end of each axis."""
    high, wide, deep = plan.padding
    return functional.pad(values, (0, deep, 0, wide, 0, high)) if any(plan.padding) else values


def unpad(values: Tensor, plan: ResamplingPlan) -> Tensor:
    """Take the plan's zeros off the last three axes."""
    high, wide, deep = plan.resampled_shape
    return values[..., :high, :wide, :deep]


def _interpolation(plan: ResamplingPlan) -> _Interpolation:
    """Return the interpolation the plan asks for, as a function of float values (H, W, D)."""
    shape, axis = plan.resampled_shape, plan.separate_axis
    if axis is None:
        return lambda values: trilinear(values, shape)
    return lambda values: _slices_then_nearest(values, shape, axis)


def _slices_then_nearest(values: Tensor, shape: Hwd, axis: int) -> Tensor:
    """Resample bilinearly within slices, then take the nearest slice along `axis`."""
    in_plane = tuple(size for other, size in enumerate(shape) if other != axis)
    slices = values.movedim(axis, 0)
    if tuple(slices.shape[1:]) != in_plane:
        slices = functional.interpolate(slices[None], size=in_plane, mode="bilinear", align_corners=False)[0]
    volume = slices.movedim(0, axis)
    if tuple(volume.shape) == shape:
        return volume
    return functional.interpolate(volume[None, None], size=shape, mode="nearest-exact")[0, 0]


def _vote(labels: Tensor, shape: Hwd, interpolate: _Interpolation) -> Tensor:
    """Give each voxel the label whose mask has the largest interpolated value; memory for one class at a time."""
    if tuple(labels.shape) == shape:
        return labels
    values = torch.unique(labels).tolist()
    result = torch.full(shape, values[0], dtype=labels.dtype, device=labels.device)
    if len(values) == 1:
        return result
    best: Tensor | None = None
    for value in values:
        votes = interpolate((labels == value).float() * _ONE).half()
        if best is None:
            best = votes
            continue
        relabel(result, votes > best, value)
        torch.maximum(best, votes, out=best)
    return result


def _integers(labels_hwd: np.ndarray | Tensor, device: torch.device | str | None) -> Tensor:
    labels = torch.as_tensor(labels_hwd, device=device)
    return labels if labels.dtype in (torch.uint8, torch.int16, torch.int32) else labels.to(torch.int32)


def _same_shape(values: Tensor, plan: ResamplingPlan) -> None:
    if tuple(values.shape) != plan.original_shape:
        raise ValueError(f"the plan is for a volume of {plan.original_shape}, not {tuple(values.shape)}")
