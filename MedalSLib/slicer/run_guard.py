"""Cancels a run if its scene is closed, or if its volume or segmentation is removed."""

from __future__ import annotations

import threading
from typing import Any

import slicer
import vtk


class RunGuard:
    """A context manager that sets `cancel` when the scene closes or a watched node leaves it.

    Args:
        scene: vtkMRMLScene of the run.
        cancel: The run's cancel event.

    Attributes:
        reason: What happened, as a sentence; empty while everything is there.
    """

    def __init__(self, scene: Any, cancel: threading.Event) -> None:
        self._scene = scene
        self._cancel = cancel
        self._roles: dict[str, str] = {}
        self._tags: list[int] = []
        self.reason = ""

    def watch(self, node: Any, role: str) -> None:
        """Cancel the run when this node is removed; `role` ("volume") is what the sentence calls it."""
        self._roles[node.GetID()] = role

    def __enter__(self) -> RunGuard:
        def sceneClosing(_scene: Any, _event: str) -> None:
            self._stop("The scene was closed during the run.")

        def nodeRemoved(_scene: Any, _event: str, node: Any) -> None:
            role = self._roles.get(node.GetID() or "") if node is not None else None
            if role is not None:
                self._stop(f"The {role} {node.GetName()} was removed during the run.")

        nodeRemoved.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]  # VTK reads the type off the function
        self._tags = [
            self._scene.AddObserver(slicer.vtkMRMLScene.StartCloseEvent, sceneClosing),
            self._scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, nodeRemoved),
        ]
        return self

    def __exit__(self, *_error: object) -> None:
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _stop(self, reason: str) -> None:
        self.reason = self.reason or reason  # closing a scene removes its nodes too: the first sentence says it best
        self._cancel.set()
