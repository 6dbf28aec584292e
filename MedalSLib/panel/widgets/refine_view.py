"""Correct: Slicer's own Segment Editor, and what the segments are used for."""

from __future__ import annotations

from functools import partial

import qt
import slicer

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.spatial import SegmentRow
from MedalSLib.panel.widgets.tools import (
    button,
    choices,
    fitHeight,
    guarded,
    named,
    onChoice,
    say,
    sideBySide,
    stacked,
    table,
    textLabel,
)
from MedalSLib.vocabulary import suggest

UNDO_STATES = 10
EFFECTS = (
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Threshold",
    "Scissors",
    "Islands",
    "Smoothing",
)
NAME, USE, STANDS_FOR, LOCK = range(4)
_MOST_ROWS = 8


class RefineView:
    """The embedded editor and what goes with it.

    Args:
        model: The presenters.

    Attributes:
        editor: qMRMLSegmentEditorWidget.
    """

    def __init__(self, model: Presenters) -> None:
        self._model = model
        self._filling = False
        self._effect = ""
        self._shown: tuple[SegmentRow, ...] | None = None
        self._combos: list[qt.QComboBox] = []
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.objectName = "segmentEditor"
        self.editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.editor.segmentationNodeSelectorVisible = False
        self.editor.sourceVolumeNodeSelectorVisible = False
        self.editor.setEffectNameOrder(list(EFFECTS))
        self.editor.unorderedEffectsVisible = False
        titles = [_("Segment"), _("Use as"), _("Stands for"), _("Lock")]
        self.table = table("segmentsTable", _("Segments"), "", titles, [NAME, STANDS_FOR])
        self.table.connect("itemChanged(QTableWidgetItem*)", guarded(self._changed))
        self._empty = textLabel("segmentsNote")
        hint = _("The chosen segment is right in the slice under the mouse: no refinement changes it there")
        self.right = button(_("Slice is right (Shift+S)"), hint, model.run.sliceIsRight, "sliceIsRightButton")
        hint = _("Go to the slice of the results that is most worth checking")
        self.doubtful = button(_("Next doubtful slice (Shift+D)"), hint, model.run.showDoubtful, "doubtfulButton")
        title = qt.QLabel(_("What each segment is used for in the next run:"))
        title.wordWrap = True
        self._title = title
        self.widget = stacked(self.editor, sideBySide(self.right, self.doubtful), title, self.table, self._empty)
        model.spatial.changed.connect(self.update)
        model.run.changed.connect(self._enable)
        self.update()
        self._enable()

    def update(self) -> None:
        """Show the presenter's rows."""
        rows = self._model.spatial.rows
        self.table.setVisible(bool(rows))
        self._title.setVisible(bool(rows))
        problems = self._model.spatial.problems
        say(self._empty, Message(problems[0], "warning") if problems else Message())
        former, self._shown = self._shown, rows
        if former is None or [row.segmentID for row in former] != [row.segmentID for row in rows]:
            self._makeCombos(rows)
        self._fill(rows)

    def _enable(self) -> None:
        busy = self._model.run.busy
        for one in (self.table, self.right, self.doubtful):
            one.enabled = not busy
        if busy and self.editor.enabled:
            # A disabled editor still takes strokes in the views, and the run would write over them.
            effect = self.editor.activeEffect()
            self._effect = "" if effect is None else effect.name
            self.editor.setActiveEffect(None)
        elif not busy and not self.editor.enabled and self._effect:
            self.editor.setActiveEffectByName(self._effect)
        self.editor.enabled = not busy

    def _fill(self, rows: tuple[SegmentRow, ...]) -> None:
        self._filling = True
        uses = (
            ("", _("not used")),
            ("prompt", _("prompt")),
            ("paint", _("my paint")),
            ("exclude", _("keep out")),
        )
        for index, row in enumerate(rows):
            name = f"{row.name} ({row.state})" if row.state else row.name
            self.table.setItem(index, NAME, self._item(name, editable=False))
            choices(self._combos[index], uses, row.use)
            stands = self._item(row.structure, editable=row.use != "exclude")
            stands.setToolTip(row.how or _("Double-click and type the structure it stands for"))
            self.table.setItem(index, STANDS_FOR, stands)
            lock = self._item("", editable=False)
            lock.setFlags(lock.flags() | qt.Qt.ItemIsUserCheckable)
            lock.setCheckState(qt.Qt.Checked if row.locked else qt.Qt.Unchecked)
            lock.setToolTip(_("A locked segment is never changed by a run"))
            self.table.setItem(index, LOCK, lock)
        fitHeight(self.table, min(len(rows), _MOST_ROWS))
        self._filling = False

    def _makeCombos(self, rows: tuple[SegmentRow, ...]) -> None:
        self.table.setRowCount(0)
        self.table.setRowCount(len(rows))
        self._combos = []
        for index, row in enumerate(rows):
            combo = named(qt.QComboBox(), f"use{index}", _("Use of {name}").format(name=row.name))
            onChoice(combo, partial(self._model.spatial.use, row.segmentID))
            self.table.setCellWidget(index, USE, combo)
            self._combos.append(combo)

    def _changed(self, item: qt.QTableWidgetItem) -> None:
        if self._filling or not 0 <= item.row() < len(self._shown or ()):
            return
        row = (self._shown or ())[item.row()]
        if item.column() == LOCK:
            self._model.spatial.lock(row.segmentID, item.checkState() == qt.Qt.Checked)
        elif item.column() == STANDS_FOR and item.text() != row.structure:
            typed = item.text()
            if not self._model.spatial.name(row.segmentID, typed):
                near = [found.text for found in suggest(typed, self._model.prompt.modality or None, 3)]
                text = _("“{typed}” is not one structure.").format(typed=typed)
                if near:
                    text += " " + _("Perhaps {names}?").format(names=", ".join(near))
                say(self._empty, Message(text, "warning"))

    @staticmethod
    def _item(text: str, editable: bool) -> qt.QTableWidgetItem:
        item = qt.QTableWidgetItem(text)
        item.setToolTip(text)
        if not editable:
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        return item
