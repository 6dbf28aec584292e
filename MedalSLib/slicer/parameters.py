"""The module's state in the scene: typed accessors over a parameter node.

What belongs to the computer and not to the scene (server address, model folder, consent) is kept in the application's
settings by the panel, and keys are kept nowhere: no accessor here takes one, and `Parameters` has no way to set a
parameter it does not declare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from MedalSLib.slicer.request import Overlap

Value = TypeVar("Value")


class Parameter(Generic[Value]):
    """One value, kept as text in the node; a text that cannot be read counts as the default.

    Args:
        default: Value while the node has none.
        decode: Text to value; raises ValueError, KeyError or TypeError for a text that is none.
        encode: Value to text.
    """

    def __init__(self, default: Value, decode: Callable[[str], Value], encode: Callable[[Value], str] = str) -> None:
        self.default = default
        self._decode = decode
        self._encode = encode
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Parameters, owner: type) -> Value:
        text = instance.node.GetParameter(self._name)
        if not text:
            return self.default
        try:
            return self._decode(text)
        except (ValueError, KeyError, TypeError):
            return self.default

    def __set__(self, instance: Parameters, value: Value) -> None:
        text = self._encode(value)
        node = instance.node
        if node.GetParameter(self._name) != text:
            node.SetParameter(self._name, text)


class Reference:
    """A node of the scene; survives saving, loading and the node's removal (None then).

    Args:
        className: Class the node must be of; others count as none.
    """

    def __init__(self, className: str) -> None:
        self.className = className
        self._role = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._role = name

    def __get__(self, instance: Parameters, owner: type) -> Any:
        node = instance.node.GetNodeReference(self._role)
        return node if node is not None and node.IsA(self.className) else None

    def __set__(self, instance: Parameters, node: Any) -> None:
        identifier = node.GetID() if node is not None else None
        if instance.node.GetNodeReferenceID(self._role) != identifier:
            instance.node.SetNodeReferenceID(self._role, identifier)


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _texts(text: str) -> dict[str, str]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return {str(key): str(value) for key, value in found.items()}


def _names(text: str) -> tuple[str, ...]:
    found = json.loads(text)
    if not isinstance(found, list):
        raise ValueError(text)
    return tuple(str(name) for name in found)


def _json(value: object) -> str:
    # Sorted keys: the same mapping is the same text, so that setting it again does not modify the node.
    return json.dumps(value, ensure_ascii=False, sort_keys=isinstance(value, Mapping))


class Parameters:
    """The state of the module in one scene.

    Args:
        node: Returns the parameter node, a new one after the scene was closed; `Logic.getParameterNode` does.
    """

    volume = Reference("vtkMRMLScalarVolumeNode")
    segmentation = Reference("vtkMRMLSegmentationNode")
    region = Reference("vtkMRMLMarkupsROINode")

    prompt = Parameter("", str)
    """What was typed, as it was typed."""
    modality = Parameter("", str)
    """Modality the user chose; empty for the detected one."""
    model = Parameter("starter", str)
    overlap = Parameter(Overlap.ALLOW, Overlap, lambda overlap: overlap.value)
    allFrames = Parameter(False, _flag, _json)
    firstStageOnly = Parameter(False, _flag, _json)
    separateInstances = Parameter(False, _flag, _json)
    seed = Parameter(0, int)
    spatialPrompts = Parameter[dict[str, str]]({}, _texts, _json)
    """Published name by ID of each segment that serves as a prompt; assign a new mapping to change it."""
    excluded = Parameter[tuple[str, ...]]((), _names, _json)
    """IDs of segments that no result may enter."""
    windows = Parameter[dict[str, str]]({}, _texts, _json)
    """Intensity window by published name, "*" for all, where the user changed it."""

    def __init__(self, node: Callable[[], Any]) -> None:
        self._node = node

    @property
    def node(self) -> Any:
        """The parameter node of the scene as it is now."""
        return self._node()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and name not in vars(Parameters):
            raise AttributeError(f"Parameters has no {name}: declare it, or keep it out of the scene.")
        object.__setattr__(self, name, value)
