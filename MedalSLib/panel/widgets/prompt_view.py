"""The prompt field: typing, completions below the cursor, what needs a decision, presets and the last prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import qt

from MedalSLib.panel.chips import Chip
from MedalSLib.panel.completion import Completion, insert
from MedalSLib.panel.flow import lines
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.prompt import EVERYTHING, PromptPresenter
from MedalSLib.panel.widgets.tools import EventFilter, emptied, guarded, named, say, sideBySide, silent, textLabel

SIGNS = {"understood": "✓", "guessed": "≈", "unknown": "?", "unsupported": "✕"}
COLORS = {
    "understood": "rgba(60, 160, 90, 45)",
    "guessed": "rgba(60, 120, 200, 45)",
    "unknown": "rgba(220, 150, 20, 55)",
    "unsupported": "rgba(200, 60, 60, 45)",
}
_PADDING = 34
_SPACING = 4
_LINES = 2
_LONGEST = 120


class PromptView:
    """The field and what is understood of it.

    Args:
        presenter: What it shows.
        onRun: Called for Ctrl+Enter.
        onPaint: Called with the name of a structure that the user wants to paint, since no model knows it.
        onModel: Called with the name of a model that the user wants, since the chosen one lacks a structure.

    Attributes:
        widget: To be put into a layout.
        completions: The list of completions; needs `place` once the widget has its place.
    """

    def __init__(
        self,
        presenter: PromptPresenter,
        onRun: Callable[[], None],
        onPaint: Callable[[str], None],
        onModel: Callable[[str], None],
    ) -> None:
        self._onModel = onModel
        self._presenter = presenter
        self._onRun = onRun
        self._onPaint = onPaint
        self._offered: tuple[Completion, ...] = ()
        self._shown: tuple[Chip, ...] | None = None
        self.widget = qt.QWidget()
        self.widget.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Maximum)
        layout = qt.QVBoxLayout(self.widget)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(_SPACING)
        self.edit = named(
            qt.QPlainTextEdit(),
            "promptEdit",
            _("Structures to segment"),
            _("Names of structures, separated by commas or lines. Ctrl+Enter runs."),
        )
        self.edit.placeholderText = _("For example: liver, spleen, both kidneys")
        self.edit.tabChangesFocus = True
        self._fit()
        self._presets = qt.QToolButton()
        self._presets.text = _("Presets")
        self._presets.setPopupMode(qt.QToolButton.InstantPopup)
        named(self._presets, "presetsButton", _("Presets"), _("Groups of structures, and the last prompts"))
        self._menu = qt.QMenu(self._presets)
        self._recent = qt.QMenu(_("Recent"), self._menu)
        self._menu.connect("aboutToShow()", guarded(self._fillPresets))
        self._presets.setMenu(self._menu)
        row = sideBySide(self.edit, self._presets, stretch=False)
        row.layout().setAlignment(self._presets, qt.Qt.AlignTop)
        layout.addWidget(row)
        self._meanings = textLabel("meanings")
        layout.addWidget(self._meanings)
        self._chips = named(qt.QWidget(), "chips", _("What the names are understood as"))
        self._rows = qt.QVBoxLayout(self._chips)
        self._rows.setContentsMargins(0, 0, 0, 0)
        self._rows.setSpacing(_SPACING)
        layout.addWidget(self._chips)
        self.offered = qt.QMenu(self.widget)
        self.completions = named(qt.QListWidget(self.widget), "completions", _("Completions"))
        self.completions.setFocusPolicy(qt.Qt.NoFocus)
        self.completions.hide()
        self.completions.connect("itemClicked(QListWidgetItem*)", guarded(self._picked))
        self._popping = EventFilter(self._shownOrHidden)
        self.completions.installEventFilter(self._popping)
        self._filter = EventFilter(self._event)
        self.edit.installEventFilter(self._filter)
        self._resized = EventFilter(self._resize)
        self.widget.installEventFilter(self._resized)
        self.edit.connect("textChanged()", guarded(self._typed))
        presenter.changed.connect(self.update)
        self.update()

    def place(self, page: qt.QWidget) -> None:
        """Let the completions float above a page that is larger than this widget."""
        self.completions.setParent(page)
        self.completions.hide()

    def update(self) -> None:
        """Show what the presenter has."""
        if self.edit.plainText != self._presenter.text:
            with silent(self.edit):
                self.edit.setPlainText(self._presenter.text)
                cursor = self.edit.textCursor()
                cursor.movePosition(qt.QTextCursor.End)
                self.edit.setTextCursor(cursor)
        said = [f"{phrase}: {', '.join(names)}" for phrase, names in self._presenter.meanings]
        said = [text if len(text) <= _LONGEST else text[:_LONGEST].rpartition(",")[0] + ", …" for text in said]
        say(self._meanings, Message("; ".join(said)))
        self.edit.setAccessibleDescription("; ".join(said) or self.edit.toolTip)
        if self._presenter.chips != self._shown:
            self._shown = self._presenter.chips
            self._showChips()

    def pick(self, index: int) -> None:
        """Put a completion into the field."""
        if not 0 <= index < len(self._offered):
            return
        text, cursor = insert(self.edit.plainText, self.edit.textCursor().position(), self._offered[index].text)
        self._offered = ()
        self.completions.hide()
        self._presenter.text = text
        moved = self.edit.textCursor()
        moved.setPosition(cursor)
        self.edit.setTextCursor(moved)
        self.edit.setFocus()

    def _typed(self) -> None:
        self._presenter.text = self.edit.plainText
        self._offer()

    def _offer(self) -> None:
        self._offered = self._presenter.complete(self.edit.plainText, self.edit.textCursor().position())
        self.completions.clear()
        for item in self._offered:
            self.completions.addItem(item.label)
        if not self._offered:
            self.completions.hide()
            return
        self.completions.setCurrentRow(0)
        corner = self.edit.viewport().mapTo(self.completions.parentWidget(), self.edit.cursorRect().bottomLeft())
        rows = self.completions.sizeHintForRow(0) * len(self._offered)
        self.completions.setGeometry(
            self.edit.mapTo(self.completions.parentWidget(), qt.QPoint(0, 0)).x(),
            corner.y() + 4,
            self.edit.width,
            rows + 2 * self.completions.frameWidth,
        )
        self.completions.show()
        self.completions.raise_()

    def _event(self, event: qt.QKeyEvent) -> bool:
        kind = event.type()
        if kind == qt.QEvent.FontChange:
            self._fit()
            return False
        if kind == qt.QEvent.FocusOut:
            self.completions.hide()
            return False
        return self._key(event.key(), event.modifiers()) if kind == qt.QEvent.KeyPress else False

    def _key(self, key: int, modifiers: int) -> bool:
        enter = key in (qt.Qt.Key_Return, qt.Qt.Key_Enter)
        if enter and modifiers & qt.Qt.ControlModifier:
            self.completions.hide()
            self._onRun()
            return True
        if not self.completions.visible:
            return False
        row = self.completions.currentRow
        if key == qt.Qt.Key_Escape:
            self.completions.hide()
        elif key == qt.Qt.Key_Down:
            self.completions.setCurrentRow((row + 1) % len(self._offered))
        elif key == qt.Qt.Key_Up:
            self.completions.setCurrentRow((row - 1) % len(self._offered))
        elif enter or key == qt.Qt.Key_Tab:
            self.pick(row)
        else:
            return False
        return True

    def _shownOrHidden(self, event: qt.QEvent) -> bool:
        if event.type() in (qt.QEvent.Show, qt.QEvent.Hide):
            self._presenter.typing = event.type() == qt.QEvent.Show
        return False

    def _picked(self, item: qt.QListWidgetItem) -> None:
        self.pick(self.completions.row(item))

    def _resize(self, event: qt.QResizeEvent) -> bool:
        wider = event.type() == qt.QEvent.Resize and event.size().width() != event.oldSize().width()
        if wider or event.type() == qt.QEvent.FontChange:
            self._showChips()
        return False

    def offer(self, names: Sequence[str], onChoice: Callable[[str], None]) -> None:
        """Offer names where the mouse is.

        Args:
            names: Names of structures.
            onChoice: Called with the chosen one.
        """
        self.offered.clear()
        for name in names:
            self._action(self.offered, name, partial(onChoice, name))
        self.offered.popup(qt.QCursor.pos())

    def _fit(self) -> None:
        """Make the field as high as its lines are in the font at hand."""
        self.edit.setFixedHeight(_LINES * self.edit.fontMetrics().lineSpacing() + 14)

    def _showChips(self) -> None:
        emptied(self._rows)
        numbers = [index for index, chip in enumerate(self._shown or ()) if chip.needsDecision]
        chips = [(self._shown or ())[index] for index in numbers]
        texts = [f"{SIGNS[chip.state]} {chip.text}" for chip in chips]
        metrics = self._chips.fontMetrics()
        widths = [metrics.horizontalAdvance(text) + _PADDING for text in texts]
        for line in lines(widths, max(self.widget.width, 200), _SPACING):
            self._rows.addWidget(sideBySide(*(self._chip(numbers[i], chips[i], texts[i]) for i in line)))
        self._chips.setVisible(bool(chips))

    def _chip(self, index: int, chip: Chip, text: str) -> qt.QToolButton:
        chipButton = named(qt.QToolButton(), f"chip{index}", chip.explanation, chip.explanation)
        chipButton.text = text
        chipButton.setFont(self._chips.font)  # a style sheet keeps the font from being handed down
        chipButton.setStyleSheet(
            f"QToolButton {{ background: {COLORS[chip.state]}; border: 1px solid rgba(128, 128, 128, 110);"
            " border-radius: 9px; padding: 2px 14px 2px 8px; }"
            "QToolButton:focus { border: 1px solid palette(highlight); }"
            "QToolButton::menu-indicator { subcontrol-position: right center; right: 3px; width: 8px; }"
        )
        chipButton.setPopupMode(qt.QToolButton.InstantPopup)
        menu = qt.QMenu(chipButton)
        for suggestion in chip.suggestions:
            self._action(
                menu, _("Use “{name}”").format(name=suggestion), partial(self._presenter.accept, index, suggestion)
            )
        for row in self._presenter.modelsFor(chip):
            text = _("Get the model {title} · {size} · licence: {licence} …")
            text = _("Use the model {title}") if row.usable else text
            text = text.format(title=row.title, size=row.size, licence=row.licence)
            self._action(menu, text, partial(self._onModel, row.name))
        if not chip.runs:
            self._action(menu, _("Paint it yourself"), partial(self._paint, index, chip))
        self._action(menu, _("Remove"), partial(self._presenter.remove, index))
        chipButton.setMenu(menu)
        return chipButton

    def _paint(self, index: int, chip: Chip) -> None:
        self._presenter.remove(index)
        self._onPaint(chip.lost[0] if len(chip.lost) == 1 else chip.phrase)

    @staticmethod
    def _action(menu: qt.QMenu, text: str, function: Callable[[], None]) -> None:
        menu.addAction(text).connect("triggered()", guarded(function))

    def _fillPresets(self) -> None:
        self._menu.clear()
        for name, members in self._presenter.presets.items():
            title = _("Everything this model knows") if name == EVERYTHING else name[:1].upper() + name[1:]
            text = _("{name} ({count})").format(name=title, count=len(members))
            self._action(self._menu, text, partial(self._presenter.addPreset, name))
        self._menu.addSeparator()
        self._recent.clear()
        for text in self._presenter.recent:
            self._action(self._recent, text.replace("&", "&&"), partial(setattr, self._presenter, "text", text))
        if self._presenter.recent:
            self._menu.addMenu(self._recent)
        self._action(self._menu, _("Clear the field"), self._presenter.clear)
