"""The panel's workspace on the real scene: results of all frames, and results that outlive the engine."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.phantoms import paint

from MedalSLib.errors import ResourceError

SHAPE = (30, 40, 48)


@pytest.fixture
def series(bench):
    """The bench with a time series of three frames as its volume, and an engine that finds more in each."""
    import slicer

    from MedalSLib.slicer.sequences import sequenceOf

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "CTP")
    for frame in range(3):
        slicer.util.arrayFromVolume(bench.ct)[0, 0, 0] = frame
        slicer.util.arrayFromVolumeModified(bench.ct)
        sequence.SetDataNodeAtValue(bench.ct, str(frame))
    slicer.mrmlScene.RemoveNode(bench.ct)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    bench.ct = browser.GetProxyNode(sequence)
    bench.view.inputs.volume.setCurrentNode(bench.ct)
    bench.settle()
    opened = bench.engine.open_session

    def open_session(array, affine, modality=None):
        frame = int(array.flat[0])
        if frame == bench.engine.answers.get("fail"):
            raise ResourceError("Not enough memory.", "Close other data.")
        bench.engine.answers["Liver"] = np.zeros(SHAPE, bool)
        bench.engine.answers["Liver"][: frame + 1] = True
        return opened(array, affine, modality)

    bench.engine.open_session = open_session
    choose(bench, "framesCombo", 1)
    bench.type("liver")
    return sequenceOf(bench.ct)


def choose(bench, name, index):
    combo = bench.find(name)
    combo.setCurrentIndex(index)
    combo.activated.emit(index)


def rows(bench, series):
    """Rows of liver in each frame."""
    return [int(bench.mask("Liver").any(axis=(1, 2)).sum()) if bench.segments() else 0 for _ in series.frames()]


class TestAllFrames:
    def test_revert_takes_all_of_them_back(self, bench, series):
        series.show(1)
        bench.find("runButton").click()
        assert rows(bench, series) == [1, 2, 3]
        revert = bench.find("revertButton")
        assert revert.enabled
        revert.click()
        assert rows(bench, series) == [0, 0, 0]
        assert series.current == 1
        assert not bench.find("revertButton").enabled
        assert "as they were before" in bench.find("messageLabel").text

    def test_all_frames_after_one_frame_get_a_segmentation_of_their_own(self, bench, series):
        choose(bench, "framesCombo", 0)
        bench.find("runButton").click()
        single = bench.logic.parameters.segmentation
        choose(bench, "framesCombo", 1)
        bench.find("runButton").click()
        assert bench.logic.parameters.segmentation is not single and rows(bench, series) == [1, 2, 3]
        assert single.GetSegmentation().GetNumberOfSegments() == 1

    def test_a_result_of_one_frame_is_shown_as_such_on_the_others(self, bench, series):
        choose(bench, "framesCombo", 0)
        series.show(2)
        bench.find("runButton").click()
        series.show(0)
        bench.settle()
        assert bench.structures()["Liver"][1] == "✓ found, in frame 3"

    def test_the_volume_in_the_list_is_that_of_the_frame_at_hand(self, bench, series):
        bench.find("runButton").click()
        shown = []
        for frame in range(3):
            series.show(frame)
            bench.settle()
            bench.view.refresh()
            shown.append(bench.structures()["Liver"][:2])
        assert shown == [["15.4 ml", "✓ found"], ["30.7 ml", "✓ found"], ["46.1 ml", "✓ found"]]

    def test_the_frames_before_a_fault_are_chosen_and_can_be_taken_back(self, bench, series):
        bench.engine.answers["fail"] = 2
        bench.find("runButton").click()
        assert "Not enough memory" in bench.find("messageLabel").text
        assert rows(bench, series) == [1, 2, 0]
        bench.find("revertButton").click()
        assert rows(bench, series) == [0, 0, 0]

    def test_before_and_after_shows_the_frame_at_hand(self, bench, series):
        bench.find("runButton").click()
        former = bench.mask("Liver")
        opened = bench.engine.open_session

        def grown(array, affine, modality=None):
            session = opened(array, affine, modality)
            bench.engine.answers["Liver"] = np.ones(SHAPE, bool)
            return session

        bench.engine.open_session = grown
        bench.find("runButton").click()
        node = bench.logic.parameters.segmentation
        bench.find("compareButton").click()
        shown = bench.slicer.mrmlScene.GetFirstNodeByName(f"{node.GetName()} before")
        (segmentID,) = shown.GetSegmentation().GetSegmentIDs()
        from MedalSLib.slicer.segments import readSegment

        assert np.array_equal(readSegment(shown, segmentID, bench.ct).array(), former)
        bench.find("compareButton").click()
        bench.find("revertButton").click()
        assert rows(bench, series) == [1, 2, 3]


@pytest.fixture
def result(bench):
    bench.type("liver")
    bench.find("runButton").click()
    assert set(bench.segments()) == {"Liver"}
    return bench


class TestAnotherEngine:
    def test_strokes_made_before_the_engine_was_changed_are_refined(self, result):
        brush = np.zeros(SHAPE, bool)
        brush[20:22, 5:8, 6:9] = True
        node = result.logic.parameters.segmentation
        editing = result.logic.runner.editing
        paint(editing, node, result.segments()["Liver"], result.ct, brush)
        result.model.workspace.forget()  # what the engine presenter calls before it closes an engine
        assert result.engine.sessions_closed == 1
        result.settle()
        result.find("runButton").click()
        assert "painted" not in result.find("messageLabel").text
        assert np.array_equal(result.engine.asked[-1].locked["Liver"], brush)

    def test_the_result_can_still_be_taken_back(self, result):
        result.model.workspace.forget()
        result.find("revertButton").click()
        assert result.segments() == {}


class TestAFailedRun:
    def test_the_last_good_result_can_still_be_taken_back(self, result):
        result.engine.error = ResourceError("Not enough memory.", "Close other data.")
        result.find("runButton").click()
        assert "Not enough memory" in result.find("messageLabel").text
        assert result.mask("Liver").any()
        result.find("revertButton").click()
        assert result.segments() == {}

    def test_a_scene_that_is_closed_meanwhile_leaves_nothing_to_take_back(self, result):
        result.model.workspace._former = (result.model.workspace._review, (None, 0), None)
        result.model.workspace.sceneClosed()
        assert result.model.workspace._former is None and not result.model.workspace.canRevert


class TestCorrections:
    def test_structures_painted_since_their_result_are_told_and_a_refinement_ends_that(self, result):
        workspace = result.model.workspace
        assert workspace.strokes("CT") is None
        brush = np.zeros(SHAPE, bool)
        brush[20:22, 5:8, 6:9] = True
        editing, node = result.logic.runner.editing, result.logic.parameters.segmentation
        paint(editing, node, result.segments()["Liver"], result.ct, brush)
        assert list(workspace.strokes("CT").edits) == ["Liver"]
        result.settle()
        result.find("runButton").click()
        assert result.engine.asked[-1].options.mode == "refine" and workspace.strokes("CT") is None

    def test_a_refinement_that_is_undone_can_be_made_again(self, result):
        brush = np.zeros(SHAPE, bool)
        brush[20:22, 5:8, 6:9] = True
        editing, node = result.logic.runner.editing, result.logic.parameters.segmentation
        editing.saveState()
        paint(editing, node, result.segments()["Liver"], result.ct, brush)
        result.settle()
        carried = np.zeros(SHAPE, bool)
        carried[18:24, 5:8, 6:9] = True
        result.engine.answers["Liver"] = result.engine.answers["Liver"] | carried
        result.find("runButton").click()
        result.view.refine.editor.undo()
        result.settle()
        assert result.find("runButton").text == "Refine (1 corrected)"
        result.find("runButton").click()
        assert np.array_equal(result.engine.asked[-1].painted["Liver"], brush)
