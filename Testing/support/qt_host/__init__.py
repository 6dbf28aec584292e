"""A stand-in for Slicer's Qt: PySide6 behind modules `qt` and `ctk` that behave as PythonQt does, and are strict.

What PythonQt silently accepts and then does not do (a connection to a signal that does not exist, an attribute that no
C++ object has, an exception in a slot, a modal dialog that nobody answers) fails a test here.  The qMRML widgets are
small, have the names and properties of the real ones and no others, and are bound to the scene they are given.
"""

from __future__ import annotations

from qt_host.boot import install, why_not
from qt_host.journal import journal

__all__ = ["install", "journal", "why_not"]
