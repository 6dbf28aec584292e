"""Texts that a person could not read to their end."""

from __future__ import annotations


def hint(size):
    """Return a size hint: a property in PythonQt, but PySide6's own override of it stays a method."""
    return size() if callable(size) else size


def cut_off(widget):
    """Return the texts of buttons and labels that have less room than they need."""
    import qt

    found = []
    for kind in (qt.QPushButton, qt.QToolButton, qt.QLabel, qt.QCheckBox):
        for one in widget.findChildren(kind):
            if not one.visible or not one.text:
                continue
            wraps = isinstance(one, qt.QLabel) and one.wordWrap
            needed = one.heightForWidth(one.width) if wraps else hint(one.minimumSizeHint).width()
            if needed > (one.height if wraps else one.width):
                found.append(one.text)
    return found
