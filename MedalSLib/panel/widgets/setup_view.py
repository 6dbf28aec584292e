"""The set-up on the Segment page: what is missing, one button, progress, and the restart; hidden once all is there."""

from __future__ import annotations

from collections.abc import Callable

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.restart_question import RestartQuestion
from MedalSLib.panel.widgets.tools import (
    button,
    guarded,
    named,
    progressBar,
    say,
    showFraction,
    sideBySide,
    stacked,
    textLabel,
)


class SetupView:
    """What stands between the user and the first run on this computer.

    Args:
        model: The presenters.
        onDetails: Called by a button, to show the page with checks and diagnostics.

    Attributes:
        widget: To be put into a layout.
    """

    def __init__(self, model: Presenters, onDetails: Callable[[], None] = lambda: None) -> None:
        self._model = model
        install = model.install
        self._used = False
        self._offer = textLabel("setupOffer")
        self._install = button(_("Install"), _("Fetches and installs what is missing"), install.install, "setupInstall")
        self._details = button(_("Details"), _("Checks of this computer, and servers"), onDetails, "setupDetails")
        self._bar = progressBar("setupBar", _("Progress of the installation"))
        self._cancel = button(_("Cancel"), _("What is there by then stays"), install.cancel, "setupCancel")
        self._work = sideBySide(self._bar, self._cancel, stretch=False)
        self._message = textLabel("setupMessage")
        self._restart = RestartQuestion(install, "setup")
        self._buttons = sideBySide(self._install, self._details)
        self.widget = qt.QGroupBox()
        self.widget.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Maximum)
        named(self.widget, "setupBox", _("Set-up of this computer"))
        layout = qt.QVBoxLayout(self.widget)
        layout.addWidget(stacked(self._offer, self._buttons, self._work, self._message, self._restart.widget))
        self._resuming = qt.QTimer(self.widget)  # once the module is on the screen
        self._resuming.setSingleShot(True)
        self._resuming.setInterval(0)
        self._resuming.connect("timeout()", guarded(install.resume))
        install.changed.connect(self.update)
        model.engines.changed.connect(self.update)
        self.update()

    def entered(self) -> None:
        """The module is shown: look again, and go on with an installation that waited for a restart."""
        self._model.install.refresh()
        if self._model.install.pending:
            self._resuming.start()

    def update(self) -> None:
        """Show what the presenter says."""
        install, engines = self._model.install, self._model.engines
        missing = bool(engines.blocker)
        self._used = (self._used or engines.isOpen) and not install.busy
        done = install.message.level == "success" and not self._used
        idle = not install.busy
        say(self._offer, Message(install.offer if missing and idle and not install.needsRestart else ""))
        self._buttons.setVisible(missing and idle and not install.needsRestart)
        self._work.setVisible(install.busy)
        showFraction(self._bar, install.fraction, known=install.fraction > 0)
        say(self._message, install.plainMessage)
        self._restart.update()
        shown = missing or done or install.busy or install.needsRestart
        self.widget.setVisible(shown and not engines.isRemote)
