"""What belongs to this computer and not to the scene: engine, server address, consent, prompts.  Never a key."""

from __future__ import annotations

import json
from typing import Any

PREFIX = "MedalS/"


class Text:
    """A text in the application's settings.

    Args:
        key: Its name there, below `PREFIX`.
        default: Value while there is none.
    """

    def __init__(self, key: str, default: str = "") -> None:
        self._key = PREFIX + key
        self._default = default

    def __get__(self, instance: Settings, owner: type) -> str:
        value = instance.store.value(self._key, self._default)
        return self._default if value is None else str(value)

    def __set__(self, instance: Settings, value: str) -> None:
        instance.store.setValue(self._key, value)


class Settings:
    """Typed access to the settings; there is a property for each value and no way to keep anything else.

    Args:
        store: QSettings.
    """

    engineKind = Text("engine/kind", "isolated")
    """Kind of engine: "isolated", "in-process" or "remote"."""
    device = Text("engine/device", "auto")
    """Device of the local engine: "auto", "cpu", "cuda" or "mps"."""
    serverUrl = Text("engine/url")
    """Address of the server, as typed."""
    pendingInstall = Text("install/pending")
    """Which installation goes on after the restart; empty for none."""
    _consent = Text("engine/consent", "[]")
    _prompts = Text("prompts/recent", "[]")

    def __init__(self, store: Any) -> None:
        self.store = store

    @property
    def consentedHosts(self) -> tuple[str, ...]:
        """Servers to which the user allowed images to be sent."""
        return _texts(self._consent)

    @consentedHosts.setter
    def consentedHosts(self, hosts: tuple[str, ...]) -> None:
        self._consent = json.dumps(list(hosts))

    @property
    def recentPrompts(self) -> tuple[str, ...]:
        """The last prompts, newest first: names of structures, nothing of a patient."""
        return _texts(self._prompts)

    @recentPrompts.setter
    def recentPrompts(self, prompts: tuple[str, ...]) -> None:
        self._prompts = json.dumps(list(prompts))


def _texts(value: str) -> tuple[str, ...]:
    try:
        found = json.loads(value)
    except ValueError:
        return ()
    return tuple(str(text) for text in found) if isinstance(found, list) else ()
