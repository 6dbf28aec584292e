"""One case on the training grid: the network's spacing, cropped to what is not zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.inference.resampling import labelmap_to_plan, preprocess
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec, plan
from MedalSLib.training.case_reading import LoadedCase
from MedalSLib.volume.box import bounding_box, slices


def to_training_grid(
    loaded: LoadedCase, classes: Sequence[str], spec: StageSpec
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Bring a case to the network's spacing: the resampling policy, and the crop to non-zero voxels.

    Args:
        loaded: The case.
        classes: Its structures.
        spec: Stage, spacing and patch.

    Returns:
        Image and labels (H, W, D), and the spacing that one voxel now has in mm.

    Raises:
        InputError: The image is zero everywhere.
    """
    policy = plan(loaded.image_hwd.shape, loaded.spacing_hwd, classes, spec, training=True)
    box = bounding_box(loaded.image_hwd != 0)
    if box is None:
        raise InputError("The image is zero everywhere.", "Check its intensity window.")
    image, labels = loaded.image_hwd[slices(box)], loaded.labels_hwd[slices(box)]
    cropped = _for_shape(policy, image.shape)
    height, width, depth = (
        spacing * before / after
        for spacing, before, after in zip(loaded.spacing_hwd, image.shape, cropped.shape, strict=True)
    )
    return (
        preprocess(np.ascontiguousarray(image), cropped).numpy(),
        labelmap_to_plan(np.ascontiguousarray(labels), cropped).numpy(),
        (float(height), float(width), float(depth)),
    )


def _for_shape(policy: ResamplingPlan, shape: Sequence[int]) -> ResamplingPlan:
    """Return a plan with the same spacings for a part of the volume, without padding."""
    height, width, depth = (
        max(1, round(size * before / after))
        for size, before, after in zip(shape, policy.spacing, policy.target_spacing, strict=True)
    )
    original = (int(shape[0]), int(shape[1]), int(shape[2]))
    size = (height, width, depth)
    return replace(policy, original_shape=original, resampled_shape=size, padding=(0, 0, 0), shape=size, tiles=())
