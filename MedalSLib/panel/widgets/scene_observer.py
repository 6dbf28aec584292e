"""Tells the panel when the scene closes and when nodes or segments it shows come, go or change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer
import vtk

from MedalSLib.panel.defaults import nodesOf

SHOWN = ("vtkMRMLVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLSequenceBrowserNode")


class SceneObserver:
    """Observes the scene, the segmentation and volume that are chosen, and which volume the slice views show.

    Args:
        scene: The scene.
        closing: Called before the scene closes.
        changed: Called when something changed; with True after the scene was closed or another one was read.
    """

    def __init__(self, scene: Any, closing: Callable[[], None], changed: Callable[..., None]) -> None:
        self._scene = scene
        self._changed = changed
        self._tags: list[tuple[Any, int]] = []
        self._followed: list[tuple[Any, int]] = []
        kind = slicer.vtkMRMLScene

        def node(_scene: Any, _event: str, one: Any) -> None:
            if one is not None and not scene.IsClosing() and any(one.IsA(name) for name in SHOWN):
                changed()

        node.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]  # VTK reads the type off the function
        for event, function in (
            (kind.StartCloseEvent, lambda *_: closing()),
            (kind.EndCloseEvent, lambda *_: changed(True)),
            (kind.EndImportEvent, lambda *_: changed()),
            (kind.NodeAddedEvent, node),
            (kind.NodeRemovedEvent, node),
        ):
            self._tags.append((scene, scene.AddObserver(event, function)))

    def follow(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Observe another segmentation and volume."""
        self._release(self._followed)
        if segmentationNode is not None:
            segmentation = segmentationNode.GetSegmentation()
            for event in (
                slicer.vtkSegmentation.SegmentAdded,
                slicer.vtkSegmentation.SegmentRemoved,
                slicer.vtkSegmentation.SegmentModified,
                slicer.vtkSegmentation.SourceRepresentationModified,  # a stroke of the brush
            ):
                self._followed.append((segmentation, segmentation.AddObserver(event, lambda *_: self._changed())))
        for view in nodesOf(self._scene, "vtkMRMLSliceCompositeNode"):
            self._followed.append((view, view.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._changed())))
        if volumeNode is not None:
            for event in (volumeNode.ImageDataModifiedEvent, vtk.vtkCommand.ModifiedEvent):
                self._followed.append((volumeNode, volumeNode.AddObserver(event, lambda *_: self._changed())))

    def close(self) -> None:
        """Stop observing."""
        self._release(self._followed)
        self._release(self._tags)

    @staticmethod
    def _release(tags: list[tuple[Any, int]]) -> None:
        for subject, tag in tags:
            subject.RemoveObserver(tag)
        tags.clear()
