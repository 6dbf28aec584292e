"""Phantoms and editors for the tests of the Slicer room."""

from __future__ import annotations

from typing import Any

import numpy as np


def affine(spacing=(1.0, 1.0, 1.0), directions=None, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Index (i, j, k) to RAS from spacing, direction columns and origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
    matrix[:3, 3] = origin
    return matrix


def rotation(axis, degrees) -> np.ndarray:
    """3x3 rotation about an axis (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


GRIDS = {
    "axial": affine((1.0, 1.0, 2.0), np.diag([-1, -1, 1]), (40, 35, -20)),
    "anisotropic": affine((0.8, 0.8, 4.0), None, (-20, -20, -30)),
    "oblique": affine((1.1, 0.9, 2.0), rotation((1, 2, 0.5), 33), (-12, 7, 5)),
    "left-handed": affine((1.0, 1.2, 1.5), np.diag([1, 1, -1]), (-20, -25, 30)),
    "flipped": affine((1.0, 1.0, 1.0), np.diag([-1, 1, -1]), (25, -20, 20)),
    "permuted": affine((1.0, 1.3, 0.9), np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), (-15, -20, -25)),
    "oblique left-handed": affine((1.4, 1.0, 1.2), rotation((0, 1, 1), 50) @ np.diag([1, -1, 1]), (3, 2, 1)),
}


def addVolume(scene: Any, shape=(24, 40, 48), matrix=None, name="CT") -> Any:
    """A scalar volume with a smooth pattern; `shape` is (K, J, I)."""
    import slicer

    k, j, i = np.ogrid[: shape[0], : shape[1], : shape[2]]
    array = ((i * 7 + j * 3 + k * 11) % 400 - 100).astype(np.int16)
    return slicer.util.addVolumeFromArray(array, affine() if matrix is None else np.asarray(matrix), name)


def ballRas(volumeNode: Any, centre, radius: float) -> np.ndarray:
    """Boolean (K, J, I): voxels of a volume whose world position lies in a ball; the truth of geometry tests."""
    from MedalSLib.slicer.volumes import gridOf

    grid = gridOf(volumeNode)
    k, j, i = np.indices(grid.shape_kji)
    places = grid.index_to_ras(np.stack([i, j, k], axis=-1))
    return np.linalg.norm(places - np.asarray(centre), axis=-1) <= radius


def centreRas(volumeNode: Any) -> np.ndarray:
    """World RAS of a volume's middle."""
    from MedalSLib.slicer.volumes import gridOf

    grid = gridOf(volumeNode)
    return grid.index_to_ras((np.asarray(grid.shape_ijk) - 1) / 2)


def box(shape, k, j, i) -> np.ndarray:
    """Boolean (K, J, I) with a box of voxels set; each bound is (from, to)."""
    mask = np.zeros(shape, bool)
    mask[k[0] : k[1], j[0] : j[1], i[0] : i[1]] = True
    return mask


def draw(segmentationNode: Any, volumeNode: Any, name: str, mask: np.ndarray) -> str:
    """A segment as a user would have drawn it: by Slicer's own functions, not by ours; returns its ID."""
    import slicer

    segmentID = segmentationNode.GetSegmentation().AddEmptySegment(name, name)
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentationNode, segmentID, volumeNode)
    return segmentID


def paint(editing: Any, segmentationNode: Any, segmentID: str, volumeNode: Any, mask: np.ndarray, erase=False) -> None:
    """A stroke (K, J, I on the volume's grid) with the editor's own logic, as the Paint and Erase effects make it."""
    from MedalSLib.slicer.volumes import localMatrix
    from MedalSLib.volume.mask import BoxMask

    editing.paint(segmentationNode, segmentID, BoxMask.of(mask), localMatrix(volumeNode), erase)


def slicerSays(segmentationNode: Any, segmentID: str, volumeNode: Any) -> np.ndarray:
    """The segment on the volume's grid by Slicer's own export: the reference for ours."""
    import slicer

    return slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, segmentID, volumeNode) > 0


def addLinear(scene: Any, matrix: np.ndarray) -> Any:
    """A linear transform node."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
    return node


def addWarp(scene: Any, shift=6.0) -> Any:
    """A smooth non-linear transform node (thin-plate spline)."""
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-60, 60):
        for y in (-60, 60):
            for z in (-60, 60):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x, y, z)
    source.InsertNextPoint(0, 0, 0)
    target.InsertNextPoint(shift, 0, 0)
    spline.SetSourceLandmarks(source)
    spline.SetTargetLandmarks(target)
    spline.SetBasisToR()
    node = scene.AddNewNodeByClass("vtkMRMLTransformNode")
    node.SetAndObserveTransformToParent(spline)
    return node


SHAPE = (24, 40, 48)
"""Of the volume that most tests write into."""
LIVER = box(SHAPE, (4, 16), (5, 25), (6, 30))
SPLEEN = box(SHAPE, (8, 20), (15, 35), (20, 44))
"""Overlaps the liver."""
