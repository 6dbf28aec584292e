"""A signal without Qt, so that presenters can say that something changed without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Signal:
    """Calls its listeners, in the order in which they were connected."""

    def __init__(self) -> None:
        self._listeners: list[Callable[..., None]] = []

    def connect(self, listener: Callable[..., None]) -> None:
        """Add a listener."""
        self._listeners.append(listener)

    def emit(self, *values: Any) -> None:
        """Call the listeners with these values."""
        for listener in list(self._listeners):
            listener(*values)
