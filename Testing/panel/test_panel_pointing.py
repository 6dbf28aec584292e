"""Pointing at an image: a click corrects and refines, a key asks what is there."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.phantoms import box

SHAPE = (30, 40, 48)
PLACE = (20, 15, 15)


@pytest.fixture
def result(result):
    """A panel after a run for liver and spleen, with the liver chosen for the brush."""
    result.view.refine.editor.setCurrentSegmentID(result.segments()["Liver"])
    return result


def ball(center, radius_mm=4.0, spacing_mm=2.0):
    offset = np.moveaxis(np.indices(SHAPE), 0, -1) - center
    return np.linalg.norm(offset * spacing_mm, axis=-1) <= radius_mm


@pytest.mark.parametrize(("key", "belongs", "place"), [("A", True, PLACE), ("X", False, (10, 15, 15))])
def test_a_click_paints_or_erases_a_small_ball_and_refines_from_it(result, key, belongs, place):
    before = result.mask("Liver")
    result.point(place)
    result.view.refine.keys[key]()
    asked = result.engine.asked[-1]
    assert asked.options.mode == "refine"
    assert np.array_equal(asked.painted["Liver"], ball(place))
    assert np.array_equal(asked.masks["Liver"], before | ball(place) if belongs else before & ~ball(place))
    assert (result.mask("Liver")[ball(place)] == belongs).all()


def test_one_undo_takes_the_refinement_of_a_click_back_and_another_the_click(result):
    before = result.mask("Liver")
    result.engine.answers["Liver"] = box(SHAPE, (2, 28), (5, 30), (6, 30))
    result.point(PLACE)
    result.view.refine.keys["A"]()
    result.find("undoButton").click()
    assert np.array_equal(result.mask("Liver"), before | ball(PLACE))
    result.find("undoButton").click()
    assert np.array_equal(result.mask("Liver"), before)


def test_a_click_without_a_chosen_or_with_a_locked_segment_says_what_to_do(result):
    result.point(PLACE)
    result.role("Liver", "Locked")
    runs = len(result.engine.asked)
    result.view.refine.keys["A"]()
    assert "Liver is locked" in result.find("messageLabel").text
    result.view.refine.editor.setCurrentSegmentID("")
    result.view.refine.keys["A"]()
    assert "No segment is chosen" in result.find("messageLabel").text
    assert len(result.engine.asked) == runs


@pytest.mark.parametrize("place", [None, (-5, 3, 3), (30, 3, 3)])
def test_a_click_beside_the_image_changes_nothing_and_says_so(result, place):
    before = result.mask("Liver")
    if place is not None:
        result.point(place)
    result.view.refine.keys["A"]()
    assert "The mouse points" in result.find("messageLabel").text
    assert np.array_equal(result.mask("Liver"), before)


def offered(bench):
    bench.application.processEvents()
    return [action.text for action in bench.view.prompt.offered.actions()]


def test_a_key_asks_what_is_at_a_place_and_one_click_segments_it(bench):
    bench.engine.answers["Pancreas"] = box(SHAPE, (4, 16), (5, 25), (6, 30))
    bench.find("runButton")
    bench.view.refresh()
    bench.model.engines.open()
    bench.point((10, 10, 10))
    bench.view._askHere()
    assert offered(bench) == ["Liver", "Pancreas"] and bench.segments() == {}
    (action,) = [one for one in bench.view.prompt.offered.actions() if one.text == "Pancreas"]
    action.trigger()
    assert set(bench.segments()) == {"Pancreas"} and bench.view.prompt.edit.plainText == "Pancreas"


def test_a_structure_that_has_a_segment_is_chosen_instead_of_segmented_again(result):
    result.point((10, 10, 10))
    result.view.refine.editor.setCurrentSegmentID(result.segments()["Spleen"])
    result.view._askHere()
    runs = len(result.engine.asked)
    result.view.prompt.offered.actions()[0].trigger()
    assert result.view.refine.editor.currentSegmentID() == result.segments()["Liver"]
    assert len(result.engine.asked) == runs


def test_a_model_that_knows_nothing_of_the_modality_is_said(bench):
    bench.engine.classes = ("MRI_Liver",)
    bench.point((10, 10, 10))
    bench.view._askHere()
    assert "knows nothing in this modality" in bench.find("messageLabel").text


def test_nothing_at_a_place_is_said(result):
    result.point((29, 39, 47))
    result.view._askHere()
    assert "finds nothing" in result.find("messageLabel").text


def test_our_keys_are_not_those_of_slicers_editor(bench):
    """A key that two shortcuts want calls neither; these are of qMRMLSegmentEditorWidget::installKeyboardShortcuts."""
    editors = {*"1234567890ZYQWI/*,.<>", "Esc", "Space", *(f"Shift+{digit}" for digit in "1234567890")}
    assert not editors & {*bench.view.refine.keys, "N"}
