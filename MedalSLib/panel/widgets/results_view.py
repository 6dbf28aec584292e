"""The table of results, and what to do with them."""

from __future__ import annotations

import qt

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.result_rows import ResultRow
from MedalSLib.panel.widgets.tools import button, fitHeight, guarded, named, sideBySide, silent, stacked, table

SIGNS = {"waiting": "…", "found": "✓", "absent": "-", "kept": "="}
_MOST_ROWS = 9


class ResultsView:
    """What was found.

    Args:
        model: The presenters.
    """

    def __init__(self, model: Presenters) -> None:
        self._model = model
        self._shown: tuple[ResultRow, ...] | None = None
        titles = [_("Structure"), _("Volume"), _("Result"), _("Window")]
        self.table = table("resultsTable", _("Results"), _("Click a row to go there"), titles, [0])
        self.table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        self.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self.table.connect("cellClicked(int,int)", guarded(self._clicked))
        self.accept = button(_("Accept"), _("Keep the result"), model.run.accept, "acceptButton")
        hint = _("Show the segments as they were before")
        self.compare = named(qt.QPushButton(_("Before / after")), "compareButton", _("Before / after"), hint)
        self.compare.checkable = True
        self.compare.connect("toggled(bool)", guarded(model.run.compare))
        self.revert = button(
            _("Revert"),
            _("Take the result back; the editor's Undo brings it back again"),
            model.run.revert,
            "revertButton",
        )
        self.widget = stacked(self.table, sideBySide(self.accept, self.compare, self.revert))
        model.run.changed.connect(self.update)
        model.volumeChanged.connect(lambda _facts: self.update())
        self.update()

    def update(self) -> None:
        """Show the presenter's rows."""
        run = self._model.run
        self.widget.setVisible((bool(run.rows) or run.canReview) and not run.isElsewhere)
        for one in (self.accept, self.compare, self.revert):
            one.enabled = run.canReview
        if self.compare.checked != run.comparing:
            with silent(self.compare):
                self.compare.setChecked(run.comparing)
        if run.rows != self._shown:
            self._shown = run.rows
            self._fill(run.rows)

    def _fill(self, rows: tuple[ResultRow, ...]) -> None:
        self.table.setRowCount(len(rows))
        for index, row in enumerate(rows):
            sign = "⚠" if row.cutOff else SIGNS[row.state]
            status = _("- no longer there") if row.gone else f"{sign} {row.status}"
            for column, text in enumerate((row.structure, row.volume, status, row.note)):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(text)
                if column == 1:
                    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                self.table.setItem(index, column, item)
        fitHeight(self.table, min(len(rows), _MOST_ROWS))

    def _clicked(self, row: int, _column: int) -> None:
        self._model.run.show(row)
