"""Segmentation nodes for results: grid, transform, reference volume, and their place under the patient's study."""

from __future__ import annotations

from typing import Any

import slicer

from MedalSLib.errors import InputError
from MedalSLib.slicer import segments


def prepareSegmentation(segmentationNode: Any, volumeNode: Any) -> None:
    """Make a segmentation fit to take results of a volume; its segments stay as they are.

    An empty segmentation takes the volume's grid and parent transform.

    Raises:
        InputError: The segmentation holds surfaces as its source, or a non-linear transform lies between the two.
    """
    segmentation = segmentationNode.GetSegmentation()
    empty = segmentation.GetNumberOfSegments() == 0
    if empty and segmentationNode.GetParentTransformNode() is None:
        segmentationNode.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    segments.volumeMatrixIn(segmentationNode, volumeNode)
    if segmentation.GetSourceRepresentationName() != segments.LABELMAP:
        if not empty:
            raise InputError(
                f"{segmentationNode.GetName()} stores surfaces, which results would replace by voxels.",
                "Choose a new segmentation for the results; segments of this one can still be prompts.",
            )
        segmentation.SetSourceRepresentationName(segments.LABELMAP)
    role = segmentationNode.GetReferenceImageGeometryReferenceRole()
    if empty or segments.segmentationMatrix(segmentationNode) is None:
        segmentationNode.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    elif segmentationNode.GetNodeReference(role) is None:
        segmentationNode.SetNodeReferenceID(role, volumeNode.GetID())
    segmentationNode.CreateDefaultDisplayNodes()


def placeBesideVolume(node: Any, volumeNode: Any) -> bool:
    """Move a node's subject-hierarchy item to the volume's parent (its study); False if there is no hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(volumeNode.GetScene())
    if hierarchy is None:
        return False
    item, volumeItem = hierarchy.GetItemByDataNode(node), hierarchy.GetItemByDataNode(volumeNode)
    if not item or not volumeItem:
        return False
    hierarchy.SetItemParent(item, hierarchy.GetItemParent(volumeItem))
    return True


def addSegmentation(volumeNode: Any, name: str = "") -> Any:
    """Add a segmentation for a volume: same transform, its grid as reference, under its study.

    Args:
        volumeNode: The volume.
        name: Name of the new node; "<volume> segmentation" if empty.
    """
    scene = volumeNode.GetScene()
    wanted = name or f"{volumeNode.GetName()} segmentation"
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(wanted))
    prepareSegmentation(node, volumeNode)
    placeBesideVolume(node, volumeNode)
    return node
