"""What belongs to this computer and not to the scene: engine, server address, consent.  Never a key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

PREFIX = "MedalS/"


class Store(Protocol):
    """Where the application keeps texts between sessions; QSettings fits, whose methods take no keywords."""

    def value(self, key: str, default: Any = None, /) -> Any:
        """Return what is kept under a key, whatever type the store made of it."""
        ...

    def setValue(self, key: str, value: Any, /) -> None:
        """Keep a value."""
        ...


class MemoryStore:
    """Keeps values as QSettings gives them back after a restart: as texts."""

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, str] = dict(values or {})

    def value(self, key: str, default: Any = None) -> Any:
        """Return a value as a text."""
        return self.values.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        """Keep a value as a text."""
        self.values[key] = value if isinstance(value, str) else str(value)


class Settings:
    """Typed access to the store; there is a property for each value and no way to keep anything else.

    Args:
        store: QSettings, or `MemoryStore` in tests.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def engineKind(self) -> str:
        """Kind of engine: "isolated", "in-process" or "remote"."""
        return self._text("engine/kind", "isolated")

    @engineKind.setter
    def engineKind(self, kind: str) -> None:
        self._set("engine/kind", kind)

    @property
    def device(self) -> str:
        """Device of the local engine: "auto", "cpu", "cuda" or "mps"."""
        return self._text("engine/device", "auto")

    @device.setter
    def device(self, device: str) -> None:
        self._set("engine/device", device)

    @property
    def serverUrl(self) -> str:
        """Address of the server, as typed."""
        return self._text("engine/url", "")

    @serverUrl.setter
    def serverUrl(self, url: str) -> None:
        self._set("engine/url", url.strip())

    @property
    def consentedHosts(self) -> tuple[str, ...]:
        """Servers to which the user allowed images to be sent."""
        return self._names("engine/consent")

    @consentedHosts.setter
    def consentedHosts(self, hosts: tuple[str, ...]) -> None:
        self._set("engine/consent", json.dumps(list(hosts)))

    @property
    def pendingInstall(self) -> str:
        """Which installation goes on after the restart; empty for none."""
        return self._text("install/pending", "")

    @pendingInstall.setter
    def pendingInstall(self, what: str) -> None:
        self._set("install/pending", what)

    def _text(self, key: str, default: str) -> str:
        value = self._store.value(PREFIX + key, default)
        return default if value is None else str(value)

    def _names(self, key: str) -> tuple[str, ...]:
        try:
            found = json.loads(self._text(key, "[]"))
        except ValueError:
            return ()
        return tuple(str(name) for name in found) if isinstance(found, list) else ()

    def _set(self, key: str, value: str) -> None:
        self._store.setValue(PREFIX + key, value)
