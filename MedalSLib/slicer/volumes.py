"""Volume nodes as arrays on a grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk

from MedalSLib.errors import InputError
from MedalSLib.slicer import transforms
from MedalSLib.slicer.oriented_image import fromVtkMatrix
from MedalSLib.volume.box import Shape
from MedalSLib.volume.geometry import Grid


@dataclass(frozen=True, eq=False)
class VolumeImage:
    """A volume node as the engine takes it.

    Attributes:
        name: Name of the node.
        array: Intensities (K, J, I): the node's own memory if they were read without a copy.
        grid: Index (i, j, k) to world RAS millimetres, parent transform included.  Under a non-linear transform the
            voxels form a grid in the node's own RAS only, which it leads to then; results belong to nodes under the
            same transform.
        signature: Differs when the voxels or their place differ; the key of caches.
    """

    name: str
    array: np.ndarray
    grid: Grid
    signature: tuple[Any, ...]


def readVolume(node: Any, copy: bool = True) -> VolumeImage:
    """Return a volume node's voxels and their place.

    Args:
        node: The volume node.
        copy: Whether to copy the voxels, so that what the user does to the node meanwhile does not reach them.

    Raises:
        InputError: No node, or not a scalar 3-D volume with voxels on an invertible grid; says which and what to do.
    """
    reason, remedy = whyUnusable(node)
    if reason:
        raise InputError(reason, remedy)
    array = slicer.util.arrayFromVolume(node)
    return VolumeImage(node.GetName() or "", np.array(array) if copy else array, gridOf(node), signatureOf(node))


def gridOf(node: Any) -> Grid:
    """Return the grid of a volume node: to world RAS, or to its own RAS under a non-linear transform."""
    matrix = localMatrix(node)
    if transforms.isLinearToWorld(node):
        matrix = transforms.matrixToWorld(node) @ matrix
    return Grid(shapeOf(node), matrix)


def shapeOf(node: Any) -> Shape:
    """Return the number of voxels of a volume node along (k, j, i)."""
    i, j, k = node.GetImageData().GetDimensions()
    return k, j, i


def localMatrix(node: Any) -> np.ndarray:
    """Return the 4x4 matrix from index (i, j, k) to the node's own RAS, without any parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return fromVtkMatrix(matrix)


def signatureOf(node: Any) -> tuple[Any, ...]:
    """Return a value that differs when the node's voxels or their place differ."""
    image = node.GetImageData()
    grid = gridOf(node)
    scalars = image.GetPointData().GetScalars()
    return node.GetID(), image.GetMTime(), scalars.GetMTime(), grid.shape_kji, grid.affine_ras.tobytes()


def whyUnusable(node: Any) -> tuple[str, str]:
    """Return why a volume node cannot be segmented and what to do about it; two empty texts if it can."""
    if node is None:
        return "No volume is chosen.", "Load an image and choose it as the input volume."
    name = node.GetName() or node.GetID()
    if not node.IsA("vtkMRMLVolumeNode"):
        return f"{name} is not a volume.", "Choose an image as the input volume."
    if node.IsA("vtkMRMLLabelMapVolumeNode"):
        return f"{name} is a label map, not an image.", "Choose the image that it was drawn on."
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or image.GetNumberOfPoints() == 0:
        return f"{name} has no voxels.", "Load the image again, or choose another volume."
    components = image.GetNumberOfScalarComponents()
    if not node.IsA("vtkMRMLScalarVolumeNode") or components != 1 or node.IsA("vtkMRMLVectorVolumeNode"):
        return (
            f"{name} has {components} values in each voxel (a colour, vector or 4-D volume), not one.",
            "Extract one component or one frame as a scalar volume (Vector to Scalar Volume, MultiVolume Explorer) "
            "and choose that.",
        )
    if node.IsA("vtkMRMLTensorVolumeNode") or node.IsA("vtkMRMLDiffusionWeightedVolumeNode"):
        return f"{name} is a diffusion volume.", "Choose a scalar volume computed from it."
    return "", ""
