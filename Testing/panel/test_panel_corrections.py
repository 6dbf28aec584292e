"""Correcting with the panel: brushes and keys, what each segment is for, and what the next run does with it."""

from __future__ import annotations

import numpy as np
from slicer_host.phantoms import box, paint

SHAPE = (30, 40, 48)


def stroke_on(bench, name, mask):
    editing = bench.logic.runner.editing
    editing.saveState()
    node = bench.logic.parameters.segmentation
    paint(editing, node, bench.segments()[name], bench.ct, mask)


def test_what_was_painted_is_kept_by_refine(result):
    stroke = box(SHAPE, (20, 22), (5, 10), (6, 12))
    stroke_on(result, "Liver", stroke)
    result.settle()
    assert result.find("runButton").text == "Refine (1 corrected)"
    assert result.structures()["Liver"][1] == "✎ corrected"
    result.find("runButton").click()
    assert result.engine.asked[-1].options.mode == "refine"
    assert result.engine.asked[-1].locked["Liver"][stroke].all()
    assert result.mask("Liver")[stroke].all()

    assert [row[1] for row in result.structures().values()] == ["✓ refined", "✓ found"]
    assert result.find("runButton").text == "Segment"


def test_a_name_that_is_new_is_segmented_while_another_is_refined(result):
    result.engine.answers["Right kidney"] = box(SHAPE, (4, 8), (4, 8), (30, 34))
    stroke_on(result, "Liver", box(SHAPE, (20, 22), (5, 10), (6, 12)))
    result.type("liver, spleen, right kidney")
    result.settle()
    assert result.find("runButton").text == "Refine (1 corrected) and segment 1 new"
    spleen = result.mask("Spleen")
    result.find("runButton").click()
    asked = result.engine.asked[-1]
    assert asked.prompts == ("Right kidney",) and set(asked.masks) == {"Liver"}
    assert set(result.segments()) == {"Liver", "Spleen", "Right kidney"}
    assert np.array_equal(result.mask("Spleen"), spleen)


def test_starting_over_replaces_corrections_says_so_and_is_undone(result):
    assert not result.find("startOverButton").visible
    stroke_on(result, "Liver", box(SHAPE, (20, 22), (5, 10), (6, 12)))
    result.settle()
    corrected = result.mask("Liver")
    assert "replace your corrections of Liver" in result.find("replacedLabel").text
    result.find("startOverButton").click()
    assert result.engine.asked[-1].options.mode == "auto"
    assert not np.array_equal(result.mask("Liver"), corrected)
    result.find("revertButton").click()
    result.settle()
    assert np.array_equal(result.mask("Liver"), corrected)
    assert result.find("runButton").text == "Refine (1 corrected)"


def test_what_nobody_knows_is_painted_by_hand_and_refined_from_the_paint(result):
    node = result.logic.parameters.segmentation
    mass = node.GetSegmentation().AddEmptySegment("", "mass 1")
    result.settle()
    stroke = box(SHAPE, (20, 22), (25, 30), (30, 36))
    stroke_on(result, "mass 1", stroke)
    result.settle()
    assert result.structures()["mass 1"][1] == "✎ painted by hand"
    result.engine.answers["mass 1"] = box(SHAPE, (18, 24), (25, 30), (30, 36))
    result.find("runButton").click()
    asked = result.engine.asked[-1]
    assert np.array_equal(asked.locked["mass 1"], stroke) and np.array_equal(asked.painted["mass 1"], stroke)
    assert result.segments()["mass 1"] == mass and result.mask("mass 1").sum() == 6 * 5 * 6


def test_a_name_that_nobody_knows_leads_to_the_brush_from_an_empty_scene_on(bench):
    bench.type("kidney stone")
    next(one for one in bench.find("chip0").menu().actions() if one.text == "Paint it yourself").trigger()
    bench.settle()
    editor = bench.view.refine.editor
    assert bench.view.prompt.edit.plainText == "" and set(bench.segments()) == {"kidney stone"}
    assert editor.currentSegmentID() == bench.segments()["kidney stone"]
    assert editor.activeEffect().name == "Paint" and bench.find("paintButton").checked
    stroke = box(SHAPE, (20, 22), (25, 30), (30, 36))
    stroke_on(bench, "kidney stone", stroke)
    bench.settle()
    assert bench.find("runButton").text == "Refine (1 corrected)"
    bench.find("runButton").click()
    assert np.array_equal(bench.engine.asked[-1].painted["kidney stone"], stroke)


def test_a_slice_found_right_is_locked_and_told(result):
    from slicer_host.views import Views

    views = Views(result.host)
    views.show(result.ct)
    editor = result.view.refine.editor
    editor.setCurrentSegmentID(result.segments()["Liver"])
    stroke = box(SHAPE, (20, 22), (5, 10), (6, 12))
    stroke_on(result, "Liver", stroke)
    result.settle()
    result.find("sliceIsRightButton").click()
    result.settle()
    assert result.structures()["Liver"][1] == "✎ corrected, 1 slice right"
    ((axis, index),) = result.model.workspace.checked(result.segments()["Liver"])
    result.find("runButton").click()
    asked = result.engine.asked[-1]
    assert axis == 0 and asked.locked["Liver"][index].all() and np.array_equal(asked.painted["Liver"], stroke)
    views.close()


def test_a_segment_that_was_there_before_is_corrected_or_taken_as_paint(result):
    drawn = box(SHAPE, (20, 22), (25, 30), (30, 36))
    node = result.logic.parameters.segmentation
    from slicer_host.phantoms import draw

    segmentID = draw(node, result.ct, "vessel", drawn)
    result.settle()
    assert result.find("runButton").text == "Segment"  # nobody painted it here
    result.role("vessel", "My paint")
    assert result.find("runButton").text == "Refine (1 corrected)"
    result.find("runButton").click()
    assert list(result.engine.asked[-1].painted) == ["vessel"] and segmentID


def test_the_brush_rests_while_a_run_goes_on_and_is_back_after_it(result):
    editor, seen = result.view.refine.editor, []
    editor.setActiveEffectByName("Paint")
    result.engine.pause = 0.05
    result.during = lambda: seen.append(editor.activeEffect()) if result.model.run.state == "running" else None
    result.find("runButton").click()
    assert seen and set(seen) == {None}
    assert editor.activeEffect().name == "Paint"


def test_the_list_offers_each_segment_as_prompt_or_keep_out(result):
    result.role("Liver", "A prompt")
    result.role("Spleen", "Keep out")
    assert [row[2] for row in result.structures().values()] == ["prompt", "keep out"]
    result.view.prompt.edit.setPlainText("pancreas")
    result.find("runButton").click()
    assert list(result.engine.asked[-1].masks) == ["Liver"]
    assert result.logic.parameters.excluded == (result.segments()["Spleen"],)


def test_what_a_segment_stands_for_is_changed_in_the_list(result):
    result.role("Liver", "Stands for Liver")
    answer = result.find("standsForEdit")
    assert answer.visible and answer.text == "Liver"
    answer.text = "gibberish"
    answer.returnPressed.emit()
    assert "is not one structure" in result.find("structuresNote").text and answer.visible
    answer.text = "lt kidney"
    answer.returnPressed.emit()
    assert result.logic.parameters.spatialPrompts == {result.segments()["Liver"]: "Left kidney"}
    assert not answer.visible and not result.find("structuresNote").visible


def test_a_prompt_that_nobody_can_name_is_asked_about_and_may_be_left(result):
    from slicer_host.phantoms import draw

    draw(result.logic.parameters.segmentation, result.ct, "Segment_1", box(SHAPE, (20, 22), (25, 30), (30, 36)))
    result.settle()
    result.role("Segment_1", "A prompt")
    assert result.find("standsForLabel").text == "Segment_1 stands for:"
    result.find("standsForCancel").click()
    assert not result.find("standsForEdit").visible and result.structures()["Segment_1"][2] == "…"


def test_the_box_before_a_name_hides_and_shows_its_segment(result):
    import qt

    display = result.logic.parameters.segmentation.GetDisplayNode()
    item = result.find("structuresTable").item(0, 0)
    item.setCheckState(qt.Qt.Unchecked)
    assert not display.GetSegmentVisibility(result.segments()["Liver"])
    result.settle()
    result.find("structuresTable").item(0, 0).setCheckState(qt.Qt.Checked)
    assert display.GetSegmentVisibility(result.segments()["Liver"])


def test_a_click_on_a_row_chooses_its_segment_for_the_brush(result):
    result.find("structuresTable").cellClicked.emit(1, 1)
    editor = result.view.refine.editor
    assert editor.currentSegmentID() == result.segments()["Spleen"]
    editor.setCurrentSegmentID(result.segments()["Liver"])  # chosen in the editor's own list
    (chosen,) = result.find("structuresTable").selectionModel().selectedRows()
    assert chosen.row() == 0


def test_keys_take_a_brush_and_put_it_down(result):
    editor, keys = result.view.refine.editor, result.view.refine.keys
    keys["P"]()
    assert editor.activeEffect().name == "Paint" and result.find("paintButton").checked
    keys["E"]()
    assert editor.activeEffect().name == "Erase" and not result.find("paintButton").checked
    keys["E"]()
    assert editor.activeEffect() is None and not result.find("eraseButton").checked


def test_the_brush_has_a_size_in_millimetres_which_follows_the_editor(result):
    node = result.view.refine.editor.mrmlSegmentEditorNode()
    result.find("brushSize").setValue(25)
    assert (node.GetAttribute("BrushDiameterIsRelative"), node.GetAttribute("BrushAbsoluteDiameter")) == ("0", "25")
    node.SetAttribute("BrushAbsoluteDiameter", "7.6")  # the mouse wheel over a view
    assert result.find("brushSize").value == 8


def test_a_locked_segment_is_not_changed_by_a_run(result):
    before = result.mask("Liver")
    result.role("Liver", "Locked")
    result.engine.answers["Liver"] = box(SHAPE, (0, 5), (0, 5), (0, 5))
    result.find("runButton").click()
    assert np.array_equal(result.mask("Liver"), before)
    assert result.structures()["Liver"][1:] == ["= locked, left as it is", "locked"]
