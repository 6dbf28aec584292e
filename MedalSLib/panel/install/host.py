"""Installations into 3D Slicer's Python with the application's own functions."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from MedalSLib.panel.install.system import installedVersion, torchVersion

POLL_SECONDS = 0.03


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
        model.interactive = False
        return bool(model.installExtensionFromServer(name, False))

    def extensionUsable(self) -> bool:
        """Whether the PyTorch extension can be imported."""
        return importlib.util.find_spec("PyTorchUtils") is not None

    def installTorch(self, requirement: str) -> None:
        """Install torch through the PyTorch extension; a broken one is taken away first."""
        import PyTorchUtils

        logic = PyTorchUtils.PyTorchUtilsLogic()
        if torchVersion() == "?":
            logic.uninstallTorch()
        logic.installTorch(askConfirmation=False, torchVersionRequirement=requirement)
        importlib.invalidate_caches()

    def installPackages(self, requirements: Sequence[str], constraints: Path, log: Callable[[str], None]) -> None:
        """Install packages with `slicer.packaging`, or with `slicer.util.pip_install` where that is not there yet.

        Args:
            requirements: Requirements as pip takes them; built packages only.
            constraints: File of pip constraints.
            log: Gets pip's output, line by line.

        Raises:
            CalledProcessError: pip failed.
        """
        with _wheelsOnly():
            try:
                from slicer.packaging import pip_install
            except ImportError:  # 3D Slicer 5.10
                import slicer.util

                slicer.util.pip_install(["--constraint", str(constraints), *requirements])
            else:
                self._drive(pip_install, list(requirements), constraints, log)
        importlib.invalidate_caches()

    version = staticmethod(installedVersion)
    torchVersion = staticmethod(torchVersion)

    def loaded(self, name: str) -> bool:
        """Whether a package is imported already, so that another version of it needs a restart."""
        return name.replace("-", "_").casefold() in (module.casefold() for module in list(sys.modules))

    def restart(self) -> None:
        """Restart the application; it asks the user about unsaved data."""
        import slicer.util

        slicer.util.restart()

    def _drive(
        self, pipInstall: Callable[..., object], requirements: list[str], constraints: Path, log: Callable[[str], None]
    ) -> None:
        """Wait for pip while the application goes on."""
        done = threading.Event()
        codes: list[int] = []

        def completed(code: int) -> None:
            codes.append(code)
            done.set()

        pipInstall(
            requirements,
            constraints=constraints,
            blocking=False,
            show_progress=False,
            requester="Medal S",
            logCallback=log,
            completedCallback=completed,
        )
        while not done.wait(POLL_SECONDS):
            self._pump()
        if codes[0] != 0:
            raise CalledProcessError(codes[0], "pip install")

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
