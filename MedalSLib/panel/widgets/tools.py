"""What every widget of the panel needs: buttons with a name for screen readers, messages with a sign, safe slots."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import qt

from MedalSLib.panel.messages import Level, Message

WidgetType = TypeVar("WidgetType", bound="qt.QWidget")
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
    push = qt.QPushButton(text)
    push.toolTip = hint
    push.objectName = name
    push.setAccessibleDescription(hint)
    push.connect("clicked()", guarded(onClick))
    return push


def named(widget: WidgetType, name: str, label: str, hint: str = "") -> WidgetType:
    """Give a widget an object name, a name for screen readers and a tool tip; returns it."""
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


def choices(combo: qt.QComboBox, values: Sequence[tuple[str, str]], current: str) -> None:
    """Fill a combo box with (value, label) pairs and select a value; no signal is sent."""
    blocked = combo.blockSignals(True)
    combo.clear()
    for value, label in values:
        combo.addItem(label, value)
    combo.setCurrentIndex(max(0, combo.findData(current)))
    combo.blockSignals(blocked)


def onChoice(combo: qt.QComboBox, function: Callable[[str], None]) -> None:
    """Call a function with the value that the user chose in a combo box."""

    def picked(index: int) -> None:
        function(str(combo.itemData(index)))

    combo.connect("activated(int)", guarded(picked))


def stacked(*widgets: qt.QWidget) -> qt.QWidget:
    """Return a widget that holds others below each other, without margins."""
    frame = qt.QWidget()
    layout = qt.QVBoxLayout(frame)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return frame


def sideBySide(*widgets: qt.QWidget, stretch: bool = True) -> qt.QWidget:
    """Return a widget that holds others side by side, without margins."""
    frame = qt.QWidget()
    layout = qt.QHBoxLayout(frame)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    if stretch:
        layout.addStretch(1)
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
