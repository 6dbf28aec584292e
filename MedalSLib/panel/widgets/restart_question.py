"""The question before a restart: what is not saved, and what to do with it."""

from __future__ import annotations

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install.presenter import InstallPresenter
from MedalSLib.panel.messages import Message
from MedalSLib.panel.widgets.tools import button, named, say, sideBySide, stacked, textLabel

_NAMED = 4


class RestartQuestion:
    """The restart that an installation needs, asked about where something would be lost.

    Args:
        install: The installation.
        name: Begins the names of the widgets, as the question is shown on more than one page.
    """

    def __init__(self, install: InstallPresenter, name: str) -> None:
        self._install = install
        self._restart = button(
            _("Restart 3D Slicer"), _("Asks first if something is not saved"), install.restart, f"{name}Restart"
        )
        self._text = textLabel(f"{name}Unsaved")
        saves = _("Opens the window for saving, then restarts")
        answers = sideBySide(
            button(_("Save first …"), saves, install.saveFirst, f"{name}Save"),
            button(_("Restart anyway"), _("What is not saved is lost"), install.restartAnyway, f"{name}Anyway"),
            button(_("Later"), _("Goes on after the next start"), install.restartLater, f"{name}Later"),
        )
        self._question = named(stacked(self._text, answers), f"{name}Question", _("Save before the restart?"))
        self.widget: qt.QWidget = stacked(sideBySide(self._restart), self._question)

    def update(self) -> None:
        """Show what the presenter says."""
        install = self._install
        asked = bool(install.unsaved)
        self._restart.parentWidget().setVisible(install.needsRestart and not asked)
        self._question.setVisible(asked)
        names = [name or _("the scene") for name in install.unsaved]
        more = _(" and {count} more").format(count=len(names) - _NAMED) if len(names) > _NAMED else ""
        text = _("Not saved yet: {names}{more}. A restart would lose it.")
        say(self._text, Message(text.format(names=", ".join(names[:_NAMED]), more=more) if asked else "", "warning"))
        self.widget.setVisible(install.needsRestart)
