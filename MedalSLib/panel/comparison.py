"""Before and after: shows the segments as they were before the run without touching the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import slicer

from MedalSLib.slicer.oriented_image import toOrientedImage
from MedalSLib.slicer.segments import LABELMAP
from MedalSLib.slicer.writer import Before


class Comparison:
    """Shows the former segments in a segmentation of their own while the changed ones are hidden.

    Args:
        segmentationNode: The segmentation with the result.
        before: How its changed segments were, by ID.
    """

    def __init__(self, segmentationNode: Any, before: Mapping[str, Before]) -> None:
        self._node = segmentationNode
        self._hidden: list[str] = []
        self._former: Any = None
        self._show(before)

    def close(self) -> None:
        """Show the result again; nodes that were removed meanwhile are left alone."""
        if self._former is not None and self._former.GetScene() is not None:
            self._former.GetScene().RemoveNode(self._former)
        self._former = None
        display = self._node.GetDisplayNode() if self._node.GetScene() is not None else None
        for segmentID in self._hidden:
            if display is not None:
                display.SetSegmentVisibility(segmentID, True)
        self._hidden.clear()

    def _show(self, before: Mapping[str, Before]) -> None:
        scene, display = self._node.GetScene(), self._node.GetDisplayNode()
        segmentation = self._node.GetSegmentation()
        former = scene.CreateNodeByClass("vtkMRMLSegmentationNode")
        former.UnRegister(None)
        former.SetName(f"{self._node.GetName()} before")
        former.SetHideFromEditors(True)
        former.SetSaveWithScene(False)
        self._former = scene.AddNode(former)
        self._former.SetAndObserveTransformNodeID(self._node.GetTransformNodeID())
        for segmentID, item in before.items():
            now = segmentation.GetSegment(segmentID)
            if item.mask is not None and not item.mask.is_empty and now is not None:
                segment = slicer.vtkSegment()
                segment.SetName(now.GetName())
                segment.SetColor(now.GetColor())
                segment.AddRepresentation(LABELMAP, toOrientedImage(item.mask, item.matrix))
                self._former.GetSegmentation().AddSegment(segment, segmentID)
            if now is not None and display is not None and display.GetSegmentVisibility(segmentID):
                display.SetSegmentVisibility(segmentID, False)
                self._hidden.append(segmentID)
        self._former.CreateDefaultDisplayNodes()
