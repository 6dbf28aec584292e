"""The Segment page on a small screen: what is needed all the time is on it, and nothing is cut off.

With MEDALS_PICTURES=FOLDER the pictures are kept there.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from looks import cut_off
from slicer_host.phantoms import box

pytestmark = pytest.mark.slow

SHAPE = (30, 40, 48)
NEEDED = ("promptEdit", "runButton", "structuresTable", "paintButton", "eraseButton", "undoButton", "compareButton")
NAMES = (
    *("Liver", "Spleen", "Pancreas", "Stomach", "Gallbladder", "Aorta", "Esophagus", "Duodenum", "Heart", "Trachea"),
    *("Right kidney", "Left kidney", "Left lung", "Right lung", "Urinary bladder", "Inferior vena cava", "Spinal cord"),
    *("Right adrenal gland", "Left adrenal gland", "Thyroid gland", "Portal vein and splenic vein", "Brain", "Sternum"),
    "Colon",
)


def fill(bench, count):
    names = NAMES[:count]
    bench.engine.classes = tuple(f"CT_{name}" for name in names)
    bench.engine.answers = {name: box(SHAPE, (4 + n // 4, 8 + n), (5, 20), (6, 20 + n)) for n, name in enumerate(names)}
    bench.type(", ".join(names))
    bench.view.prompt.completions.hide()
    bench.find("runButton").click()
    bench.settle()
    assert len(bench.table("structuresTable")) == count


def take(bench, width, name):
    """Show the panel as Slicer does, in 560 pixels of height; return the names of needed widgets that are not on it."""
    import qt

    widget = bench.panel.widget
    widget.resize(width, 560)
    bench.settle()
    folder = os.environ.get("MEDALS_PICTURES", "")
    if folder:
        bench.picture(Path(folder) / f"layout-{name}-{width}.png")
    assert widget.width == width, "it needs more room"
    hidden = []
    for one in NEEDED:
        shown = bench.find(one)
        corner = shown.mapTo(widget, qt.QPoint(0, 0))
        if not shown.visible or corner.y() + shown.height > 560 or corner.x() + shown.width > width:
            hidden.append(one)
    assert cut_off(widget) == []
    return hidden


@pytest.mark.parametrize("width", [400, 560])
def test_three_structures(bench, width):
    fill(bench, 3)
    assert take(bench, width, "three") == []


@pytest.mark.parametrize("width", [400, 560])
def test_twenty_four_structures(bench, width):
    fill(bench, 24)
    assert take(bench, width, "many") == []


def test_a_larger_font_while_the_panel_is_open(bench):
    fill(bench, 3)
    rows = bench.find("structuresTable")
    before = rows.height
    font = bench.panel.widget.font
    font.setPointSizeF(font.pointSizeF() * 1.5)
    bench.panel.widget.setFont(font)
    bench.settle()
    take(bench, 560, "font")
    assert rows.height > 1.2 * before


def test_a_dark_theme(bench):
    from PySide6 import QtGui

    dark = QtGui.QPalette(QtGui.QColor(50, 50, 50))
    bench.panel.widget.setPalette(dark)
    fill(bench, 3)
    take(bench, 480, "dark")
