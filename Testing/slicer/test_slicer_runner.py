"""Runs from nodes to nodes with an engine that answers what it is told: streaming, cancel, faults, strokes."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from fake_engine import FakeEngine
from slicer_host import phantoms
from slicer_host.phantoms import LIVER, SHAPE, SPLEEN, addVolume, affine, box, draw, slicerSays

from MedalSLib.errors import CancelledError, InputError, PromptError, ResourceError, ServiceError
from MedalSLib.run import RunOptions
from MedalSLib.volume.mask import BoxMask


@pytest.fixture
def runner(slicer_host, editing):
    from MedalSLib.slicer.runner import Runner

    runner = Runner(editing, slicer_host.app.processEvents, poll=0.002)
    yield runner
    runner.close()


@pytest.fixture
def request_(ct):
    from MedalSLib.slicer.request import NodeRequest

    return NodeRequest(ct, prompts=("Liver", "Spleen"), modality="CT")


@pytest.fixture
def engine():
    return FakeEngine({"Liver": LIVER, "Spleen": SPLEEN})


def segmentNames(node):
    segmentation = node.GetSegmentation()
    return [segmentation.GetSegment(segmentID).GetName() for segmentID in segmentation.GetSegmentIDs()]


def paint(editing, node, ct, segmentID, mask, erase=False):
    """A stroke with the editor's own logic, as the Paint and Erase effects make it."""
    editing.edit(node, ct)
    editing.saveState()
    phantoms.paint(editing, node, segmentID, ct, mask, erase)


class TestARun:
    def test_results_land_in_a_new_segmentation(self, runner, engine, request_, ct):
        outcome = runner.run(engine, request_)
        assert [item.structure for item in outcome.written] == ["Liver", "Spleen"]
        node = outcome.segmentationNode
        assert segmentNames(node) == ["Liver", "Spleen"]
        for item, truth in zip(outcome.written, (LIVER, SPLEEN), strict=True):
            assert np.array_equal(slicerSays(node, item.segmentID, ct), truth)
        array, matrix, modality = engine.opened[0]
        assert array.shape == SHAPE and modality == "CT"
        np.testing.assert_allclose(matrix, affine((2, 2, 2)))

    def test_structures_appear_one_by_one_while_events_are_processed(self, runner, request_, slicer_host, scene):
        engine = FakeEngine({"Liver": LIVER, "Spleen": SPLEEN}, pause=0.1)
        seen, progress = [], []

        def look():
            nodes = scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
            seen.append(
                scene.GetFirstNodeByClass("vtkMRMLSegmentationNode").GetSegmentation().GetNumberOfSegments()
                if nodes
                else 0
            )

        slicer_host.app.onProcessEvents = look
        runner.run(engine, request_, onProgress=progress.append)
        assert 1 in seen
        assert slicer_host.app.processed > 10
        assert [event.fraction for event in progress] == [0.25, 0.5, 0.75, 1.0]

    def test_callbacks_come_on_the_main_thread_and_the_engine_works_on_another(self, runner, engine, request_):
        threads = set()
        runner.run(
            engine,
            request_,
            lambda _p: threads.add(threading.current_thread()),
            lambda _w: threads.add(threading.current_thread()),
        )
        runner.run(engine, request_)
        assert threads == {threading.main_thread()}
        assert engine.threads == {"MedalS worker"}

    def test_an_open_image_is_used_again_until_it_changes(self, runner, engine, request_, ct):
        import slicer

        runner.estimate(engine, request_)
        runner.run(engine, request_)
        assert len(engine.opened) == 1
        slicer.util.arrayFromVolume(ct)[0, 0, 0] += 1
        slicer.util.arrayFromVolumeModified(ct)
        runner.run(engine, request_)
        ct.SetSpacing(1, 1, 1)
        runner.run(engine, request_)
        assert (len(engine.opened), engine.sessions_closed) == (3, 2)

    def test_an_estimate_that_may_not_send_the_image_waits_until_it_is_open(self, runner, engine, request_):
        assert runner.estimate(engine, request_, send=False) is None
        assert not engine.opened
        runner.run(engine, request_)
        assert runner.estimate(engine, request_, send=False) is not None
        assert len(engine.opened) == 1

    def test_nothing_found_adds_nothing(self, runner, request_, scene):
        outcome = runner.run(FakeEngine({}), request_)
        assert outcome.segmentationNode is None
        assert [item.reason for item in outcome.written] == ["absent", "absent"]
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0

    def test_a_second_run_updates_the_segments_of_the_first(self, runner, engine, request_, ct):
        node = runner.run(engine, request_).segmentationNode
        engine.answers["Liver"] = LIVER & ~SPLEEN
        runner.run(engine, replace(request_, segmentationNode=node))
        assert segmentNames(node) == ["Liver", "Spleen"]
        assert np.array_equal(slicerSays(node, "Liver", ct), LIVER & ~SPLEEN)

    def test_codes_are_those_of_the_modality_that_the_engine_guessed(self, runner, request_, monkeypatch):
        import MedalSLib.slicer.writer as writer

        class Guessing(FakeEngine):
            def open_session(self, array_kji, affine_ras, modality=None):
                return super().open_session(array_kji, affine_ras, modality or "MRI")

        described = []
        monkeypatch.setattr(writer, "describe", lambda _segment, name, modality: described.append((name, modality)))
        runner.run(Guessing({"Liver": LIVER}), replace(request_, prompts=("Liver",), modality=None))
        assert described == [("Liver", "MRI")]

    def test_one_undo_takes_back_the_run(self, runner, engine, request_, editing):
        node = runner.run(engine, request_).segmentationNode
        editing.undo()
        assert segmentNames(node) == []

    def test_the_users_segments_that_lose_voxels_are_named(self, runner, engine, request_, ct):
        from slicer_host.phantoms import draw

        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        draw(node, ct, "Cyst", LIVER)
        draw(node, ct, "Elsewhere", ~(LIVER | SPLEEN))
        asked = replace(request_, segmentationNode=node)
        assert runner.run(engine, asked).cut == ()
        assert runner.run(engine, replace(asked, overlap=Overlap.OVERWRITE)).cut == ("Cyst",)

    def test_without_overlap_structures_of_the_run_share_no_voxel(self, runner, engine, request_, ct):
        from MedalSLib.slicer.request import Overlap

        outcome = runner.run(engine, replace(request_, overlap=Overlap.OVERWRITE))
        liver, spleen = (slicerSays(outcome.segmentationNode, item.segmentID, ct) for item in outcome.written)
        assert not (liver & spleen).any()
        assert np.array_equal(liver | spleen, LIVER | SPLEEN)
        assert np.array_equal(spleen, SPLEEN)  # the labelmap gives the shared voxels to the spleen

    def test_a_rerun_that_keeps_others_may_swap_its_own_structures(self, runner, engine, request_, ct):
        from MedalSLib.slicer.request import Overlap

        request = replace(request_, overlap=Overlap.KEEP_OTHERS)
        node = runner.run(engine, request).segmentationNode
        engine.answers = {"Liver": SPLEEN, "Spleen": LIVER & ~SPLEEN}
        runner.run(engine, replace(request, segmentationNode=node))
        assert np.array_equal(slicerSays(node, "Liver", ct), SPLEEN)
        assert np.array_equal(slicerSays(node, "Spleen", ct), LIVER & ~SPLEEN)

    def test_instances_become_segments_of_their_own(self, runner, request_, ct):
        labels = np.zeros(SHAPE, np.int32)
        labels[2:4, 2:4, 2:4], labels[10:12, 10:12, 10:12] = 1, 2
        engine = FakeEngine({"Liver tumor": labels > 0}, instances={"Liver tumor": labels})
        outcome = runner.run(
            engine, replace(request_, prompts=("Liver tumor",), options=RunOptions(instances=("Liver tumor",)))
        )
        assert segmentNames(outcome.segmentationNode) == ["Liver tumor 1", "Liver tumor 2"]

    def test_a_region_limits_what_changes(self, runner, engine, request_, ct, scene):
        node = runner.run(engine, request_).segmentationNode
        roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
        roi.SetCenter(20, 40, 20)
        roi.SetSize(20, 20, 20)
        engine.answers["Liver"] = other = box(SHAPE, (10, 20), (18, 24), (8, 20))
        runner.run(engine, replace(request_, prompts=("Liver",), segmentationNode=node, roiNode=roi))
        assert engine.asked[-1].roi == ((5, 16), (15, 26), (5, 16))
        inside = box(SHAPE, (5, 16), (15, 26), (5, 16))
        assert np.array_equal(slicerSays(node, "Liver", ct), (LIVER & ~inside) | (other & inside))


class TestSpatialPrompts:
    def test_a_segment_goes_to_the_engine_and_is_refined_in_place(self, runner, engine, request_, ct):
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        mine = draw(node, ct, "rough", SPLEEN)
        outcome = runner.run(
            engine, replace(request_, prompts=(), segmentationNode=node, spatialPrompts={mine: "Liver"})
        )
        assert np.array_equal(engine.asked[0].masks["Liver"], SPLEEN)
        assert [item.segmentID for item in outcome.written] == [mine]
        assert np.array_equal(slicerSays(node, mine, ct), LIVER)

    def test_the_prompt_can_be_kept(self, runner, engine, request_, ct):
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        mine = draw(node, ct, "rough", SPLEEN)
        runner.run(
            engine,
            replace(request_, prompts=(), segmentationNode=node, spatialPrompts={mine: "Liver"}, updatePrompts=False),
        )
        assert segmentNames(node) == ["rough", "Liver"]
        assert np.array_equal(slicerSays(node, mine, ct), SPLEEN)

    def test_an_empty_segment_is_no_prompt(self, runner, engine, request_, ct):
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        mine = node.GetSegmentation().AddEmptySegment("m", "blank")
        with pytest.raises(InputError, match="blank has no voxel"):
            runner.run(engine, replace(request_, segmentationNode=node, spatialPrompts={mine: "Liver"}))

    def test_nothing_typed_and_nothing_chosen(self, runner, engine, request_):
        with pytest.raises(PromptError, match="nothing to segment"):
            runner.run(engine, replace(request_, prompts=(" ",)))


class TestRefine:
    def test_strokes_are_found_locked_and_kept_and_only_their_surroundings_change(
        self, runner, engine, request_, ct, editing
    ):
        import MedalSLib.slicer.run_inputs as module

        node = runner.run(engine, request_).segmentationNode
        brush, rubber = box(SHAPE, (16, 18), (5, 8), (6, 9)), box(SHAPE, (4, 6), (5, 8), (6, 9))
        paint(editing, node, ct, "Liver", brush)
        paint(editing, node, ct, "Liver", rubber, erase=True)
        strokes = runner.strokes(node, ct)
        assert strokes.painted == strokes.locked == {"Liver": BoxMask.of(brush | rubber)}
        module_margin, module.REFINE_MARGIN_MM = module.REFINE_MARGIN_MM, 4.0
        try:
            engine.answers["Liver"] = LIVER & ~box(SHAPE, (0, 24), (0, 40), (0, 12))
            runner.run(engine, replace(request_, prompts=(), segmentationNode=node, refine=True))
        finally:
            module.REFINE_MARGIN_MM = module_margin
        asked = engine.asked[-1]
        assert asked.options.mode == "refine"
        assert asked.prompts == () and np.array_equal(asked.painted["Liver"], brush | rubber)
        near = box(SHAPE, (2, 20), (3, 10), (4, 11))
        inside = (LIVER & ~box(SHAPE, (0, 24), (0, 40), (0, 12)) & ~rubber) | brush
        assert np.array_equal(slicerSays(node, "Liver", ct), np.where(near, inside, LIVER))
        assert np.array_equal(slicerSays(node, "Spleen", ct), SPLEEN)
        assert runner.strokes(node, ct) is None

    def test_an_earlier_stroke_stays_locked_in_the_next_refinement(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        first, second = box(SHAPE, (16, 18), (5, 8), (6, 9)), box(SHAPE, (16, 18), (20, 23), (6, 9))
        refine = replace(request_, segmentationNode=node, refine=True)
        paint(editing, node, ct, "Liver", first)
        runner.run(engine, refine)
        paint(editing, node, ct, "Liver", second)
        assert np.array_equal(runner.strokes(node, ct).locked["Liver"].array(), first | second)
        runner.run(engine, refine)
        assert np.array_equal(slicerSays(node, "Liver", ct), LIVER | first | second)

    def test_undoing_a_run_is_not_taken_for_painting(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        engine.answers["Liver"] = SPLEEN
        runner.run(engine, replace(request_, segmentationNode=node))
        editing.undo()
        assert np.array_equal(slicerSays(node, "Liver", ct), LIVER)
        assert runner.strokes(node, ct) is None

    def test_undoing_the_first_run_on_a_drawn_segment_is_not_taken_for_painting(
        self, runner, engine, request_, ct, editing
    ):
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        mine = draw(node, ct, "rough", SPLEEN)
        runner.run(engine, replace(request_, prompts=(), segmentationNode=node, spatialPrompts={mine: "Liver"}))
        editing.undo()
        assert runner.strokes(node, ct) is None

    def test_strokes_are_found_after_the_engine_was_changed(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        brush = box(SHAPE, (16, 18), (5, 8), (6, 9))
        paint(editing, node, ct, "Liver", brush)
        last = runner.last
        runner.closeSession()
        assert engine.sessions_closed == 1
        assert runner.strokes(node, ct).painted == {"Liver": BoxMask.of(brush)}
        assert runner.last is last
        other = FakeEngine({"Liver": LIVER, "Spleen": SPLEEN})
        runner.run(other, replace(request_, segmentationNode=node, refine=True))
        assert np.array_equal(other.asked[0].locked["Liver"], brush)
        assert np.array_equal(slicerSays(node, "Liver", ct), LIVER | brush)

    def test_a_session_that_is_in_use_is_closed_when_the_run_ends(self, runner, engine, request_, ct):
        node = runner.run(engine, request_, onWritten=lambda _written: runner.closeSession()).segmentationNode
        assert engine.sessions_closed == 1
        assert runner.strokes(node, ct) is None
        engine.answers["Liver"] = SPLEEN
        runner.run(engine, replace(request_, segmentationNode=node))
        assert len(engine.opened) == 2

    def test_forgetting_forgets_the_results_too(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        paint(editing, node, ct, "Liver", box(SHAPE, (16, 18), (5, 8), (6, 9)))
        runner.forget()
        assert (engine.sessions_closed, runner.last, runner.strokes(node, ct)) == (1, None, None)

    def test_what_is_kept_out_is_certainly_not_the_structure(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        brush = box(SHAPE, (16, 18), (5, 8), (6, 9))
        paint(editing, node, ct, "Liver", brush)
        refine = replace(request_, prompts=(), segmentationNode=node, excludedIDs=("Spleen",), refine=True)
        runner.run(engine, refine)
        assert np.array_equal(engine.asked[-1].locked["Liver"], brush | (SPLEEN & ~LIVER))
        assert np.array_equal(engine.asked[-1].painted["Liver"], brush)

    def test_without_strokes_it_says_so(self, runner, engine, request_):
        node = runner.run(engine, request_).segmentationNode
        with pytest.raises(InputError, match="Nothing was painted"):
            runner.run(engine, replace(request_, segmentationNode=node, refine=True))

    def test_what_the_user_erased_whole_stays_away_in_the_region(self, runner, engine, request_, ct, editing):
        node = runner.run(engine, request_).segmentationNode
        paint(editing, node, ct, "Liver", LIVER, erase=True)
        engine.answers["Liver"] = LIVER
        runner.run(engine, replace(request_, segmentationNode=node, refine=True))
        assert not slicerSays(node, "Liver", ct).any()

    def test_segments_on_a_coarser_grid_show_no_strokes_of_their_own(self, runner, engine, request_, ct, scene):
        coarse = addVolume(scene, (10, 16, 20), affine((5, 5, 5)), "coarse")
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        node.SetReferenceImageGeometryParameterFromVolumeNode(coarse)
        draw(node, coarse, "x", box((10, 16, 20), (0, 2), (0, 2), (0, 2)))
        runner.run(engine, replace(request_, segmentationNode=node))
        assert runner.strokes(node, ct) is None


class TestFaults:
    """After each, the user's segments are what they were."""

    @pytest.fixture
    def mine(self, ct):
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        draw(node, ct, "mine", SPLEEN)
        return node

    def isIntact(self, node, ct):
        return segmentNames(node) == ["mine"] and np.array_equal(slicerSays(node, "mine", ct), SPLEEN)

    @pytest.mark.parametrize("overlap", ["allow", "overwrite"])
    def test_cancelled_after_the_first_structure(self, runner, request_, mine, ct, slicer_host, overlap):
        from MedalSLib.slicer.request import Overlap

        cancel = threading.Event()
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)
        with pytest.raises(CancelledError):
            runner.run(
                engine,
                replace(request_, segmentationNode=mine, overlap=Overlap(overlap)),
                onWritten=lambda _written: cancel.set(),
                cancel=cancel,
            )
        assert self.isIntact(mine, ct)

    @pytest.mark.parametrize("error", [ResourceError("out of memory"), ServiceError("gone"), RuntimeError("bug")])
    def test_the_engine_fails_after_the_first_structure(self, runner, request_, mine, ct, error):
        engine = FakeEngine({"Liver": LIVER}, pause=0.05, error=error)
        with pytest.raises(type(error)):
            runner.run(engine, replace(request_, segmentationNode=mine))
        assert self.isIntact(mine, ct)
        engine.error = None
        runner.run(engine, replace(request_, segmentationNode=mine))
        assert len(engine.opened) == 2  # a broken session is not used again

    def test_a_failing_callback_stops_the_engine_and_takes_everything_back(self, runner, request_, mine, ct):
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)

        def fail(_written):
            raise ValueError("callback")

        with pytest.raises(ValueError, match="callback"):
            runner.run(engine, replace(request_, segmentationNode=mine), onWritten=fail)
        assert self.isIntact(mine, ct)

    def test_the_scene_is_closed_in_mid_run(self, runner, request_, mine, slicer_host, scene):
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)
        with pytest.raises(CancelledError, match="scene was closed"):
            runner.run(engine, replace(request_, segmentationNode=mine), onWritten=lambda _w: scene.Clear(False))
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
        runner.forget()
        ct = addVolume(scene, SHAPE)
        assert runner.run(FakeEngine({"Liver": LIVER}), replace(request_, volumeNode=ct)).segmentationNode is not None

    def test_the_image_is_closed_after_the_run_that_still_uses_it(self, runner, request_, scene):
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)

        def closeAll(_written):
            scene.Clear(False)
            runner.forget()

        with pytest.raises(CancelledError):
            runner.run(engine, request_, onWritten=closeAll)
        assert engine.sessions_closed == 1

    def test_closing_the_module_ends_the_run(self, runner, request_):
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)
        with pytest.raises(CancelledError):
            runner.run(engine, request_, onWritten=lambda _written: runner.close())
        assert engine.sessions_closed == 1

    @pytest.mark.parametrize("which", ["volume", "segmentation"])
    def test_a_node_is_removed_in_mid_run(self, runner, request_, mine, ct, scene, which):
        engine = FakeEngine({"Liver": LIVER, "Spleen": LIVER}, pause=5)
        node = ct if which == "volume" else mine
        with pytest.raises(CancelledError, match=f"The {which} .* was removed"):
            runner.run(engine, replace(request_, segmentationNode=mine), onWritten=lambda _w: scene.RemoveNode(node))
        if which == "volume":
            assert segmentNames(mine) == ["mine"]

    def test_nothing_more_is_written_once_the_segmentation_is_gone(self, runner, request_, mine, scene):
        from MedalSLib.slicer.request import Overlap

        engine = FakeEngine({"Liver": LIVER, "Spleen": SPLEEN}, pause=0.02)
        seen = []

        def remove(written):
            seen.append(written.structure)
            if len(seen) == 3:  # both were streamed; this is the first of the final round
                scene.RemoveNode(mine)

        with pytest.raises(CancelledError, match=r"segmentation .* was removed"):
            runner.run(engine, replace(request_, segmentationNode=mine, overlap=Overlap.KEEP_OTHERS), onWritten=remove)
        assert seen == ["Liver", "Spleen", "Liver"]

    def test_the_volume_is_moved_in_mid_run(self, runner, request_, mine, ct, slicer_host):
        slicer_host.app.onProcessEvents = lambda: ct.SetOrigin(50, 0, 0)
        with pytest.raises(CancelledError, match="moved"):
            runner.run(FakeEngine({"Liver": LIVER}, pause=0.05), replace(request_, segmentationNode=mine))
        ct.SetOrigin(0, 0, 0)
        assert self.isIntact(mine, ct)

    def test_a_new_segmentation_is_taken_away_again(self, runner, request_, scene):
        engine = FakeEngine({"Liver": LIVER}, pause=0.05, error=ResourceError("out of memory"))
        with pytest.raises(ResourceError):
            runner.run(engine, request_)
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0

    def test_a_second_run_is_refused_while_one_goes_on(self, runner, request_, slicer_host):
        engine = FakeEngine({"Liver": LIVER}, pause=0.05)
        refused = []

        def again():
            with pytest.raises(ResourceError, match="going on"):
                runner.run(engine, request_)
            refused.append(True)

        slicer_host.app.onProcessEvents = again
        runner.run(engine, request_)
        assert refused
        assert len(engine.asked) == 1

    def test_all_segments_locked(self, runner, engine, request_, ct):
        from MedalSLib.slicer.targets import setLocked

        node = runner.run(engine, request_).segmentationNode
        for segmentID in node.GetSegmentation().GetSegmentIDs():
            setLocked(node, segmentID, True)
        engine.answers = {"Liver": SPLEEN, "Spleen": LIVER}
        outcome = runner.run(engine, replace(request_, segmentationNode=node))
        assert [item.reason for item in outcome.written] == ["locked", "locked"]
        assert np.array_equal(slicerSays(node, "Liver", ct), LIVER)
