"""Installations into 3D Slicer's Python with the application's own functions."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from MedalSLib.panel.install.processes import follow
from MedalSLib.panel.install.system import installedVersion, torchVersion


class SlicerHost:
    """3D Slicer 5.10 and newer, imported when a method needs it; `pump` lets it process its events."""

    def __init__(self, pump: Callable[[], None]) -> None:
        self._pump = pump

    def extensionInstalled(self, name: str) -> bool:
        """Whether an extension is installed; it is usable after a restart."""
        return bool(self._extensions().isExtensionInstalled(name))

    def installExtension(self, name: str) -> bool:
        """Install an extension without questions and without restarting at once."""
        model = self._extensions()
        asked = model.interactive
        model.interactive = False
        try:
            return bool(model.installExtensionFromServer(name, False))
        finally:
            model.interactive = asked

    def extensionUsable(self) -> bool:
        """Whether the PyTorch extension can be imported."""
        return importlib.util.find_spec("PyTorchUtils") is not None

    def installTorch(self, requirement: str, log: Callable[[str], None], cancel: threading.Event) -> None:
        """Install torch through the PyTorch extension; a broken one is taken away first.

        Args:
            requirement: Its versions.
            log: Gets the installer's output, line by line.
            cancel: Set it to stop the installer.

        Raises:
            CancelledError: `cancel` was set.
            CalledProcessError: The installer failed.
        """
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        with self._followed(log, cancel):
            if torchVersion() == "?":
                logic.uninstallTorch()
            logic.installTorch(askConfirmation=False, torchVersionRequirement=requirement)
        importlib.invalidate_caches()

    def installPackages(
        self, requirements: Sequence[str], constraints: Path, log: Callable[[str], None], cancel: threading.Event
    ) -> None:
        """Install packages with `slicer.packaging`, or with `slicer.util.pip_install` where that is not there yet.

        Args:
            requirements: Requirements as pip takes them; built packages only.
            constraints: File of pip constraints.
            log: Gets pip's output, line by line.
            cancel: Set it to stop pip.

        Raises:
            CancelledError: `cancel` was set.
            CalledProcessError: pip failed.
        """
        with _wheelsOnly(), self._followed(log, cancel):
            try:
                from slicer.packaging import pip_install
            except ImportError:  # 3D Slicer 5.10
                import slicer.util

                slicer.util.pip_install(["--constraint", str(constraints), *requirements])
            else:
                pip_install(list(requirements), constraints=constraints, show_progress=False, requester="Medal S")
        importlib.invalidate_caches()

    version = staticmethod(installedVersion)
    torchVersion = staticmethod(torchVersion)

    def loaded(self, name: str) -> bool:
        """Whether a package is imported already, so that another version of it needs a restart."""
        return name.replace("-", "_").casefold() in (module.casefold() for module in list(sys.modules))

    def unsaved(self) -> tuple[str, ...]:
        """Return the names of what a restart would lose, by the measure of the application's own question at its end.

        "" stands for the scene itself: an image that was loaded, and how it is shown.
        """
        import slicer
        import vtk

        nodes = vtk.vtkCollection()
        if slicer.mrmlScene.GetStorableNodesModifiedSinceRead(nodes):
            return tuple(nodes.GetItemAsObject(index).GetName() for index in range(nodes.GetNumberOfItems()))
        return ("",) if slicer.mrmlScene.GetModifiedSinceRead() else ()

    def save(self) -> bool:
        """Open the application's dialog for saving; return whether something was saved in it."""
        import slicer.util

        return bool(slicer.util.openSaveDataDialog())

    def restart(self) -> None:
        """Restart the application, which asks nothing (see `unsaved`)."""
        import slicer.util

        slicer.util.restart()

    @contextmanager
    def _followed(self, log: Callable[[str], None], cancel: threading.Event) -> Iterator[None]:
        """Let the window live while an installer works, and let it be stopped.

        3D Slicer reads what its installers say with a function of its own, which waits for each line: minutes, while
        a large file is fetched.  Another one takes its place meanwhile, whoever starts the installer.
        """
        import slicer.util

        former = slicer.util.logProcessOutput

        def read(proc: Any, logCallback: Callable[[str], None] | None = None) -> None:
            follow(proc, logCallback or log, self._pump, cancel)

        slicer.util.logProcessOutput = read
        try:
            yield
        finally:
            slicer.util.logProcessOutput = former

    @staticmethod
    def _extensions() -> Any:
        import slicer

        return slicer.app.extensionsManagerModel()


@contextmanager
def _wheelsOnly() -> Iterator[None]:
    """Let pip take built packages only: nothing is compiled on a clinician's computer."""
    former = os.environ.get("PIP_ONLY_BINARY")
    os.environ["PIP_ONLY_BINARY"] = ":all:"
    try:
        yield
    finally:
        if former is None:
            del os.environ["PIP_ONLY_BINARY"]
        else:
            os.environ["PIP_ONLY_BINARY"] = former
