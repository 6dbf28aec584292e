"""The Install page: checks, one button, restart, diagnostics."""

from __future__ import annotations

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install.preflight import Check
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.restart_question import RestartQuestion
from MedalSLib.panel.widgets.tools import (
    SIGNS,
    button,
    emptied,
    named,
    progressBar,
    say,
    showFraction,
    sideBySide,
    stacked,
    textLabel,
)

_LEVELS = {"ok": "success", "warning": "warning", "failed": "error"}


class InstallPage:
    """What is needed to run on this computer.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._install = model.install
        self._shown: tuple[Check, ...] | None = None
        self._status = textLabel("installStatus")
        self._check = button(
            _("Check this computer"),
            _("Looks at versions, disk, memory, graphics card and network"),
            self._install.check,
            "checkButton",
        )
        self.install = button(
            _("Install"),
            _("Installs PyTorch through its extension, and a few packages; 3D Slicer's own packages stay as they are"),
            self._install.install,
            "installButton",
        )
        self._restart = RestartQuestion(self._install, "install")
        self._cancel = button(_("Cancel"), _("What is there by then stays"), self._install.cancel, "installCancel")
        self._dismiss = button(
            _("Do not continue"), _("What is installed already stays"), self._install.dismiss, "dismissButton"
        )
        self._copy = button(
            _("Copy diagnostics"),
            _("Puts versions, checks and the installation's last lines on the clipboard; nothing of a patient"),
            self._copyDiagnostics,
            "copyButton",
        )
        self._grid = qt.QGridLayout()
        self._grid.setColumnStretch(2, 1)
        checks = qt.QWidget()
        checks.setLayout(self._grid)
        self._checks = named(checks, "checks", _("Checks of this computer"))
        self.bar = progressBar("installBar", _("Progress"))
        self._message = textLabel("installMessage")
        light = textLabel("lightNote")
        say(light, Message(_("To use a server, nothing has to be installed: choose “A server” on the Engine page.")))
        self.widget = stacked(
            self._status,
            sideBySide(self.install, self._dismiss, self._check, self._cancel),
            self.bar,
            self._message,
            self._restart.widget,
            self._checks,
            light,
            sideBySide(self._copy),
        )
        self.widget.layout().setContentsMargins(6, 8, 6, 6)
        self.widget.layout().addStretch(1)
        self._install.changed.connect(self.update)
        self.update()

    def update(self) -> None:
        """Show the presenter's checks and message."""
        install = self._install
        installed = install.isInstalled
        say(self._status, Message(install.status, "success" if installed and not install.needsRestart else "info"))
        self.install.text = _("Continue installation") if install.pending else _("Install")
        self.install.setVisible(not install.needsRestart and not installed)
        self.install.enabled = not install.busy and (not install.checks or install.canInstall)
        self._restart.update()
        self._cancel.setVisible(install.busy)
        self._dismiss.setVisible(install.pending and not installed)
        self._check.enabled = not install.busy
        self.bar.setVisible(install.busy)
        showFraction(self.bar, install.fraction, known=install.fraction > 0)
        say(self._message, install.message)
        if install.checks != self._shown:
            self._shown = install.checks
            self._fill(install.checks)

    def _fill(self, checks: tuple[Check, ...]) -> None:
        emptied(self._grid)
        for row, check in enumerate(checks):
            sign = qt.QLabel(SIGNS[_LEVELS[check.state]].strip())  # type: ignore[index]  # one of the levels
            title = qt.QLabel(check.name)
            text = qt.QLabel(check.text)
            text.wordWrap = True
            text.setAccessibleName(f"{check.name}: {check.text}")
            for column, label in enumerate((sign, title, text)):
                label.setAlignment(qt.Qt.AlignTop | qt.Qt.AlignLeft)
                self._grid.addWidget(label, row, column)
        self._checks.setVisible(bool(checks))

    def _copyDiagnostics(self) -> None:
        qt.QApplication.clipboard().setText(self._install.diagnostics())
        say(self._message, Message(_("The diagnostics are on the clipboard."), "success"))
