"""What belongs to this computer and not to the scene: engine, server address, consent.  Never a key."""

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

    def __init__(self, store: Any) -> None:
        self.store = store

    @property
    def consentedHosts(self) -> tuple[str, ...]:
        """Servers to which the user allowed images to be sent."""
        try:
            found = json.loads(self._consent)
        except ValueError:
            return ()
        return tuple(str(name) for name in found) if isinstance(found, list) else ()

    @consentedHosts.setter
    def consentedHosts(self, hosts: tuple[str, ...]) -> None:
        self._consent = json.dumps(list(hosts))
