"""The model chooser."""

from __future__ import annotations

from typing import Any

import ctk
import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.model_chooser import ModelRow
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.tools import (
    button,
    choices,
    named,
    onChoice,
    progressBar,
    say,
    showFraction,
    sideBySide,
    stacked,
    textLabel,
)


class ModelsView:
    """Which model runs on this computer; install, verify and remove.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._models = model.models
        self._selected = ""
        self.combo = named(qt.QComboBox(), "modelCombo", _("Model"))
        onChoice(self.combo, self._select)
        self._facts = textLabel("modelFacts")
        self._use = button(_("Use"), _("Run this model"), lambda: self._models.choose(self._selected), "modelUse")
        self._install = button(
            _("Download …"),
            _("Shows the licence first"),
            lambda: self._models.askLicence(self._selected),
            "modelInstall",
        )
        self._verify = button(
            _("Verify"),
            _("Compare the files with their checksums"),
            lambda: self._models.verify(self._selected),
            "modelVerify",
        )
        self._remove = button(
            _("Remove"), _("Delete the files"), lambda: self._models.remove(self._selected), "modelRemove"
        )
        self._path = named(ctk.ctkPathLineEdit(), "modelPath", _("Folder or zip file of a model"))
        self._path.settingKey = "MedalSModel"
        self._local = button(
            _("Install from there …"),
            _("Works without a network; shows the licence first"),
            lambda: self._models.askLicence(self._path.currentPath),
            "modelLocal",
        )
        self._licence = textLabel("licenceText")
        self._question = stacked(
            self._licence,
            sideBySide(
                button(
                    _("Accept licence and install"),
                    _("Begins the installation"),
                    self._models.acceptLicence,
                    "licenceAccept",
                ),
                button(_("Do not install"), _("Nothing is fetched"), self._models.declineLicence, "licenceDecline"),
            ),
        )
        self.bar = progressBar("modelBar", _("Progress"))
        self._stop = button(
            _("Cancel"), _("A download goes on from here the next time"), self._models.cancel, "modelCancel"
        )
        self._working = sideBySide(self.bar, self._stop, stretch=False)
        self._message = textLabel("modelMessage")
        self._folder = textLabel("modelFolder")
        self._offline = qt.QLabel(_("Without a network, from a folder or zip file:"))
        self.widget = stacked(
            self.combo,
            self._facts,
            sideBySide(self._use, self._install, self._verify, self._remove),
            self._question,
            self._working,
            self._message,
            self._offline,
            sideBySide(self._path, self._local, stretch=False),
            self._folder,
        )
        self._models.changed.connect(self.update)
        model.engines.changed.connect(self.update)
        self.update()

    def update(self) -> None:
        """Show the presenter's models."""
        rows = self._models.rows
        names = [row.name for row in rows]
        if self._selected not in names:
            self._selected = next((row.name for row in rows if row.chosen), names[0] if names else "")
        choices(self.combo, [(row.name, self._title(row)) for row in rows], self._selected)
        self.combo.setVisible(bool(rows))
        row = next((one for one in rows if one.name == self._selected), None)
        busy = self._models.busy
        say(self._facts, Message(self._describe(row) if row is not None else ""))
        self._use.setVisible(row is not None and row.usable)
        self._use.enabled = row is not None and not row.chosen and not busy
        self._install.setVisible(row is not None and row.installable)
        self._install.enabled = not busy
        self._verify.setVisible(row is not None and row.usable)
        self._verify.enabled = not busy
        self._remove.setVisible(row is not None and row.removable)
        self._remove.enabled = not busy
        self._local.enabled = not busy
        question = self._models.question
        self._question.setVisible(question is not None)
        say(self._licence, Message(question.notice if question is not None else ""))
        self._working.setVisible(busy)
        showFraction(self.bar, self._models.fraction or 0.0, known=True)
        say(self._message, self._models.message)
        folder = self._models.folder
        say(self._folder, Message(_("Models are kept in {folder}").format(folder=folder) if folder else ""))

    def offer(self, name: str) -> None:
        """Show a model with its licence, which is accepted before anything is fetched."""
        self._select(name)
        self._models.askLicence(name)

    def _select(self, name: str) -> None:
        self._selected = name
        self.update()

    @staticmethod
    def _title(row: ModelRow) -> str:
        return _("{title} (in use)").format(title=row.title) if row.chosen else row.title

    @staticmethod
    def _describe(row: ModelRow) -> str:
        lines: list[Any] = [row.status[:1].upper() + row.status[1:]]
        if row.size:
            lines[0] += f" · {row.size}"
        if row.knows:
            lines.append(_("Knows {counts}").format(counts=row.knows))
        if row.licence:
            lines.append(_("Licence of the weights: {licence}").format(licence=row.licence))
        return "\n".join(lines)
