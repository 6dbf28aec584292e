"""The place under the mouse."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.slicer.volumes import gridOf


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
