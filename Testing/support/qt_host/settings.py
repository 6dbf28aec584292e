"""QSettings as it is after a restart of the application: every value comes back as a text."""

from __future__ import annotations

from typing import Any

stored: dict[str, str] = {}


class QSettings:
    def value(self, key: str, default: Any = None) -> Any:
        return stored.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        stored[key] = {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)

    def contains(self, key: str) -> bool:
        return key in stored

    def remove(self, key: str) -> None:
        stored.pop(key, None)

    def sync(self) -> None:
        pass
