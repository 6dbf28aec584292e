"""Notices when a run loses its ground: the scene closed, the volume or the segmentation removed."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import slicer
import vtk


class SceneWatch:
    """While in use, sets `cancel` when the scene closes or a watched node leaves it.

    Args:
        scene: The scene.
        cancel: Set when the ground is lost.

    Attributes:
        lost: What happened, as a sentence; empty while all is well.
    """

    def __init__(self, scene: Any, cancel: threading.Event) -> None:
        self._scene = scene
        self._cancel = cancel
        self._nodes: dict[str, str] = {}
        self._tags: list[int] = []
        self.lost = ""

    def follow(self, node: Any, role: str) -> None:
        """Watch a node too; `role` is its part in the sentence ("volume")."""
        self._nodes[node.GetID()] = role

    def __enter__(self) -> SceneWatch:
        def closing(_scene: Any, _event: str) -> None:
            self._lose("The scene was closed during the run.")

        def leaving(_scene: Any, _event: str, node: Any) -> None:
            role = self._nodes.get(node.GetID() or "") if node is not None else None
            if role is not None:
                self._lose(f"The {role} {node.GetName()} was removed during the run.")

        leaving.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]  # VTK reads the type off the function
        self._tags = [
            self._scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, closing),
            self._scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, leaving),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _lose(self, sentence: str) -> None:
        self.lost = self.lost or sentence
        self._cancel.set()
