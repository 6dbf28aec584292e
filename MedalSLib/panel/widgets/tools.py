"""What every widget of the panel needs: buttons with a name for screen readers, messages with a sign, safe slots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import qt

from MedalSLib.panel.messages import Level, Message

WidgetType = TypeVar("WidgetType", bound="qt.QWidget")
_STEPS = 1000
SIGNS: dict[Level, str] = {"info": "", "success": "✓ ", "warning": "⚠ ", "error": "✕ "}


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """Return a slot that logs what goes wrong: Qt would swallow it.  It gets as many arguments as the signal has."""

    def slot(*arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception:
            logging.exception("The Medal S panel failed in %s", getattr(function, "__qualname__", function))
            raise

    return slot


def button(text: str, hint: str, onClick: Callable[[], None], name: str) -> qt.QPushButton:
    """Return a push button.

    Args:
        text: What it says.
        hint: Tool tip, also the screen reader's description.
        onClick: Called without arguments.
        name: Object name, for tests and style sheets.
    """
    push = named(qt.QPushButton(text), name, text, hint)
    push.connect("clicked()", guarded(onClick))
    return push


def tool(text: str, hint: str, onClick: Callable[[], None], name: str) -> qt.QToolButton:
    """Return a button that takes no more room than its text needs; see `button`.

    Args:
        text: What it says, with its key in brackets.
        hint: Tool tip, also the screen reader's description.
        onClick: Called without arguments.
        name: Object name, for tests and style sheets.
    """
    made = named(qt.QToolButton(), name, text, hint)
    made.text = text
    made.connect("clicked()", guarded(onClick))
    return made


def named(widget: WidgetType, name: str, label: str, hint: str = "") -> WidgetType:
    """Give a widget its names and a tool tip; returns it.

    Args:
        widget: The widget.
        name: Object name, for tests and style sheets.
        label: Name for screen readers.
        hint: Tool tip, also the screen reader's description.
    """
    widget.objectName = name
    widget.setAccessibleName(label)
    if hint:
        widget.toolTip = hint
        widget.setAccessibleDescription(hint)
    return widget


def textLabel(name: str = "") -> qt.QLabel:
    """Return an empty label that wraps and whose text can be copied; hidden until it has something to say."""
    label = qt.QLabel()
    label.objectName = name
    label.wordWrap = True
    label.textFormat = qt.Qt.PlainText
    label.setTextInteractionFlags(qt.Qt.TextSelectableByMouse)
    label.hide()
    return label


def say(label: qt.QLabel, message: Message) -> None:
    """Show a message in a label, with its sign; an empty one hides the label."""
    label.text = SIGNS[message.level] + message.text if message.text else ""
    label.setVisible(bool(message.text))


def progressBar(name: str, label: str) -> qt.QProgressBar:
    """Return a progress bar; `showFraction` fills it.

    Args:
        name: Object name.
        label: Name for screen readers.
    """
    bar = named(qt.QProgressBar(), name, label)
    bar.setRange(0, _STEPS)
    return bar


def showFraction(bar: qt.QProgressBar, fraction: float, known: bool) -> None:
    """Show how far something is.

    Args:
        bar: A progress bar.
        fraction: The share that is done, 0..1.
        known: Whether the share is known; the bar moves without an end meanwhile.
    """
    bar.setRange(0, _STEPS if known else 0)
    if known:
        bar.setValue(int(fraction * _STEPS))


def choices(combo: qt.QComboBox, values: Sequence[tuple[str, str]], current: str) -> None:
    """Fill a combo box and select a value; no signal is sent.

    Args:
        combo: The combo box.
        values: (value, label) of each entry.
        current: The value to select; the first entry if there is none of it.
    """
    with silent(combo):
        combo.clear()
        for value, label in values:
            combo.addItem(label, value)
        combo.setCurrentIndex(max(0, combo.findData(current)))


@contextmanager
def silent(widget: qt.QWidget) -> Iterator[None]:
    """Let a widget send no signals meanwhile: it shows a state, the user did nothing."""
    blocked = widget.blockSignals(True)
    yield
    widget.blockSignals(blocked)


def onChoice(combo: qt.QComboBox, function: Callable[[str], None]) -> None:
    """Call a function with the value that the user chose in a combo box."""
    combo.connect("activated(int)", guarded(lambda index: function(str(combo.itemData(index)))))


def table(name: str, label: str, hint: str, columns: Sequence[str], stretched: Sequence[int]) -> qt.QTableWidget:
    """Return an empty table without row numbers.

    Args:
        name: Object name.
        label: Name for screen readers.
        hint: Tool tip.
        columns: Titles of the columns.
        stretched: Columns that share the room that the others leave.
    """
    widget = named(qt.QTableWidget(), name, label, hint)
    widget.setColumnCount(len(columns))
    widget.setHorizontalHeaderLabels(list(columns))
    widget.verticalHeader().hide()
    widget.setHorizontalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
    header = widget.horizontalHeader()
    header.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    for column in stretched:
        header.setSectionResizeMode(column, qt.QHeaderView.Stretch)
    return widget


def fitHeight(table: qt.QTableWidget, least: int, most: int) -> None:
    """Make a table at least as high as its first rows, and at most as high as some more of them."""
    table.resizeRowsToContents()
    heights = [table.rowHeight(index) for index in range(most)]
    frame = table.horizontalHeader().height + 4
    table.setMinimumHeight(sum(heights[:least]) + frame)
    table.setMaximumHeight(sum(heights) + frame)


def emptied(layout: qt.QLayout) -> None:
    """Take all widgets out of a layout, and delete them."""
    while layout.count():
        widget = layout.takeAt(0).widget()
        widget.hide()
        widget.deleteLater()


def stacked(*widgets: qt.QWidget) -> qt.QWidget:
    """Return a widget that holds others below each other, without margins."""
    return _framed(qt.QVBoxLayout, widgets)


def sideBySide(*widgets: qt.QWidget, stretch: bool = True) -> qt.QWidget:
    """Return a widget that holds others side by side, without margins."""
    frame = _framed(qt.QHBoxLayout, widgets)
    if stretch:
        frame.layout().addStretch(1)
    return frame


def _framed(kind: Callable[[qt.QWidget], qt.QBoxLayout], widgets: Sequence[qt.QWidget]) -> qt.QWidget:
    frame = qt.QWidget()
    layout = kind(frame)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return frame


class EventFilter(qt.QObject):
    """Passes a widget's events to a function, which returns whether it has dealt with them.

    Args:
        handler: Called with each event.
    """

    def __init__(self, handler: Callable[[Any], bool]) -> None:
        qt.QObject.__init__(self)
        self.handler = handler

    def eventFilter(self, _watched: qt.QObject, event: qt.QEvent) -> bool:
        """Return whether the event was dealt with."""
        return bool(self.handler(event))
