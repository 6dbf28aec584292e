"""Choices that most users never touch."""

from __future__ import annotations

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.inputs import windowChoices
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.tools import choices, guarded, named, onChoice, silent
from MedalSLib.slicer.request import Overlap


class OptionsView:
    """Overlap, intensity window, a quick look, instances.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._state = model.workspace.state
        self.widget = qt.QWidget()
        form = qt.QFormLayout(self.widget)
        form.setContentsMargins(0, 0, 0, 0)
        self.overlap = named(
            qt.QComboBox(), "overlapCombo", _("Overlap"), _("What happens where a result meets another segment")
        )
        onChoice(self.overlap, lambda value: setattr(self._state, "overlap", Overlap(value)))
        self.window = named(
            qt.QComboBox(), "windowCombo", _("Intensity window"), _("Which intensities the network sees")
        )
        onChoice(self.window, lambda value: setattr(self._state, "windows", {"*": value} if value else {}))
        self.quick = self._box(
            "quickBox", _("Quick look (coarse outlines)"), _("Only the first of two networks"), "firstStageOnly"
        )
        self.instances = self._box(
            "instancesBox",
            _("Separate segment for each lesion or nodule"),
            _("Structures that occur several times are split into their parts"),
            "separateInstances",
        )
        form.addRow(_("Where results meet other segments:"), self.overlap)
        form.addRow(_("Intensity window:"), self.window)
        form.addRow(self.quick)
        form.addRow(self.instances)
        self.update()

    def update(self) -> None:
        """Show the state of the scene."""
        overlaps = (
            ("allow", _("both keep the voxels")),
            ("keep", _("the other segment keeps them")),
            ("overwrite", _("the result takes them")),
        )
        choices(self.overlap, overlaps, self._state.overlap.value)
        choices(self.window, windowChoices(), self._state.windows.get("*", ""))
        for box, value in ((self.quick, self._state.firstStageOnly), (self.instances, self._state.separateInstances)):
            with silent(box):
                box.setChecked(value)

    def _box(self, name: str, text: str, hint: str, field: str) -> qt.QCheckBox:
        box = named(qt.QCheckBox(text), name, text, hint)
        box.connect("toggled(bool)", guarded(lambda on: setattr(self._state, field, bool(on))))
        return box
