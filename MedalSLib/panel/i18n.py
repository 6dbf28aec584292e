"""Translation of the panel's texts; outside 3D Slicer the texts stay as they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast


def _identity(text: str) -> str:
    return text


def _translator() -> Callable[[str], str]:
    try:
        import slicer.i18n as i18n
    except ImportError:
        return _identity
    return cast("Callable[[str], str]", i18n.tr)


tr = _translator()
"""Returns a literal text in the user's language; values are filled in afterwards with `str.format`."""
