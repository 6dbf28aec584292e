"""The ball around a voxel that a click or a round brush stands for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from MedalSLib.volume.box import Box, corner_of, grown, slices
from MedalSLib.volume.mask import BoxMask

CLICK_MM = 4.0
"""Radius of what a click paints or erases; the engine's corrections were measured with clicks of this size."""


def box_around(voxel: tuple[int, int, int], margin_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> Box:
    """Return the box that reaches so far around a voxel, within the volume.

    Args:
        voxel: Its index.
        margin_mm: How far.
        spacing: In mm, along the axes of the index.
        shape: Of the volume.
    """
    first, second, third = voxel
    return grown(((first, first + 1), (second, second + 1), (third, third + 1)), margin_mm, spacing, shape)


def ball(voxel: tuple[int, int, int], radius_mm: float, spacing: Sequence[float], shape: Sequence[int]) -> BoxMask:
    """Return the voxels within a radius of a voxel; never less than that one.

    Args:
        voxel: Its index.
        radius_mm: The radius.
        spacing: In mm, along the axes of the index.
        shape: Of the volume.
    """
    box = box_around(voxel, radius_mm, spacing, shape)
    axes = np.ogrid[slices(box)]
    far = sum(((axis - index) * step) ** 2 for axis, index, step in zip(axes, voxel, spacing, strict=True))
    return BoxMask.from_crop(np.asarray(far <= radius_mm**2), corner_of(box), shape)
