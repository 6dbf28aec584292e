"""Write-back in pieces: events are processed in the middle, and the result is that of one piece."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from fake_engine import FakeEngine
from slicer_host.phantoms import (
    GRIDS,
    LIVER,
    SHAPE,
    SPLEEN,
    addVolume,
    affine,
    ballRas,
    box,
    centreRas,
    draw,
    paint,
    slicerSays,
)

from MedalSLib.errors import CancelledError
from MedalSLib.volume.mask import BoxMask


@pytest.fixture
def often(monkeypatch, slicer_host):
    """Events whenever they are allowed, and every array on the helper thread; gives a function that makes a UiYield."""
    from MedalSLib.slicer import ui_yield
    from MedalSLib.slicer.background import Worker

    monkeypatch.setattr(ui_yield, "EVENT_INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr(ui_yield, "INLINE_VOXELS", 0)
    worker = Worker()
    yield lambda pump=lambda: None, check=lambda: None: ui_yield.UiYield(pump, worker, check)
    worker.close()


@pytest.fixture
def runner(often, slicer_host, editing):
    from MedalSLib.slicer.runner import Runner

    runner = Runner(editing, slicer_host.app.processEvents, poll=0.002)
    yield runner
    runner.close()


@pytest.fixture
def request_(ct):
    from MedalSLib.slicer.request import NodeRequest

    return NodeRequest(ct, prompts=("Liver", "Spleen"), modality="CT")


def voxels(node, ct):
    return {one: slicerSays(node, one, ct) for one in node.GetSegmentation().GetSegmentIDs()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


class TestUiYield:
    def test_without_a_pump_the_work_is_done_at_once_on_this_thread(self, slicer_host):
        from MedalSLib.slicer.ui_yield import UiYield

        ui = UiYield()
        assert ui.offload(threading.current_thread, 10**9) is threading.main_thread()
        ui.processEvents()

    def test_large_arrays_are_handled_on_the_helper_thread_while_the_interface_has_its_turns(self, slicer_host):
        from MedalSLib.slicer.background import Worker
        from MedalSLib.slicer.ui_yield import UiYield

        worker, seen, go = Worker(), [], threading.Event()

        def pump():
            seen.append(threading.current_thread())
            if len(seen) == 3:
                go.set()

        def work():
            assert go.wait(10)  # three rounds of events come while it goes on
            return threading.current_thread()

        assert UiYield(pump, worker).offload(work, 10**9) is not threading.main_thread()
        assert set(seen) == {threading.main_thread()} and len(seen) >= 3
        worker.close()

    def test_turns_are_not_more_frequent_than_drawing_can_follow(self, slicer_host):
        from MedalSLib.slicer.ui_yield import UiYield

        seen = []
        ui = UiYield(lambda: seen.append(1))
        for _number in range(1000):
            ui.processEvents()
        assert len(seen) < 100

    def test_what_ends_the_work_is_raised_after_the_work_in_hand(self, often):
        ended = []

        def check():
            raise CancelledError

        with pytest.raises(CancelledError):
            often(check=check).offload(lambda: ended.append(1), 10**9)
        assert ended == [1]


class TestTheSameResult:
    """Each write in pieces is compared with the same write in one piece."""

    @pytest.fixture
    def written(self, scene, ct, editing):
        """Write a first and a second run into a segmentation with the user's own segments; return what is there."""

        def do(policy, ui=None, region=None, grid=None, mask=None):
            from MedalSLib.slicer.request import Overlap
            from MedalSLib.slicer.segmentations import addSegmentation
            from MedalSLib.slicer.targets import setLocked
            from MedalSLib.slicer.writer import SegmentWriter

            if grid is None:
                node = addSegmentation(ct)
            else:
                node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
                node.SetReferenceImageGeometryParameterFromVolumeNode(grid)
            random = np.random.default_rng(3)
            mine = random.random(SHAPE) < 0.3
            draw(node, grid or ct, "mine", mine if grid is None else mine[tuple(slice(n) for n in shapeOf(grid))])
            draw(node, ct, "locked", box(SHAPE, (0, 9), (0, 40), (0, 48)))
            draw(node, ct, "not here", box(SHAPE, (12, 24), (30, 40), (0, 48)))
            setLocked(node, "locked", True)
            options = {"overlap": Overlap(policy), "excludeIDs": ("not here",), "region": region}
            for masks in ({"Liver": LIVER, "Spleen": SPLEEN}, {"Liver": SPLEEN, "Spleen": LIVER}):
                run = SegmentWriter(node, ct, editing, ui=ui, **options)
                run.expect(masks)
                for name, mask in masks.items():
                    run.write(name, mask)
            return node, run, voxels(node, ct)

        return do

    @pytest.mark.parametrize("policy", ["allow", "keep", "overwrite"])
    def test_under_every_policy(self, written, often, policy):
        _, _, whole = written(policy)
        seen = []
        _, _, pieces = written(policy, often(lambda: seen.append(1)))
        assert same(whole, pieces)
        assert len(seen) > 20
        assert whole["Liver"].any() and whole["Spleen"].any()

    @pytest.mark.parametrize("policy", ["allow", "keep", "overwrite"])
    def test_within_a_region(self, written, often, policy):
        region = BoxMask.of(box(SHAPE, (5, 18), (3, 33), (8, 30)))
        assert same(written(policy, region=region)[2], written(policy, often(), region)[2])

    @pytest.mark.parametrize("policy", ["keep", "overwrite"])
    def test_on_another_grid_which_is_interpolated_slab_by_slab(self, written, often, scene, policy, monkeypatch):
        from MedalSLib.slicer import oriented_image

        coarse = addVolume(scene, (14, 26, 31), affine((3.1, 3.3, 3.7), None, (-3, -2, -1)), "coarse")
        whole = written(policy, grid=coarse)[2]
        monkeypatch.setattr(oriented_image, "SLAB_VOXELS", 500)
        assert same(whole, written(policy, often(), grid=coarse)[2])

    @pytest.mark.parametrize("warped", [False, True])
    @pytest.mark.parametrize("grid", ["oblique", "permuted"])
    def test_slabs_are_interpolated_as_the_whole(self, scene, grid, warped, monkeypatch):
        from slicer_host.phantoms import addWarp

        from MedalSLib.slicer import oriented_image
        from MedalSLib.slicer.volumes import localMatrix

        volume = addVolume(scene, (20, 24, 28), GRIDS[grid])
        ball = BoxMask.of(ballRas(volume, centreRas(volume), 9.0))
        transform = addWarp(scene).GetTransformToParent() if warped else None
        target = ((-40, 60), (-40, 60), (-40, 60))
        matrices = localMatrix(volume), affine((1.3, 1.1, 0.9))
        whole = oriented_image.resampled(ball, *matrices, target, transform)
        monkeypatch.setattr(oriented_image, "SLAB_VOXELS", 900)
        slabs = oriented_image.resampled(ball, *matrices, target, transform)
        assert not whole.is_empty
        assert whole == slabs

    def test_undo_takes_all_pieces_back_in_one_step_and_redo_brings_them_again(self, written, often, editing, ct):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        node = addSegmentation(ct)
        draw(node, ct, "mine", SPLEEN)
        before = voxels(node, ct)
        run = SegmentWriter(node, ct, editing, Overlap.OVERWRITE, ui=often())
        for name, mask in {"Liver": LIVER, "Spleen": SPLEEN, "Left kidney": LIVER & ~SPLEEN}.items():
            run.write(name, mask)
        after = voxels(node, ct)
        editing.undo()
        assert same(voxels(node, ct), before)
        editing.logic.Redo()
        assert same(voxels(node, ct), after)

    def test_the_way_back_in_pieces_restores_exactly(self, written, often, ct, editing):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        node = addSegmentation(ct)
        draw(node, ct, "mine", SPLEEN)
        SegmentWriter(node, ct, editing).write("Liver", SPLEEN)
        before = voxels(node, ct)
        run = SegmentWriter(node, ct, editing, Overlap.OVERWRITE)
        run.write("Liver", LIVER)
        run.write("Spleen", LIVER)
        seen = []
        run.rollback(often(lambda: seen.append(1)))
        assert same(voxels(node, ct), before)
        assert len(seen) > 3


def shapeOf(volume):
    i, j, k = volume.GetImageData().GetDimensions()
    return k, j, i


class TestWhatHappensMeanwhile:
    def test_one_write_has_many(self, often, ct, editing):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        node = addSegmentation(ct)
        for number in range(5):
            draw(node, ct, f"mine {number}", SPLEEN)
        seen = []
        run = SegmentWriter(node, ct, editing, Overlap.OVERWRITE, ui=often(lambda: seen.append(1)))
        run.write("Liver", LIVER)
        assert len(seen) >= 15

    def test_nobody_sees_half_of_a_changed_segment(self, often, ct, editing):
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        node = addSegmentation(ct)
        SegmentWriter(node, ct, editing).write("Liver", LIVER)
        seen = set()

        def look():
            seen.add(slicerSays(node, "Liver", ct).tobytes())

        SegmentWriter(node, ct, editing, ui=often(look)).write("Liver", SPLEEN)
        look()
        assert seen == {LIVER.tobytes(), SPLEEN.tobytes()}

    def test_a_segment_that_the_user_deletes_does_not_stop_the_run(self, often, ct, editing):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        for policy in Overlap:
            for turn in range(12):
                node = addSegmentation(ct)
                for name in ("a", "b", "c"):
                    draw(node, ct, name, SPLEEN)
                left = [turn]

                def delete(node=node, left=left):
                    left[0] -= 1
                    if left[0] == 0:
                        node.GetSegmentation().RemoveSegment("b")

                run = SegmentWriter(node, ct, editing, policy, ui=often(delete))
                result = run.write("Liver", LIVER).segmentID
                free = LIVER & ~SPLEEN if policy is Overlap.KEEP_OTHERS else LIVER
                assert np.array_equal(slicerSays(node, result, ct), free)

    @pytest.mark.parametrize("policy", ["allow", "keep", "overwrite"])
    def test_a_cancel_in_any_turn_leaves_the_segments_as_they_were(self, runner, request_, ct, slicer_host, policy):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        draw(node, ct, "mine", SPLEEN)
        request = replace(request_, segmentationNode=node, overlap=Overlap(policy))
        runner.run(FakeEngine({"Liver": LIVER, "Spleen": SPLEEN & ~LIVER}), request)
        before = voxels(node, ct)
        engine = FakeEngine({"Liver": SPLEEN, "Spleen": LIVER})
        cancelled = 0
        for turn in (1, 2, 3, 5, 8, 13, 21, 34, 55):
            left = [turn]

            def press(left=left):
                left[0] -= 1
                if left[0] == 0:
                    runner.cancel()

            slicer_host.app.onProcessEvents = press
            try:
                runner.run(engine, request)
            except CancelledError:
                cancelled += 1
                assert same(voxels(node, ct), before)
            else:
                runner.rollback([runner.last])
        assert cancelled >= 5
        slicer_host.app.onProcessEvents = None
        runner.run(engine, request)
        assert not same(voxels(node, ct), before)

    def test_the_scene_is_closed_in_the_middle_of_a_write(self, runner, request_, scene, slicer_host):
        from MedalSLib.slicer.request import NodeRequest

        for turn in (2, 4, 7, 11, 16):
            ct = addVolume(scene, SHAPE, affine((2, 2, 2)))
            left = [turn]

            def close(left=left):
                left[0] -= 1
                if left[0] == 0:
                    scene.Clear(False)

            slicer_host.app.onProcessEvents = close
            with pytest.raises(CancelledError, match="scene was closed"):
                runner.run(FakeEngine({"Liver": LIVER, "Spleen": SPLEEN}), NodeRequest(ct, prompts=("Liver", "Spleen")))
            slicer_host.app.onProcessEvents = None
            assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
            runner.forget()

    def test_a_second_run_is_refused_while_strokes_are_looked_for(self, runner, request_, ct, slicer_host):
        from MedalSLib.errors import InputError, ResourceError

        engine = FakeEngine({"Liver": LIVER})
        node = runner.run(engine, request_).segmentationNode
        refused = []

        def again():
            with pytest.raises(ResourceError, match="going on"):
                runner.run(engine, request_)
            refused.append(1)

        slicer_host.app.onProcessEvents = again
        with pytest.raises(InputError, match="Nothing was painted"):
            runner.run(engine, replace(request_, segmentationNode=node, refine=True))
        assert refused

    def test_a_cancel_while_the_last_structures_are_written_is_a_cancel(self, runner, request_, ct):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.segmentations import addSegmentation

        node = addSegmentation(ct)
        draw(node, ct, "mine", SPLEEN)
        before, seen = voxels(node, ct), []

        def cancelLate(written):
            seen.append(written.structure)
            if len(seen) == 3:  # both were streamed; this is the first of the final round
                runner.cancel()

        with pytest.raises(CancelledError):
            runner.run(
                FakeEngine({"Liver": LIVER, "Spleen": SPLEEN}, pause=0.02),
                replace(request_, segmentationNode=node, overlap=Overlap.OVERWRITE),
                onWritten=cancelLate,
            )
        assert seen == ["Liver", "Spleen", "Liver"]
        assert same(voxels(node, ct), before)

    @pytest.mark.parametrize("turn", [1, 2, 3])
    def test_a_volume_that_is_moved_while_strokes_are_looked_for_ends_the_run(
        self, runner, request_, ct, slicer_host, editing, turn
    ):
        engine = FakeEngine({"Liver": LIVER})
        node = runner.run(engine, request_).segmentationNode
        paint(editing, node, "Liver", ct, box(SHAPE, (18, 20), (5, 8), (6, 9)))
        before, left = voxels(node, ct), [turn]

        def move():
            left[0] -= 1
            if left[0] == 0:
                ct.SetOrigin(50, 0, 0)

        slicer_host.app.onProcessEvents = move
        with pytest.raises(CancelledError, match="moved"):
            runner.run(engine, replace(request_, segmentationNode=node, refine=True))
        slicer_host.app.onProcessEvents = None
        ct.SetOrigin(0, 0, 0)
        assert len(engine.asked) == 1
        assert same(voxels(node, ct), before)

    def test_a_volume_that_changes_while_it_is_read_is_read_again_in_one_go(self, runner, request_, ct, monkeypatch):
        import slicer

        from MedalSLib.slicer import runner as module

        former = module.UiYield.offload

        def torn(self, work, count):
            if getattr(work, "__name__", "") != "copy":
                return former(self, work, count)
            first = work()
            slicer.util.arrayFromVolume(ct)[:] = 7
            slicer.util.arrayFromVolumeModified(ct)
            first[SHAPE[0] // 2 :] = work()[SHAPE[0] // 2 :]
            return first

        monkeypatch.setattr(module.UiYield, "offload", torn)
        engine = FakeEngine({"Liver": LIVER})
        runner.run(engine, request_)
        array = engine.opened[0][0]
        assert (array == 7).all()
        assert not np.shares_memory(array, slicer.util.arrayFromVolume(ct))


class TestWhereTheWorkIsDone:
    def test_masks_are_kept_apart_off_the_main_thread(self, runner, request_, ct, monkeypatch):
        """It looks at every voxel of the image, and at every structure."""
        from MedalSLib.slicer import runner as module
        from MedalSLib.slicer.request import Overlap

        threads, former = [], module.disjoint

        def noted(result):
            threads.append(threading.current_thread().name)
            return former(result)

        monkeypatch.setattr(module, "disjoint", noted)
        runner.run(FakeEngine({"Liver": LIVER, "Spleen": SPLEEN}), replace(request_, overlap=Overlap.KEEP_OTHERS))
        assert threads == ["MedalS worker"]

    def test_an_image_is_copied_when_it_is_opened_and_not_again(self, runner, request_, ct, monkeypatch):
        import slicer

        from MedalSLib.slicer import runner as module

        engine = FakeEngine({"Liver": LIVER})
        runner.run(engine, request_)
        assert not np.shares_memory(engine.opened[0][0], slicer.util.arrayFromVolume(ct))
        copies = []
        former = module.UiYield.offload

        def noted(self, work, count):
            if getattr(work, "__name__", "") == "copy":
                copies.append(count)
            return former(self, work, count)

        monkeypatch.setattr(module.UiYield, "offload", noted)
        runner.run(engine, request_)
        assert copies == []
        runner.closeSession()
        runner.run(engine, request_)
        assert copies == [LIVER.size]
