"""Slices of a volume as the slice views show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from MedalSLib.errors import InputError
from MedalSLib.slicer.oriented_image import fromVtkMatrix
from MedalSLib.slicer.volumes import gridOf

_AXIAL_VIEW = "vtkMRMLSliceNodeRed"
_PARALLEL = 1e-3
"""Voxels per millimetre that a slice may leave its plane: a quarter of a voxel at the border of a large image."""


def shownSlice(scene: Any, volumeNode: Any) -> tuple[int, int]:
    """Return axis (K, J, I) and index of the slice that the view under the mouse shows, else the red view.

    Args:
        scene: The scene.
        volumeNode: The volume.

    Raises:
        InputError: No view is open, or it shows no slice of the volume's own.
    """
    crosshair = scene.GetNthNodeByClass(0, "vtkMRMLCrosshairNode")
    view = None if crosshair is None else crosshair.GetCursorPositionXYZ([0.0, 0.0, 0.0])
    view = view or scene.GetNodeByID(_AXIAL_VIEW)
    if view is None:
        raise InputError("No slice view is open.", "Choose a layout with slice views.")
    grid = gridOf(volumeNode)
    plane = np.linalg.inv(grid.affine_ras) @ fromVtkMatrix(view.GetSliceToRAS())
    for column in range(3):
        if np.abs(plane[column, :2]).max() < _PARALLEL:
            axis, index = 2 - column, int(np.floor(plane[column, 3] + 0.5))
            if 0 <= index < grid.shape_kji[axis]:
                return axis, index
    raise InputError(
        f"The view shows no slice of {volumeNode.GetName()} itself.",
        "Turn it to the volume's plane (Rotate to volume plane in the view's menu), and to a slice of the volume.",
    )


def showSlice(scene: Any, volumeNode: Any, place: tuple[int, int], centre_ras: Any) -> None:
    """Bring a slice into view.

    Args:
        scene: The scene.
        volumeNode: The volume.
        place: Axis (K, J, I) and index of the slice.
        centre_ras: What to show of it: a point, which is moved into the slice.
    """
    grid, (axis, index) = gridOf(volumeNode), place
    at = grid.ras_to_index(centre_ras)
    at[2 - axis] = index
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *grid.index_to_ras(at))
