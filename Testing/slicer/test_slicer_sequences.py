"""Time series: one frame, all frames, and a segmentation that has its own segments in each."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.engines import FakeEngine
from slicer_host.phantoms import addVolume, box, slicerSays

from MedalSLib.errors import InputError, ResourceError

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
    from MedalSLib.slicer.request import RunRequest

    progress = []
    request = RunRequest(series.volume, prompts=("Liver",))
    outcomes = runFrames(runner, FrameEngine(), request, series, lambda *event: progress.append(event))
    node = outcomes[0].segmentationNode
    assert [frame for frame, _event in progress] == sorted(frame for frame, _event in progress)
    fractions = [event.fraction for _frame, event in progress]
    assert fractions == sorted(fractions) and max(fractions) < 1
    for frame in series.frames():
        segmentID = node.GetSegmentation().GetNthSegmentID(0)
        assert np.array_equal(slicerSays(node, segmentID, series.volume), box(SHAPE, (0, frame + 1), (0, 10), (0, 12)))
        assert runner.strokes(node, series.volume) is None  # another frame's result is no stroke


def test_a_fault_in_one_frame_keeps_the_frames_before_it(series, runner, scene):
    from MedalSLib.slicer.frames import runFrames
    from MedalSLib.slicer.request import RunRequest

    engine = FrameEngine({"fail": 2})
    with pytest.raises(ResourceError):
        runFrames(runner, engine, RunRequest(series.volume, prompts=("Liver",)), series)
    node = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
    counts = [node.GetSegmentation().GetNumberOfSegments() for _frame in series.frames()]
    assert counts == [1, 1, 0]
    assert series.current == 0
