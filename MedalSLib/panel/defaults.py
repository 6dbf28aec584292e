"""Which volume and segmentation a user most likely means, from what is shown and edited."""

from __future__ import annotations

from typing import Any

from MedalSLib.slicer.volumes import whyUnusable


def shownVolume(scene: Any) -> Any:
    """Return the volume that is shown in the slice views and can be segmented; None if there is none."""
    for node in nodesOf(scene, "vtkMRMLSliceCompositeNode"):
        for identifier in (node.GetBackgroundVolumeID(), node.GetForegroundVolumeID()):
            volume = scene.GetNodeByID(identifier) if identifier else None
            if volume is not None and not whyUnusable(volume)[0]:
                return volume
    return None


def likelyVolume(scene: Any) -> Any:
    """Return the volume that is shown in the slice views, else the first one that can be segmented; None if none."""
    shown = shownVolume(scene)
    if shown is not None:
        return shown
    usable = (node for node in nodesOf(scene, "vtkMRMLScalarVolumeNode") if not whyUnusable(node)[0])
    return next(usable, None)


def likelySegmentation(scene: Any, volume: Any) -> Any:
    """Return the segmentation of a volume that is in the Segment Editor, else one drawn on it; None for a new one."""
    if volume is None:
        return None
    for editor in nodesOf(scene, "vtkMRMLSegmentEditorNode"):
        node = editor.GetSegmentationNode()
        if node is not None and belongsTo(node, volume):
            return node
    drawn = (node for node in nodesOf(scene, "vtkMRMLSegmentationNode") if _referenceOf(node) is volume)
    return next(drawn, None)


def belongsTo(segmentation: Any, volume: Any) -> bool:
    """Whether a segmentation was drawn on a volume, or on none yet."""
    reference = _referenceOf(segmentation)
    return reference is None or reference is volume


def _referenceOf(segmentation: Any) -> Any:
    return segmentation.GetNodeReference(segmentation.GetReferenceImageGeometryReferenceRole())


def nodesOf(scene: Any, kind: str) -> list[Any]:
    """Return the nodes of a class."""
    return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]
