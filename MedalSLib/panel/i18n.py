"""Translation of the panel's texts; outside 3D Slicer the texts stay as they are written."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import cast


def _identity(text: str) -> str:
    return text


def _translator() -> Callable[[str], str]:
    """Return Slicer's own function, not one around it: it finds the text's context by the file that calls it."""
    if "slicer" not in sys.modules:  # not in the application: do not load its core for this
        return _identity
    try:
        return cast("Callable[[str], str]", importlib.import_module("slicer.i18n").tr)
    except ImportError:
        return _identity


tr = _translator()
"""Returns a literal text in the user's language; values are filled in afterwards with `str.format`."""
