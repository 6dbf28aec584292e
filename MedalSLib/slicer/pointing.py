"""The place under the mouse, and a click there as a stroke of the brush."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.slicer.volumes import gridOf
from MedalSLib.volume.box import Box, corner_of, grown, slices
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.mask import BoxMask

CLICK_MM = 4.0
"""Radius of what a click paints or erases; the engine's corrections were measured with clicks of this size."""


def voxelUnderMouse(scene: Any, volumeNode: Any) -> tuple[int, int, int]:
    """Return the index (k, j, i) of the voxel of a volume that the mouse points at in a view.

    Raises:
        InputError: The mouse is over no view, or beside the volume.
    """
    crosshair, place = scene.GetNthNodeByClass(0, "vtkMRMLCrosshairNode"), [0.0, 0.0, 0.0]
    if crosshair is None or not crosshair.GetCursorPositionRAS(place):
        raise InputError("The mouse points at no image.", "Move it over a slice view, then press the key.")
    grid = gridOf(volumeNode)
    i, j, k = (int(index) for index in np.rint(grid.ras_to_index(place)))
    if not all(0 <= index < size for index, size in zip((k, j, i), grid.shape_kji, strict=True)):
        raise InputError(f"The mouse points beside {volumeNode.GetName()}.", "Move it over the image.")
    return k, j, i


def around(grid: Grid, voxel_kji: tuple[int, int, int], margin_mm: float) -> Box:
    """Return the box (K, J, I) of a grid that reaches so far around a voxel."""
    k, j, i = voxel_kji
    return grown(((k, k + 1), (j, j + 1), (i, i + 1)), margin_mm, grid.spacing_ijk[::-1], grid.shape_kji)


def clicked(grid: Grid, voxel_kji: tuple[int, int, int], radius_mm: float = CLICK_MM) -> BoxMask:
    """Return the ball around a voxel that a click stands for; never less than the voxel."""
    box, spacing = around(grid, voxel_kji, radius_mm), grid.spacing_ijk[::-1]
    axes = np.ogrid[slices(box)]
    far = sum(((axis - index) * step) ** 2 for axis, index, step in zip(axes, voxel_kji, spacing, strict=True))
    return BoxMask.from_crop(np.asarray(far <= radius_mm**2), corner_of(box), grid.shape_kji)
