"""Puts what the local engine needs into 3D Slicer's Python: torch through the PyTorch extension, then the rest."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from MedalSLib.errors import CancelledError, MedalSError, ResourceError
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install import packages
from MedalSLib.panel.install.failures import explain
from MedalSLib.panel.install.host import SlicerHost

EXTENSION = "PyTorch"
Need = Literal["", "restart"]


@dataclass
class Installer:
    """Does the installation in steps; each can be repeated, and what is there already is left alone.

    Attributes:
        host: 3D Slicer.
        onStep: Called before each step with what is done, in words, and the share of the whole that is done, 0..1.
        onLog: Gets the installers' output.
        cancel: Set it to stop; what is there by then stays.
    """

    host: SlicerHost
    onStep: Callable[[str, float], None]
    onLog: Callable[[str], None]
    cancel: threading.Event = field(default_factory=threading.Event)
    _log: list[str] = field(default_factory=list)

    def install(self) -> Need:
        """Install everything that is missing.

        Returns:
            "restart" if 3D Slicer has to be restarted to go on or to use what was installed, else "".

        Raises:
            CancelledError: `cancel` was set.
            MedalSError: A step failed; says why and what to do.  Steps that were done stay done.
        """
        before = packages.ownVersions(self.host.version)
        if self.host.torchVersion() in ("", "?"):
            if not self.host.extensionUsable():
                return self._extension()
            self._step(_("Fetching what computes (the longest step) …"), 0.1)
            self._do(lambda: self.host.installTorch(packages.TORCH, self._logged, self.cancel))
            if self.host.torchVersion() in ("", "?"):
                raise ResourceError(
                    _("PyTorch is still not there after its installation."),
                    _("Open the PyTorch Utils module, uninstall PyTorch, restart 3D Slicer and try again."),
                )
        wanted = packages.missing(packages.requirements(), self.host.version)
        if wanted:
            self._step(_("Installing {count} parts …").format(count=len(wanted)), 0.7)
            self._packages(wanted)
        self._step(_("Checking what was installed …"), 0.95)
        self._check(before)
        return "restart" if any(self.host.loaded(name) for name in packages.names(wanted)) else ""

    def _extension(self) -> Need:
        if not self.host.extensionInstalled(EXTENSION):
            self._step(_("Installing an extension of 3D Slicer …"), 0.05)
            if not self.host.installExtension(EXTENSION):
                raise ResourceError(
                    _("The PyTorch extension could not be installed."),
                    _("Install “PyTorch” with the Extensions Manager, restart 3D Slicer and press Install again."),
                )
        return "restart"

    def _packages(self, wanted: Sequence[str]) -> None:
        own = packages.ownVersions(self.host.version)
        with tempfile.TemporaryDirectory(prefix="medals-") as folder:
            path = Path(folder) / "constraints.txt"
            path.write_text("\n".join(packages.constraints(own)) + "\n", encoding="utf-8")
            self._do(lambda: self.host.installPackages(wanted, path, self._logged, self.cancel))

    def _check(self, before: dict[str, str]) -> None:
        left = packages.missing(packages.requirements(), self.host.version)
        if left:
            raise ResourceError(
                _("These packages are still missing: {names}.").format(names=", ".join(packages.names(left))),
                _("Restart 3D Slicer and press Install again."),
            )
        after = packages.ownVersions(self.host.version)
        changed = [f"{name} {was} → {after.get(name) or '-'}" for name, was in before.items() if after.get(name) != was]
        changed = [text for text in changed if not text.startswith(("torch ", "torchvision "))]
        if changed:
            raise ResourceError(
                _("The installation changed packages of 3D Slicer: {changes}.").format(changes="; ".join(changed)),
                _("Restart 3D Slicer; if another module fails then, install 3D Slicer again and tell us."),
            )

    def _do(self, action: Callable[[], None]) -> None:
        try:
            action()
        except MedalSError:
            raise
        except Exception as error:
            said = "\n".join([*self._log[-40:], str(error), str(getattr(error, "stderr", "") or "")])
            raise explain(said) from error

    def _logged(self, line: str) -> None:
        self._log.append(line)
        self.onLog(line)

    def _step(self, text: str, share: float) -> None:
        self._logged(text)
        self.onStep(text, share)
        if self.cancel.is_set():
            raise CancelledError("The installation was stopped.")
