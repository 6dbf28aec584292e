"""A markups ROI as a mask on a volume."""

from __future__ import annotations

from typing import Any

import numpy as np
import vtk

from MedalSLib.errors import InputError
from MedalSLib.slicer import transforms, volumes
from MedalSLib.slicer.oriented_image import fromVtkMatrix
from MedalSLib.volume.mask import BoxMask


def roiMask(roiNode: Any, volumeNode: Any) -> BoxMask:
    """Return the voxels (K, J, I) of a volume whose centres lie in a markups ROI, rotated or transformed as it may be.

    Raises:
        InputError: The ROI is not placed, is not a box, or holds no voxel of the volume; or one of the two is under a
            non-linear transform.
    """
    name = roiNode.GetName() or roiNode.GetID()
    size = np.array(roiNode.GetSize())
    if roiNode.GetNumberOfControlPoints() < 1 and not size.any():
        raise InputError(f"The region {name} is not placed yet.", "Place it in a slice view, or choose no region.")
    if (size <= 0).any():
        raise InputError(f"The region {name} has no extent in every direction.", "Make it larger.")
    voxelToRoi = _worldToRoi(roiNode, name) @ _indexToWorld(volumeNode)
    corners = np.array([[(-1, 1)[bit >> axis & 1] for axis in range(3)] for bit in range(8)]) * size / 2
    toIndex = np.linalg.inv(voxelToRoi)
    index = corners @ toIndex[:3, :3].T + toIndex[:3, 3]
    # A voxel belongs to the region if its centre does; rounding must not exclude one on the region's face.
    low = np.maximum(np.ceil(index.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(index.max(axis=0) + 1e-6) + 1, volumeNode.GetImageData().GetDimensions()).astype(int)
    if (low >= high).any():
        raise InputError(
            f"The region {name} contains no voxel of {volumeNode.GetName()}.", "Move the region onto the image."
        )
    inside = _inside(voxelToRoi, low, high, size / 2)
    if not inside.any():
        raise InputError(f"The region {name} contains no voxel of {volumeNode.GetName()}.", "Make the region larger.")
    return BoxMask.from_crop(inside, low[::-1], volumes.shapeOf(volumeNode))


def _inside(toRoi: np.ndarray, low: np.ndarray, high: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Return which voxels from `low` to `high` (i, j, k) lie in the ROI of half size `half`, boolean (K, J, I)."""
    k, j, i = np.ogrid[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    inside: np.ndarray = np.ones((high - low)[::-1], bool)
    for row in range(3):
        place = toRoi[row, 0] * i + toRoi[row, 1] * j + toRoi[row, 2] * k + toRoi[row, 3]
        inside &= np.abs(place) <= half[row] + 1e-6
    return inside


def _worldToRoi(roiNode: Any, name: str) -> np.ndarray:
    if not transforms.isLinearToWorld(roiNode):
        raise InputError(
            f"The region {name} is under a non-linear transform, so it is no box.", "Take it out of the transform."
        )
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(roiNode.GetObjectToWorldMatrix())
    matrix.Invert()
    return fromVtkMatrix(matrix)


def _indexToWorld(volumeNode: Any) -> np.ndarray:
    if not transforms.isLinearToWorld(volumeNode):
        raise InputError(
            f"{volumeNode.GetName()} is under a non-linear transform, so a region in world space is no box of it.",
            "Segment the whole volume, or harden the transform first.",
        )
    return np.asarray(volumes.gridOf(volumeNode).affine_ras)
