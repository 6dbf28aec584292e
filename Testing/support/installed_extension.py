"""Load an installed extension as Slicer does, from its package alone, and open and close its panel.

`python -I installed_extension.py FOLDER`, where FOLDER is the package's `qt-scripted-modules`; exits with an error at
the first thing that goes wrong.  Nothing of the checkout is on the path but the stand-in host, no package is to be had
that Slicer does not ship, and opening a connection or a process is an error: a module must do none of it by itself.
"""

from __future__ import annotations

import importlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parent
CHECKOUT = SUPPORT.parents[1]
NOT_SHIPPED = {
    "torch", "torchvision", "transformers", "tokenizers", "safetensors", "cc3d", "rapidfuzz", "nibabel", "nrrd",
    "slicerio", "monai", "ray", "fastapi", "uvicorn", "starlette", "prometheus_client", "psutil", "platformdirs",
    "tqdm", "matplotlib", "openvino",
}  # fmt: skip
ROOMS = ("panel", "slicer", "vocabulary")
OTHERS = ("MedalSLib.engine", "MedalSLib.service.client", "MedalSLib.volume")


class Missing:
    """Refuses the packages that Slicer does not ship."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in NOT_SHIPPED:
            raise ModuleNotFoundError(f"No module named {name!r} (Slicer does not ship it)", name=name)


def leave_the_checkout() -> None:
    """Take the checkout off the path, whichever way it got there."""
    sys.path[:] = [entry for entry in sys.path if CHECKOUT not in (Path(entry).resolve(), Path(entry).resolve().parent)]
    sys.path.insert(0, str(SUPPORT))
    sys.meta_path.insert(0, Missing())  # type: ignore[arg-type]  # only the one method is asked for


def forbid_effects() -> None:
    """Make connections and processes an error."""

    def refuse(what: str) -> Any:
        def call(*_arguments: Any, **_keywords: Any) -> None:
            raise AssertionError(f"{what} while the module is loaded or its panel is opened")

        return call

    socket.socket.connect = refuse("a connection was opened")  # type: ignore[method-assign]
    socket.getaddrinfo = refuse("a name was looked up")
    subprocess.Popen.__init__ = refuse("a process was started")  # type: ignore[method-assign]
    os.system = refuse("a process was started")


def open_panel(module: Any, slicer: Any) -> None:
    """Make the module's widget in a frame, as Slicer does when its user chooses the module, and close it."""
    import qt

    frame = slicer.qMRMLWidget()
    frame.setLayout(qt.QVBoxLayout())
    frame.setMRMLScene(slicer.mrmlScene)
    widget = module.MedalSWidget(frame)
    widget.setup()
    shown = frame.findChildren(qt.QWidget)
    assert len(shown) > 50, f"the panel has only {len(shown)} widgets"
    frame.show()
    widget.enter()
    qt.QApplication.processEvents()
    widget.exit()
    frame.setMRMLScene(slicer.vtkMRMLScene())
    widget.cleanup()


def check_origins(modules: Path) -> None:
    """Every module of ours comes from the package, and nothing from the checkout but the stand-in host."""
    for name, module in sorted(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "/").resolve()
        if name.split(".")[0] in ("MedalS", "MedalSLib"):
            assert modules in file.parents, f"{name} was loaded from {file}, not from the package"
        else:
            assert CHECKOUT not in file.parents or SUPPORT in file.parents or CHECKOUT / ".venv" in file.parents, name


def main(modules: Path) -> None:
    """Load everything, in Slicer's order."""
    leave_the_checkout()
    import qt_host
    from slicer_host import host
    from slicer_host.module import loadModule

    here = host()
    qt_host.install(here.slicer)
    forbid_effects()
    module, parent = loadModule(modules / "MedalS.py")
    assert parent.icon, "the icon was not found"
    assert not [name for name in sys.modules if name.startswith("MedalSLib")], "loading the module loads the library"
    here.app.emit("startupCompleted()")
    open_panel(module, here.slicer)
    for room in ROOMS:
        for path in sorted((modules / "MedalSLib" / room).rglob("*.py")):
            importlib.import_module(".".join(path.relative_to(modules).with_suffix("").parts).removesuffix(".__init__"))
    for name in OTHERS:
        importlib.import_module(name)
    from MedalSLib.resources import resource

    assert modules in Path(resource("Vocabulary", "structures.csv")).resolve().parents
    check_origins(modules)
    import slicer.packaging

    assert not slicer.packaging.installs, "packages were installed"
    qt_host.journal.check()
    sys.stdout.write(f"loaded {sum(name.startswith('MedalSLib') for name in sys.modules)} modules of the package\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
