"""A markups ROI as a region of a volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from MedalSLib.errors import InputError
from MedalSLib.slicer import volumes
from MedalSLib.slicer.oriented_image import fromVtkMatrix
from MedalSLib.volume.geometry import Box


@dataclass(frozen=True, eq=False)
class Region:
    """Part of a volume's grid.

    Attributes:
        box: Half-open index bounds ((i0, i1), (j0, j1), (k0, k1)), the smallest that hold the region.
        inside: Boolean (K, J, I) on `box`: which of its voxels lie in the region; None if all do.
    """

    box: Box
    inside: np.ndarray | None = None


def regionOf(roiNode: Any, volumeNode: Any) -> Region:
    """Return the voxels of a volume whose centres lie in a markups ROI, rotated or transformed as it may be.

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
    voxelToBox = _worldToObject(roiNode, name) @ _indexToWorld(volumeNode)
    i, j, k = volumeNode.GetImageData().GetDimensions()
    corners = np.array([[(-1, 1)[bit >> axis & 1] for axis in range(3)] for bit in range(8)]) * size / 2
    toIndex = np.linalg.inv(voxelToBox)
    index = corners @ toIndex[:3, :3].T + toIndex[:3, 3]
    low = np.maximum(np.ceil(index.min(axis=0) - 1e-6), 0).astype(int)
    high = np.minimum(np.floor(index.max(axis=0) + 1e-6) + 1, (i, j, k)).astype(int)
    if (low >= high).any():
        raise InputError(
            f"The region {name} contains no voxel of {volumeNode.GetName()}.", "Move the region onto the image."
        )
    inside = _insideBox(voxelToBox, low, high, size / 2)
    if not inside.any():
        raise InputError(f"The region {name} contains no voxel of {volumeNode.GetName()}.", "Make the region larger.")
    box = tuple((int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Region((box[0], box[1], box[2]), None if inside.all() else inside)


def _insideBox(toBox: np.ndarray, low: np.ndarray, high: np.ndarray, half: np.ndarray) -> np.ndarray:
    axes = np.ogrid[low[2] : high[2], low[1] : high[1], low[0] : high[0]]
    k, j, i = axes
    inside: np.ndarray = np.ones((high - low)[::-1], bool)
    for row in range(3):
        place = toBox[row, 0] * i + toBox[row, 1] * j + toBox[row, 2] * k + toBox[row, 3]
        inside &= np.abs(place) <= half[row] + 1e-6
    return inside


def _worldToObject(roiNode: Any, name: str) -> np.ndarray:
    parent = roiNode.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise InputError(
            f"The region {name} is under a non-linear transform, so it is no box.", "Take it out of the transform."
        )
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(roiNode.GetObjectToWorldMatrix())
    matrix.Invert()
    return fromVtkMatrix(matrix)


def _indexToWorld(volumeNode: Any) -> np.ndarray:
    parent = volumeNode.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise InputError(
            f"{volumeNode.GetName()} is under a non-linear transform, so a region in world space is no box of it.",
            "Segment the whole volume, or harden the transform first.",
        )
    return np.asarray(volumes.gridOf(volumeNode).affine_ras)


def isRoi(node: Any) -> bool:
    """Whether a node is a markups ROI."""
    return bool(node is not None and isinstance(node, slicer.vtkMRMLMarkupsROINode))
