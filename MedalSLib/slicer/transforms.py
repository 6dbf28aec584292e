"""Parent transforms of nodes: matrices and transforms between the coordinates of two nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
import vtk

from MedalSLib.slicer.oriented_image import fromVtkMatrix


def isLinearToWorld(node: Any) -> bool:
    """Whether nothing, or a linear transform, takes the node's coordinates to the world."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def matrixToWorld(node: Any) -> np.ndarray:
    """Return the 4x4 matrix from the node's own RAS to world RAS; the parent transform must be linear."""
    return _matrixBetween(node.GetParentTransformNode(), None)


def matrixBetween(source: Any, target: Any) -> np.ndarray | None:
    """Return the 4x4 matrix from the RAS of one node to that of another, None if it is not linear.

    Two nodes under the same transform have the same coordinates, whatever that transform does.
    """
    general = generalBetween(source, target)
    if not slicer.vtkMRMLTransformNode.IsGeneralTransformLinear(general):
        return None
    return _matrixBetween(source.GetParentTransformNode(), target.GetParentTransformNode())


def generalBetween(source: Any, target: Any) -> Any:
    """Return the vtkGeneralTransform from the RAS of one node to that of another."""
    general = vtk.vtkGeneralTransform()
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(
        source.GetParentTransformNode(), target.GetParentTransformNode(), general
    )
    return general


def _matrixBetween(source: Any, target: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(source, target, matrix)
    return fromVtkMatrix(matrix)
