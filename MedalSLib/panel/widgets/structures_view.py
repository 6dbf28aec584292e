"""The list of structures: what was found, what is shown in which colour, what the next run takes it for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.spatial import SegmentRow, Use
from MedalSLib.panel.structures import StructureRow
from MedalSLib.panel.widgets.tools import (
    button,
    fitHeight,
    guarded,
    named,
    say,
    sideBySide,
    silent,
    stacked,
    table,
    textLabel,
)
from MedalSLib.vocabulary import suggest

SHOWN, NAME, VOLUME, STATE, ROLE = range(5)
_LEAST_ROWS, _MOST_ROWS = 3, 24


class StructuresView:
    """The list.

    Args:
        model: The presenters.
        onSelect: Called with the ID of the segment that the user clicked.
    """

    def __init__(self, model: Presenters, onSelect: Callable[[str], None]) -> None:
        self._model = model
        self._onSelect = onSelect
        self._rows: tuple[StructureRow, ...] = ()
        self._asked = ""
        self._selected = ""
        hint = _("Click a row to go there and to correct it; right-click, or click Role, for what the next run does")
        titles = [_("Show"), _("Structure"), _("Volume"), _("State"), _("Role")]
        self.table = table("structuresTable", _("Structures"), hint, titles, [NAME])
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self.table.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        self.table.setSizeAdjustPolicy(qt.QAbstractScrollArea.AdjustToContents)
        self.table.setContextMenuPolicy(qt.Qt.CustomContextMenu)
        self.table.connect("cellClicked(int,int)", guarded(self._clicked))
        self.table.connect("itemChanged(QTableWidgetItem*)", guarded(self._checked))
        self.table.connect("customContextMenuRequested(QPoint)", guarded(self._menuAsked))
        self.menu = qt.QMenu(self.table)
        self.menu.objectName = "roleMenu"
        self._question = textLabel("standsForLabel")
        self._answer = named(qt.QLineEdit(), "standsForEdit", _("The structure it stands for"))
        self._answer.connect("returnPressed()", guarded(self._named))
        cancel = button(_("Not now"), _("Leave it as it is"), self._notNow, "standsForCancel")
        self._ask = stacked(self._question, sideBySide(self._answer, cancel, stretch=False))
        self._note = textLabel("structuresNote")
        self.widget = stacked(self.table, self._ask, self._note)
        self.widget.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Maximum)
        model.run.changed.connect(self.update)
        model.spatial.changed.connect(self.update)
        model.volumeChanged.connect(lambda _facts: self.update())
        self.update()

    def update(self) -> None:
        """Show the presenters' rows."""
        rows = self._model.run.structures
        self.table.setVisible(bool(rows))
        if rows != self._rows:
            self._rows = rows
            with silent(self.table):
                self._fill(rows)
            self.fit()
        self._showQuestion()

    def fit(self) -> None:
        """Make the table as high as its rows need; it gets lower where there is no room, and scrolls."""
        fitHeight(self.table, min(len(self._rows), _LEAST_ROWS), min(len(self._rows), _MOST_ROWS))

    def select(self, segmentID: str) -> None:
        """Mark the row of a segment: it was chosen elsewhere."""
        self._selected = segmentID
        with silent(self.table):
            self.table.clearSelection()
            for index, row in enumerate(self._rows):
                if segmentID and segmentID in row.segmentIDs:
                    self.table.selectRow(index)

    def _fill(self, rows: tuple[StructureRow, ...]) -> None:
        self.table.setRowCount(len(rows))
        for index, row in enumerate(rows):
            shown = qt.QTableWidgetItem("")
            segment = row.segment
            if row.segmentIDs:
                shown.setFlags(shown.flags() | qt.Qt.ItemIsUserCheckable)
                shown.setCheckState(qt.Qt.Checked if segment is None or segment.visible else qt.Qt.Unchecked)
                shown.setToolTip(_("Shown in the views"))
            self.table.setItem(index, SHOWN, shown)
            for column, text in (
                (NAME, row.name),
                (VOLUME, row.volume),
                (STATE, row.state),
                (ROLE, row.role or ("…" if segment is not None else "")),
            ):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(", ".join(part for part in (text, row.hint) if part) if column == NAME else text)
                self.table.setItem(index, column, item)
            self.table.item(index, VOLUME).setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if segment is not None:
                self.table.item(index, ROLE).setToolTip(_("What the next run does with it"))
                red, green, blue = (round(255 * part) for part in segment.color)
                self.table.item(index, NAME).setData(qt.Qt.DecorationRole, qt.QColor(red, green, blue))
        self.select(self._selected)

    def _clicked(self, row: int, column: int) -> None:
        if not 0 <= row < len(self._rows):
            return
        if column == ROLE:
            self._showMenu(row)
        elif column != SHOWN and self._rows[row].segmentIDs:
            self._onSelect(self._rows[row].segmentIDs[0])
            self._model.run.show(self._rows[row].segmentIDs[0])

    def _checked(self, item: qt.QTableWidgetItem) -> None:
        if item.column() == SHOWN and 0 <= item.row() < len(self._rows):
            shown = item.checkState() == qt.Qt.Checked
            self._model.spatial.makeVisible(self._rows[item.row()].segmentIDs, shown)

    def _menuAsked(self, place: qt.QPoint) -> None:
        row = self.table.rowAt(place.y())
        self._showMenu(row if row >= 0 else self.table.currentRow())

    def _showMenu(self, row: int) -> None:
        """Offer what can be done with a segment."""
        self.menu.clear()
        segment = self._rows[row].segment if 0 <= row < len(self._rows) else None
        if segment is None or self._model.run.busy:
            return
        uses: tuple[tuple[Use, str], ...] = (
            ("", _("Nothing special")),
            ("prompt", _("A prompt: the run draws it anew from its rough shape")),
            ("paint", _("My paint: the run carries on from it")),
            ("exclude", _("Keep out: no result enters it")),
        )
        for use, text in uses:
            self._action(text, partial(self._use, segment, use), segment.use == use)
        self.menu.addSeparator()
        self._action(_("Locked: no run changes it"), partial(self._lock, segment), segment.locked)
        stands = _("Stands for {structure} …") if segment.structure else _("Stands for …")
        self._action(stands.format(structure=segment.structure), partial(self._askName, segment))
        self.menu.popup(qt.QCursor.pos())

    def _action(self, text: str, function: Callable[[], None], checked: bool | None = None) -> None:
        action = self.menu.addAction(text)
        if checked is not None:
            action.checkable = True
            action.setChecked(checked)
        action.connect("triggered()", guarded(function))

    def _use(self, segment: SegmentRow, use: Use) -> None:
        self._model.spatial.use(segment.segmentID, use)

    def _lock(self, segment: SegmentRow) -> None:
        self._model.spatial.lock(segment.segmentID, not segment.locked)

    def _askName(self, segment: SegmentRow) -> None:
        self._asked = segment.segmentID
        self._answer.text = segment.structure
        self._showQuestion()
        self._answer.setFocus()
        self._answer.selectAll()

    def _showQuestion(self) -> None:
        """Ask what a segment stands for: the user wants to say it, or a prompt needs it."""
        segments = {row.segmentID: row for row in self._model.spatial.rows}
        if self._asked not in segments:
            unnamed = (one for one in segments.values() if one.use == "prompt" and not one.structure and not one.empty)
            self._asked = next((one.segmentID for one in unnamed), "")
        self._ask.setVisible(bool(self._asked))
        text = _("{name} stands for:").format(name=segments[self._asked].name) if self._asked else ""
        say(self._question, Message(text))
        empty = [row.problem for row in segments.values() if row.problem and row.empty]
        if not self._asked:
            say(self._note, Message(empty[0], "warning") if empty else Message())

    def _named(self) -> None:
        typed = self._answer.text
        if self._model.spatial.name(self._asked, typed):
            self._asked = ""
            say(self._note, Message())
            self._showQuestion()
            return
        near = [found.text for found in suggest(typed, self._model.prompt.modality or None, 3)]
        text = _("“{typed}” is not one structure.").format(typed=typed)
        if near:
            text += " " + _("Perhaps {names}?").format(names=", ".join(near))
        say(self._note, Message(text, "warning"))

    def _notNow(self) -> None:
        segment = next((row for row in self._model.spatial.rows if row.segmentID == self._asked), None)
        self._asked = ""
        if segment is not None and not segment.structure:
            self._model.spatial.use(segment.segmentID, "")
        say(self._note, Message())
        self._showQuestion()
