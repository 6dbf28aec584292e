"""Story: a chest CT is opened, names are typed and completed, and the results are looked at."""

from __future__ import annotations

import pytest
from stories import LUNGS, dice

pytestmark = pytest.mark.slow


@pytest.fixture
def chest(story):
    return story.load_chest(crop=None)


def test_first_run(story, chest, starter):
    bench = story.bench
    assert bench.logic.parameters.volume is chest
    assert bench.find("modalityCombo").currentText == "CT (detected)"

    type_with_completions(story)
    chips = [bench.find(f"chip{index}").text for index in (1, 3)]
    assert chips == ["≈ right lnug → Right lung", "? kidney stone: not understood"]

    shown = watch_the_run(story)
    check_progress(shown, starter.in_parts)

    assert story.message().startswith("✓ 3 of 3 structures found")
    assert bench.find("remarksLabel").text == "⚠ Not segmented: kidney stone. The marks above say why."
    check_masks(story, chest)
    check_segments(story, chest)
    check_going_there(story)
    story.press("surfacesButton")
    story.picture("3-results")


def type_with_completions(story):
    """Type a few letters and pick with the keyboard alone; what was picked is finished with a comma."""
    from PySide6 import QtCore

    bench = story.bench
    bench.type("lun")
    completions = bench.view.prompt.completions
    offered = [completions.item(index).text() for index in range(completions.count)]
    assert set(LUNGS) <= set(offered)
    assert not any("not in this model" in text for text in offered[:2])  # what the model knows comes first
    for _ in range(offered.index("Left lung")):
        bench.press(QtCore.Qt.Key_Down)
    story.picture("1-completions")
    bench.press(QtCore.Qt.Key_Return)
    assert bench.view.prompt.edit.plainText == "Left lung, "
    story.type("right lnug, aorta, kidney stone")


def watch_the_run(story):
    """Run with the keyboard; return (bar, progress, row states, segments) whenever the window could be looked at."""
    from PySide6 import QtCore

    bench, shown, pictures = story.bench, [], []

    def look():
        if bench.model.run.state != "running":
            return
        states = tuple(row.state for row in bench.model.run.rows)
        shown.append((bench.find("progressBar").value, bench.find("progressLabel").text, states, story.shown()))
        assert bench.find("cancelButton").enabled and not bench.find("runButton").enabled
        if states == ("found", "found", "waiting") and not pictures:
            pictures.append(story.picture("2-running"))

    bench.during = look
    bench.press(QtCore.Qt.Key_Return, QtCore.Qt.ControlModifier)
    bench.during = None
    bench.settle()
    assert pictures, "the lungs were never to be seen while the aorta was computed"
    return shown


def check_progress(shown, in_parts):
    bars = [bar for bar, *_ in shown]
    assert bars == sorted(bars) and len(set(bars)) > 3  # before, after each patch, at the end
    lungs_only = [bar for bar, _text, states, _count in shown if states == ("found", "found", "waiting")]
    if in_parts:  # the bar has a way to go, and goes it, while the aorta is computed
        assert min(lungs_only) < 700 < max(lungs_only)
    assert any("Finding the structures · patch" in text and "left" in text for _bar, text, *_ in shown)
    counts = [count for *_, count in shown]
    assert counts == sorted(counts) and 2 in counts  # both lungs are in the scene before the aorta is


def check_masks(story, chest):
    masks, truth = story.masks(story.segmentation, chest), story.truth(chest)
    for name in LUNGS:
        assert dice(masks[name], truth[name]) > 0.8, name
    assert masks["Aorta"].any()
    assert not (masks["Left lung"] & masks["Right lung"]).any()
    story.check_volumes(chest)


def check_segments(story, chest):
    """Names, codes and colours are the standard's, and the segmentation lies in the patient's study."""
    from MedalSLib.slicer.targets import terminologyOf

    inside = story.segmentation.GetSegmentation()
    segments = {inside.GetSegment(one).GetName(): inside.GetSegment(one) for one in inside.GetSegmentIDs()}
    codes = {name: terminologyOf(segment) for name, segment in segments.items()}
    assert all("SCT^" in code for code in codes.values())
    assert "^Left" in codes["Left lung"] and "^Right" in codes["Right lung"] and "^Aorta" in codes["Aorta"]
    assert "^Left" not in codes["Aorta"] and "^Right" not in codes["Aorta"]
    assert segments["Aorta"].GetColor() != segments["Left lung"].GetColor()
    hierarchy = story.slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(story.scene)
    items = [hierarchy.GetItemByDataNode(node) for node in (story.segmentation, chest)]
    assert hierarchy.GetItemParent(items[0]) == hierarchy.GetItemParent(items[1])
    assert hierarchy.GetItemName(hierarchy.GetItemParent(items[0])) == "Study of CTChest4"


def check_going_there(story):
    """A click on a row brings its structure into the slice views."""
    names = list(story.results())
    table = story.bench.find("structuresTable")
    table.cellClicked.emit(names.index("Left lung"), 1)
    left = story.views.offsets()
    table.cellClicked.emit(names.index("Aorta"), 1)
    assert story.views.offsets() != left
