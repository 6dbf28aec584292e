"""Put `qt`, `ctk` and the qMRML widgets where Slicer's scripts look for them."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

REFUSED = {
    "Signal": "PythonQt has no signals of Python's own",
    "Slot": "PythonQt has no slot decorator",
    "Property": "PythonQt has no properties of Python's own",
    "QRegExp": "Qt 5 only",
    "QDesktopWidget": "Qt 5 only",
    "QTextCodec": "Qt 5 only",
    "QStringList": "a Python list",
}
_application: Any = None


def why_not() -> str:
    """The reason why the stand-in cannot start here, empty if it can."""
    if importlib.util.find_spec("PySide6") is None:
        return "PySide6-Essentials is not installed (pip install 'PySide6-Essentials>=6.7,<6.9')"
    try:
        importlib.import_module("PySide6.QtWidgets")
    except ImportError as error:
        return (
            f"Qt cannot be loaded ({error}); on Debian: apt-get install libxkbcommon0 libdbus-1-3 libfontconfig1 "
            "libegl1 libgl1 fonts-dejavu-core"
        )
    return ""


def install(slicer: ModuleType | None = None) -> Any:
    """Start an offscreen application, once, and install the modules; returns the QApplication.

    Args:
        slicer: Module that gets the qMRML widgets; None for none.
    """
    global _application
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6 import QtCore, QtGui, QtWidgets

    if _application is None:
        _application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["medals-test"])
        _application.setStyle("Fusion")
        from qt_host import pythonqt

        pythonqt.apply()
        sys.modules["qt"] = _qt_module(QtCore, QtGui, QtWidgets)
        from qt_host import ctk_widgets

        sys.modules["ctk"] = _module("ctk", ctk_widgets.__all__, ctk_widgets)
    if slicer is not None:
        from qt_host import qmrml

        for name in qmrml.__all__:
            setattr(slicer, name, getattr(qmrml, name))
    return _application


def _qt_module(*sources: ModuleType) -> ModuleType:
    from qt_host.settings import QSettings

    module = ModuleType("qt")

    def find(name: str) -> Any:
        if name in REFUSED:
            raise AttributeError(f"qt.{name}: {REFUSED[name]}")
        if name == "QSettings":
            return QSettings
        for source in sources:
            if hasattr(source, name):
                return getattr(source, name)
        raise AttributeError(f"there is no qt.{name}")

    module.__getattr__ = find  # type: ignore[method-assign]
    return module


def _module(name: str, names: list[str], source: ModuleType) -> ModuleType:
    module = ModuleType(name)
    for item in names:
        setattr(module, item, getattr(source, item))
    return module
