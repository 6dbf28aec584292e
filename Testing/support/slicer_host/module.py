"""Load a scripted module as Slicer does: the file is imported, and the class of its name gets the module object."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


class ModuleObject:
    """The `parent` of a module's class: qSlicerScriptedLoadableModule's properties, and no other attribute."""

    __slots__ = (
        "acknowledgementText",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "index",
        "logo",
        "path",
        "title",
        "widgetRepresentationCreationEnabled",
    )

    def __init__(self, path: str) -> None:
        self.path = path
        self.icon = None
        self.hidden = False
        self.index = -1
        self.widgetRepresentationCreationEnabled = True


def loadModule(path: Path) -> tuple[Any, ModuleObject]:
    """Import a module file and make its module class.

    Returns:
        The Python module, and the module object as its class filled it.
    """
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    parent = ModuleObject(str(path))
    getattr(module, name)(parent)
    return module, parent
