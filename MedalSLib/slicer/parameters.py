"""The module's state in the scene: typed accessors over a parameter node.

What belongs to the computer and not to the scene (server address, model folder, consent) is kept in the application's
settings by the panel, and keys are kept nowhere: no accessor here takes one, and `Parameters` has no way to set a
parameter it does not declare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Generic, TypeVar, cast, overload

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

    @overload
    def __get__(self, instance: None, owner: type) -> Parameter[Value]: ...

    @overload
    def __get__(self, instance: Parameters, owner: type) -> Value: ...

    def __get__(self, instance: Parameters | None, owner: type) -> Parameter[Value] | Value:
        if instance is None:
            return self
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

    def __get__(self, instance: Parameters | None, owner: type) -> Any:
        if instance is None:
            return self
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
    return json.dumps(value, ensure_ascii=False, sort_keys=isinstance(value, Mapping))


def text(default: str = "") -> Parameter[str]:
    """Return a parameter of free text."""
    return Parameter(default, str)


def flag(default: bool) -> Parameter[bool]:
    """Return a parameter that is on or off."""
    return Parameter(default, _flag, lambda value: "true" if value else "false")


def number(default: int) -> Parameter[int]:
    """Return a whole-number parameter."""
    return Parameter(default, int)


def names() -> Parameter[tuple[str, ...]]:
    """Return a parameter of several texts, in order."""
    return Parameter(cast("tuple[str, ...]", ()), _names, lambda value: _json(list(value)))


def mapping() -> Parameter[dict[str, str]]:
    """Return a parameter that maps texts to texts; assign a new mapping to change it."""
    return Parameter(cast("dict[str, str]", {}), _texts, _json)


def choice(default: Enum) -> Parameter[Any]:
    """Return a parameter that is one of an enumeration's values."""
    kind = type(default)
    return Parameter(default, kind, lambda value: str(value.value))


class Parameters:
    """The state of the module in one scene.

    Args:
        node: Returns the parameter node, a new one after the scene was closed; `Logic.getParameterNode` does.
    """

    volume = Reference("vtkMRMLScalarVolumeNode")
    segmentation = Reference("vtkMRMLSegmentationNode")
    region = Reference("vtkMRMLMarkupsROINode")

    prompt = text()
    """What was typed, as it was typed."""
    modality = text()
    """Modality the user chose; empty for the detected one."""
    model = text("starter")
    overlap = choice(Overlap.ALLOW)
    allFrames = flag(False)
    firstStageOnly = flag(False)
    separateInstances = flag(False)
    seed = number(0)
    spatialPrompts = mapping()
    """Published name by ID of each segment that serves as a prompt."""
    excluded = names()
    """IDs of segments that no result may enter."""
    windows = mapping()
    """Intensity window by published name, where the user changed it."""

    def __init__(self, node: Callable[[], Any]) -> None:
        self._node = node

    @property
    def node(self) -> Any:
        """The parameter node of the scene as it is now."""
        return self._node()

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"Parameters has no {name}: declare it, or keep it out of the scene.")
        object.__setattr__(self, name, value)
