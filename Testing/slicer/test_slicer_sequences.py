"""Time series: one frame, all frames, and a segmentation that has its own segments in each."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from fake_engine import FakeEngine
from slicer_host.phantoms import addVolume, box, slicerSays

from MedalSLib.errors import CancelledError, InputError, ResourceError

SHAPE = (8, 10, 12)


@pytest.fixture
def series(scene):
    """Three frames: a volume whose voxels all are the number of the frame."""
    import slicer

    from MedalSLib.slicer.sequences import sequenceOf

    template = addVolume(scene, SHAPE, name="frame")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "CTP")
    for frame in range(3):
        slicer.util.updateVolumeFromArray(template, np.full(SHAPE, frame, np.int16))
        sequence.SetDataNodeAtValue(template, str(frame))
    scene.RemoveNode(template)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequenceOf(browser.GetProxyNode(sequence))


class FrameEngine(FakeEngine):
    """Finds as many rows of liver as the frame's number + 1."""

    def open_session(self, array_kji, affine_ras, modality=None):
        frame = int(array_kji.flat[0])
        if frame == self.answers.get("fail"):
            raise ResourceError("out of memory")
        self.answers["Liver"] = box(SHAPE, (0, frame + 1), (0, 10), (0, 12))
        return super().open_session(array_kji, affine_ras, modality)


class OtherEngine(FrameEngine):
    """Finds the same five rows of liver in every frame."""

    def open_session(self, array_kji, affine_ras, modality=None):
        session = super().open_session(array_kji, affine_ras, modality)
        self.answers["Liver"] = box(SHAPE, (3, 8), (0, 10), (0, 12))
        return session


@pytest.fixture
def runner(slicer_host, scene):
    from MedalSLib.slicer.editing import SegmentEditing
    from MedalSLib.slicer.runner import Runner

    runner = Runner(SegmentEditing(scene), slicer_host.app.processEvents, poll=0.002)
    yield runner
    runner.close()


def test_a_plain_volume_is_no_sequence(scene):
    from MedalSLib.slicer.sequences import sequenceOf

    assert sequenceOf(addVolume(scene)) is None


def test_frames_are_shown_one_after_the_other_and_the_first_again_at_the_end(series):
    import slicer

    series.show(1)
    seen = [int(slicer.util.arrayFromVolume(series.volume)[0, 0, 0]) for _frame in series.frames()]
    assert seen == [0, 1, 2]
    assert series.current == 1
    with pytest.raises(InputError, match="has 3 frames"):
        series.show(3)


def test_all_frames_get_their_own_segments(series, runner):
    from MedalSLib.slicer.frames import runFrames
    from MedalSLib.slicer.request import NodeRequest

    progress = []
    request = NodeRequest(series.volume, prompts=("Liver",))
    outcomes = runFrames(runner, FrameEngine({}), request, series, lambda *event: progress.append(event))
    node = outcomes[0].segmentationNode
    assert [frame for frame, _event in progress] == sorted(frame for frame, _event in progress)
    fractions = [event.fraction for _frame, event in progress]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    for frame in series.frames():
        segmentID = node.GetSegmentation().GetNthSegmentID(0)
        assert np.array_equal(slicerSays(node, segmentID, series.volume), box(SHAPE, (0, frame + 1), (0, 10), (0, 12)))
        assert runner.strokes(node, series.volume) is None  # another frame's result is no stroke


def test_a_fault_in_one_frame_keeps_the_frames_before_it(series, runner, scene):
    from MedalSLib.slicer.frames import runFrames
    from MedalSLib.slicer.request import NodeRequest

    engine = FrameEngine({"fail": 2})
    with pytest.raises(ResourceError):
        runFrames(runner, engine, NodeRequest(series.volume, prompts=("Liver",)), series)
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    counts = [node.GetSegmentation().GetNumberOfSegments() for _frame in series.frames()]
    assert counts == [1, 1, 0]
    assert series.current == 0


def livers(node, series):
    """Number of rows of liver in each frame, -1 where there is no such segment."""
    found = []
    for _frame in series.frames():
        ids = node.GetSegmentation().GetSegmentIDs()
        found.append(int(slicerSays(node, ids[0], series.volume).any(axis=(1, 2)).sum()) if ids else -1)
    return found


@pytest.fixture
def results(series):
    from MedalSLib.slicer.frames import FrameResults

    return FrameResults(series)


@pytest.fixture
def run(series, runner, results):
    from MedalSLib.slicer.frames import runFrames
    from MedalSLib.slicer.request import NodeRequest

    def do(engine=None, node=None, noted=results):
        request = NodeRequest(series.volume, node, prompts=("Liver",))
        return runFrames(runner, engine or FrameEngine({}), request, series, results=noted)[0].segmentationNode

    return do


class TestTheWayBack:
    def test_every_frame_is_as_it_was_before_the_run_and_the_shown_frame_stays(self, run, series, runner, results):
        series.show(1)
        node = run()
        assert livers(node, series) == [1, 2, 3]
        progress = []
        results.rollback(runner, progress.append)
        assert [event.fraction for event in progress] == [0, 1 / 3, 2 / 3]
        assert livers(node, series) == [-1, -1, -1]
        assert series.current == 1

    def test_an_earlier_runs_results_come_back(self, run, series, runner, results):
        node = run(noted=None)
        run(OtherEngine({}), node)
        assert livers(node, series) == [5, 5, 5]
        results.rollback(runner)
        assert livers(node, series) == [1, 2, 3]

    def test_the_frames_before_a_fault_can_be_taken_back(self, run, series, runner, results):
        with pytest.raises(ResourceError):
            run(FrameEngine({"fail": 2}))
        assert results.frames == (0, 1)
        assert livers(results.node, series) == [1, 2, -1]
        results.rollback(runner)
        assert livers(results.node, series) == [-1, -1, -1]

    def test_a_cancel_leaves_whole_frames_and_the_rest_can_be_taken_back_later(self, run, series, runner, results):
        node, cancel = run(), threading.Event()
        with pytest.raises(CancelledError, match="1 of 3 frames"):
            results.rollback(runner, lambda _event: cancel.set(), cancel)
        assert livers(node, series) == [-1, 2, 3]
        assert results.frames == (1, 2)
        results.rollback(runner)
        assert livers(node, series) == [-1, -1, -1]

    def test_what_a_frame_was_is_known(self, run, series, results):
        node = run(noted=None)
        run(OtherEngine({}), node)
        (before,) = results.before(1).values()
        assert before.mask.box == ((0, 2), (0, 10), (0, 12))
        assert results.before(7) == {}


class TestTheFrameOfARun:
    @pytest.mark.parametrize("turn", [1, 2, 3, 5, 9])
    def test_results_land_in_it_though_the_user_looks_at_another(self, series, runner, slicer_host, monkeypatch, turn):
        from MedalSLib.slicer import ui_yield
        from MedalSLib.slicer.request import NodeRequest
        from MedalSLib.slicer.sequences import addSegmentationSequence

        monkeypatch.setattr(ui_yield, "EVENT_INTERVAL_SECONDS", 0.0)
        node, left = addSegmentationSequence(series), [turn]
        series.show(1)

        def look():
            left[0] -= 1
            if left[0] == 0:
                series.show(2)

        slicer_host.app.onProcessEvents = look
        runner.run(FrameEngine({}), NodeRequest(series.volume, node, prompts=("Liver",)))
        slicer_host.app.onProcessEvents = None
        assert left[0] <= 0
        assert livers(node, series) == [-1, 2, -1]

    def test_a_failed_run_is_taken_back_from_it(self, series, runner, slicer_host):
        from MedalSLib.slicer.request import NodeRequest
        from MedalSLib.slicer.sequences import addSegmentationSequence

        node = addSegmentationSequence(series)
        engine = FrameEngine({}, pause=0.05, error=ResourceError("out of memory"))
        with pytest.raises(ResourceError):
            runner.run(
                engine,
                NodeRequest(series.volume, node, prompts=("Liver",)),
                onWritten=lambda _written: series.show(2),
            )
        assert livers(node, series) == [-1, -1, -1]

    def test_the_way_back_stays_in_it(self, run, series, runner, results, slicer_host, monkeypatch):
        from MedalSLib.slicer import ui_yield

        monkeypatch.setattr(ui_yield, "EVENT_INTERVAL_SECONDS", 0.0)
        node = run(noted=None)
        run(OtherEngine({}), node)
        slicer_host.app.onProcessEvents = lambda: series.show(2)
        results.rollback(runner)
        slicer_host.app.onProcessEvents = None
        assert livers(node, series) == [1, 2, 3]
