"""Write-back through Slicer's segment editor: masks, locks, overlap, undo, re-runs, regions, by Slicer's core."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.phantoms import LIVER, SHAPE, SPLEEN, addVolume, affine, box, draw, slicerSays

from MedalSLib.volume.mask import BoxMask


@pytest.fixture
def ct(scene):
    return addVolume(scene, SHAPE)


@pytest.fixture
def segmentation(scene, ct):
    from MedalSLib.slicer.segmentations import addSegmentation

    return addSegmentation(ct)


@pytest.fixture
def writer(segmentation, ct, editing):
    def make(**options):
        from MedalSLib.slicer.writer import SegmentWriter

        return SegmentWriter(segmentation, ct, editing, **options)

    return make


def state(segmentation, ct):
    """Everything a user sees of the segments, by ID, in order."""
    found = {}
    for segmentID in segmentation.GetSegmentation().GetSegmentIDs():
        segment = segmentation.GetSegment(segmentID) if hasattr(segmentation, "GetSegment") else None
        segment = segment or segmentation.GetSegmentation().GetSegment(segmentID)
        mask = slicerSays(segmentation, segmentID, ct)
        found[segmentID] = (segment.GetName(), segment.GetColor(), np.packbits(mask).tobytes())
    return found


class TestWhatIsWritten:
    def test_a_new_segment_has_the_mask_the_name_the_colour_and_the_codes(self, segmentation, ct, writer):
        from MedalSLib.slicer import targets
        from MedalSLib.slicer.segment_terminology import structureNamed

        written = writer().write("Left kidney", LIVER)
        segment = segmentation.GetSegmentation().GetSegment(written.segmentID)
        assert np.array_equal(slicerSays(segmentation, written.segmentID, ct), LIVER)
        assert segment.GetName() == "Left kidney"
        rgb = structureNamed("Left kidney", "CT").color
        np.testing.assert_allclose(segment.GetColor(), np.array(rgb) / 255)
        parts = targets.terminologyOf(segment).split("~")
        assert parts[2:4] == ["SCT^64033007^Kidney", "SCT^7771000^Left"]

    def test_a_structure_that_the_model_brings_itself_has_general_codes_and_a_lasting_colour(
        self, segmentation, ct, writer
    ):
        from MedalSLib.slicer import targets
        from MedalSLib.vocabulary import describe

        written = writer().write("left odd lump", LIVER)
        segment = segmentation.GetSegmentation().GetSegment(written.segmentID)
        own = describe("CT_left odd lump")
        np.testing.assert_allclose(segment.GetColor(), np.array(own.color) / 255)
        parts = targets.terminologyOf(segment).split("~")
        assert parts[2:4] == ["SCT^85756007^Tissue", "SCT^7771000^Left"]
        assert writer().write("left odd lump", SPLEEN).segmentID == written.segmentID

    def test_codes_of_one_structure_do_not_stick_to_the_next(self, segmentation, writer):
        from MedalSLib.slicer import targets

        run = writer()
        run.write("Left kidney", LIVER)
        spleen = run.write("Spleen", SPLEEN).segmentID
        parts = targets.terminologyOf(segmentation.GetSegmentation().GetSegment(spleen)).split("~")
        assert parts[2] == "SCT^78961009^Spleen"
        assert parts[3].strip("^") == ""

    def test_structures_of_one_run_may_overlap(self, segmentation, ct, writer):
        run = writer()
        a, b = run.write("Liver", LIVER).segmentID, run.write("Spleen", SPLEEN).segmentID
        assert (LIVER & SPLEEN).any()
        assert np.array_equal(slicerSays(segmentation, a, ct), LIVER)
        assert np.array_equal(slicerSays(segmentation, b, ct), SPLEEN)

    def test_nothing_found_adds_no_segment_and_says_so(self, segmentation, writer, editing):
        written = writer().write("Liver", np.zeros(SHAPE, bool))
        assert (written.reason, written.segmentID, written.changed) == ("absent", "", False)
        assert segmentation.GetSegmentation().GetNumberOfSegments() == 0
        assert not editing.logic.CanUndo()

    def test_nothing_found_keeps_the_segment_of_an_earlier_run(self, segmentation, ct, writer):
        first = writer().write("Liver", LIVER).segmentID
        assert writer().write("Liver", np.zeros(SHAPE, bool)).reason == "absent"
        assert np.array_equal(slicerSays(segmentation, first, ct), LIVER)

    def test_an_empty_segment_of_that_name_is_filled(self, segmentation, ct, writer):
        mine = segmentation.GetSegmentation().AddEmptySegment("mine", "liver")
        assert writer().write("Liver", LIVER).segmentID == mine
        assert segmentation.GetSegmentation().GetSegment(mine).GetName() == "liver"
        assert np.array_equal(slicerSays(segmentation, mine, ct), LIVER)

    def test_a_segment_that_the_user_drew_is_not_taken_for_an_earlier_result(self, segmentation, ct, writer):
        mine = draw(segmentation, ct, "Liver", SPLEEN)
        written = writer().write("Liver", LIVER)
        assert written.segmentID != mine
        assert segmentation.GetSegmentation().GetSegment(written.segmentID).GetName() == "Liver (2)"
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN)

    def test_a_segment_given_as_the_place_of_the_result_is_refined_in_place(self, segmentation, ct, writer):
        mine = draw(segmentation, ct, "my liver", SPLEEN)
        assert writer(given={"Liver": mine}).write("Liver", LIVER).segmentID == mine
        assert np.array_equal(slicerSays(segmentation, mine, ct), LIVER)
        assert segmentation.GetSegmentation().GetSegment(mine).GetName() == "my liver"
        assert writer().write("Liver", SPLEEN).segmentID == mine  # it is known as the liver from now on


class TestRunningAgain:
    def test_the_same_segments_are_updated(self, segmentation, ct, writer):
        first = writer().write("Liver", LIVER)
        second = writer().write("Liver", SPLEEN)
        assert second.segmentID == first.segmentID
        assert segmentation.GetSegmentation().GetNumberOfSegments() == 1
        assert np.array_equal(slicerSays(segmentation, first.segmentID, ct), SPLEEN)

    def test_a_name_the_user_changed_stays(self, segmentation, writer):
        first = writer().write("Liver", LIVER).segmentID
        segmentation.GetSegmentation().GetSegment(first).SetName("Leber")
        assert writer().write("Liver", SPLEEN).segmentID == first
        assert segmentation.GetSegmentation().GetSegment(first).GetName() == "Leber"

    def test_an_equal_result_changes_nothing_and_adds_no_undo_step(self, segmentation, writer, editing):
        first = writer().write("Liver", LIVER)
        image = segmentation.GetBinaryLabelmapInternalRepresentation(first.segmentID)
        time = image.GetMTime()
        editing.logic.ClearUndoState()
        assert not writer().write("Liver", LIVER).changed
        assert image.GetMTime() == time
        assert not editing.logic.CanUndo()

    def test_only_changed_segments_get_a_new_surface(self, segmentation, writer):
        run = writer()
        liver, spleen = run.write("Liver", LIVER).segmentID, run.write("Spleen", SPLEEN).segmentID
        segmentation.CreateClosedSurfaceRepresentation()

        def surface(segmentID):
            return segmentation.GetSegmentation().GetSegment(segmentID).GetRepresentation("Closed surface")

        before = surface(liver), surface(liver).GetMTime(), surface(spleen).GetMTime(), surface(spleen).GetBounds()
        again = writer()
        again.write("Liver", LIVER)
        again.write("Spleen", SPLEEN | LIVER)
        assert (surface(liver), surface(liver).GetMTime()) == before[:2]
        assert surface(spleen).GetMTime() > before[2]
        assert surface(spleen).GetBounds()[0] < before[3][0] - 10

    def test_a_segment_that_shrinks_leaves_the_surfaces_of_others_as_they_are(self, segmentation, ct, editing, writer):
        run = writer()
        liver, spleen = (run.write(name, mask).segmentID for name, mask in (("Liver", LIVER), ("Spleen", SPLEEN)))
        segmentation.CreateClosedSurfaceRepresentation()

        def surface(segmentID):
            return segmentation.GetSegmentation().GetSegment(segmentID).GetRepresentation("Closed surface")

        before, points = (surface(liver), surface(liver).GetMTime()), surface(spleen).GetNumberOfPoints()
        smaller = SPLEEN & ~np.roll(SPLEEN, 2, axis=2)
        writer().write("Spleen", smaller)
        assert (surface(liver), surface(liver).GetMTime()) == before
        assert 0 < surface(spleen).GetNumberOfPoints() != points

    def test_a_new_segment_is_shown_in_3d_when_the_others_are(self, segmentation, writer):
        writer().write("Liver", LIVER)
        segmentation.CreateClosedSurfaceRepresentation()
        spleen = writer().write("Spleen", SPLEEN).segmentID
        surface = segmentation.GetSegmentation().GetSegment(spleen).GetRepresentation("Closed surface")
        assert surface.GetNumberOfPoints() > 100

    def test_results_and_locks_are_known_again_after_saving_and_loading(
        self, scene, segmentation, ct, editing, tmp_path
    ):
        from MedalSLib.slicer.targets import setLocked
        from MedalSLib.slicer.writer import SegmentWriter

        run = SegmentWriter(segmentation, ct, editing)
        liver, spleen = run.write("Liver", LIVER).segmentID, run.write("Spleen", SPLEEN).segmentID
        setLocked(segmentation, spleen, True)
        segmentation.GetSegmentation().GetSegment(liver).SetName("Leber")
        assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
        scene.Clear(True)
        scene.SetURL(str(tmp_path / "s.mrb"))
        assert scene.ReadFromMRB(str(tmp_path / "s.mrb"), True)
        loaded = scene.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        volume = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        again = SegmentWriter(loaded, volume, editing)
        assert again.write("Spleen", LIVER).reason == "locked"
        assert again.write("Liver", SPLEEN & ~LIVER).changed
        names = [value[0] for value in state(loaded, volume).values()]
        assert sorted(names) == ["Leber", "Spleen"]
        byName = {name: segmentID for segmentID, (name, *_rest) in state(loaded, volume).items()}
        assert np.array_equal(slicerSays(loaded, byName["Spleen"], volume), SPLEEN)
        assert np.array_equal(slicerSays(loaded, byName["Leber"], volume), SPLEEN & ~LIVER)


class TestOverlap:
    def test_allow_leaves_the_others_whole(self, segmentation, ct, writer):
        mine = draw(segmentation, ct, "mine", SPLEEN)
        result = writer().write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER)

    def test_keep_others_takes_only_free_voxels(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap

        mine = draw(segmentation, ct, "mine", SPLEEN)
        result = writer(overlap=Overlap.KEEP_OTHERS).write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & ~SPLEEN)

    def test_keep_others_leaves_an_overlap_that_was_there_before(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap

        result = writer().write("Liver", LIVER).segmentID
        draw(segmentation, ct, "mine", SPLEEN)
        writer(overlap=Overlap.KEEP_OTHERS).write("Liver", LIVER | SPLEEN)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER)

    def test_what_an_earlier_run_left_of_the_same_structures_is_no_obstacle(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap

        first = writer()
        liver, spleen = first.write("Liver", LIVER).segmentID, first.write("Spleen", SPLEEN & ~LIVER).segmentID
        again = writer(overlap=Overlap.KEEP_OTHERS)
        again.expect(("Liver", "Spleen"))
        again.write("Liver", SPLEEN)
        again.write("Spleen", LIVER & ~SPLEEN)
        assert np.array_equal(slicerSays(segmentation, liver, ct), SPLEEN)
        assert np.array_equal(slicerSays(segmentation, spleen, ct), LIVER & ~SPLEEN)

    def test_overwrite_takes_the_voxels_from_the_others(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap

        mine = draw(segmentation, ct, "mine", SPLEEN)
        far = draw(segmentation, ct, "far", box(SHAPE, (0, 2), (0, 3), (0, 3)))
        result = writer(overlap=Overlap.OVERWRITE).write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN & ~LIVER)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER)
        assert slicerSays(segmentation, far, ct).sum() == 18

    def test_overwrite_stops_at_locked_segments(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap
        from MedalSLib.slicer.targets import setLocked

        mine = draw(segmentation, ct, "mine", SPLEEN)
        setLocked(segmentation, mine, True)
        result = writer(overlap=Overlap.OVERWRITE).write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & ~SPLEEN)

    def test_a_locked_result_is_not_changed_by_a_new_run(self, segmentation, ct, writer, editing):
        from MedalSLib.slicer.targets import setLocked

        first = writer().write("Liver", LIVER).segmentID
        setLocked(segmentation, first, True)
        editing.logic.ClearUndoState()
        written = writer().write("Liver", SPLEEN)
        assert (written.reason, written.changed) == ("locked", False)
        assert np.array_equal(slicerSays(segmentation, first, ct), LIVER)
        assert not editing.logic.CanUndo()

    @pytest.mark.parametrize("policy", ["allow", "keep", "overwrite"])
    def test_no_result_enters_an_excluded_segment(self, segmentation, ct, writer, policy):
        from MedalSLib.slicer.request import Overlap

        mine = draw(segmentation, ct, "not this", SPLEEN)
        result = writer(overlap=Overlap(policy), excludeIDs=(mine,)).write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, mine, ct), SPLEEN)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & ~SPLEEN)

    def test_the_editors_own_settings_are_as_before(self, segmentation, writer, editing):
        node = editing.node
        node.SetOverwriteMode(node.OverwriteAllSegments)
        writer().write("Liver", LIVER)
        assert node.GetOverwriteMode() == node.OverwriteAllSegments


class TestMasksOfTheEditor:
    def test_inside_one_segment(self, segmentation, ct, writer, editing):
        import slicer

        mine = draw(segmentation, ct, "mine", SPLEEN)
        editing.edit(segmentation, ct)
        editing.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
        editing.node.SetMaskSegmentID(mine)
        result = writer().write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & SPLEEN)

    def test_outside_all_segments(self, segmentation, ct, writer, editing):
        import slicer

        draw(segmentation, ct, "mine", SPLEEN)
        editing.edit(segmentation, ct)
        editing.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
        result = writer().write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & ~SPLEEN)

    def test_outside_all_segments_means_the_other_ones(self, segmentation, ct, writer, editing):
        import slicer

        first = writer().write("Liver", LIVER).segmentID
        editing.node.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)
        writer().write("Liver", SPLEEN)
        assert np.array_equal(slicerSays(segmentation, first, ct), SPLEEN)

    def test_intensity_range(self, segmentation, ct, writer, editing):
        import slicer

        editing.edit(segmentation, ct)
        editing.node.SetSourceVolumeIntensityMask(True)
        editing.node.SetSourceVolumeIntensityMaskRange(0, 150)
        result = writer().write("Liver", LIVER).segmentID
        array = slicer.util.arrayFromVolume(ct)
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & (array >= 0) & (array <= 150))


class TestUndo:
    def test_one_step_takes_back_the_whole_run_exactly(self, segmentation, ct, writer, editing):
        from MedalSLib.slicer.request import Overlap

        draw(segmentation, ct, "mine", SPLEEN)
        writer().write("Liver", box(SHAPE, (1, 9), (1, 9), (1, 9)))
        before = state(segmentation, ct)
        run = writer(overlap=Overlap.OVERWRITE)
        for name, mask in {"Liver": LIVER, "Spleen": SPLEEN, "Left kidney": LIVER & ~SPLEEN}.items():
            run.write(name, mask)
        after = state(segmentation, ct)
        assert len(after) == 4
        editing.undo()
        assert state(segmentation, ct) == before
        editing.logic.Redo()
        assert state(segmentation, ct) == after
        editing.undo()
        assert state(segmentation, ct) == before

    def test_two_runs_are_two_steps(self, segmentation, ct, writer, editing):
        writer().write("Liver", LIVER)
        first = state(segmentation, ct)
        writer().write("Liver", SPLEEN)
        editing.undo()
        assert state(segmentation, ct) == first
        editing.undo()
        assert state(segmentation, ct) == {}

    def test_a_run_in_another_segmentation_has_its_own_history(self, scene, segmentation, ct, writer, editing):
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        writer().write("Liver", LIVER)
        other = addSegmentation(ct, "other")
        SegmentWriter(other, ct, editing).write("Spleen", SPLEEN)
        editing.undo()
        assert state(other, ct) == {}
        assert len(state(segmentation, ct)) == 1

    def test_the_widgets_history_is_used_where_there_is_one(self, scene, segmentation, ct):
        from MedalSLib.slicer.editing import SegmentEditing
        from MedalSLib.slicer.writer import SegmentWriter

        node = scene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        saved = []
        run = SegmentWriter(
            segmentation, ct, SegmentEditing(scene, node, lambda: saved.append(len(state(segmentation, ct))))
        )
        run.write("Liver", LIVER)
        run.write("Spleen", SPLEEN)
        assert saved == [0]
        assert node.GetSegmentationNode() is segmentation


class TestRollback:
    def test_everything_is_as_before(self, segmentation, ct, writer):
        from MedalSLib.slicer.request import Overlap

        draw(segmentation, ct, "mine", SPLEEN)
        empty = segmentation.GetSegmentation().AddEmptySegment("e", "Left kidney")
        writer().write("Liver", box(SHAPE, (1, 9), (1, 9), (1, 9)))
        before = state(segmentation, ct)
        run = writer(overlap=Overlap.OVERWRITE)
        run.write("Liver", LIVER)
        run.write("Spleen", SPLEEN)
        run.write("Left kidney", LIVER)
        assert state(segmentation, ct) != before
        run.rollback()
        assert state(segmentation, ct) == before
        from MedalSLib.slicer.targets import structureOf

        assert structureOf(segmentation.GetSegmentation().GetSegment(empty)) == ""

    def test_what_the_user_painted_meanwhile_in_another_segment_stays(self, segmentation, ct, writer):
        mine = draw(segmentation, ct, "mine", SPLEEN)
        run = writer()
        run.write("Liver", LIVER)
        import slicer

        painted = SPLEEN | box(SHAPE, (0, 2), (0, 9), (0, 9))
        slicer.util.updateSegmentBinaryLabelmapFromArray(painted.astype(np.uint8), segmentation, mine, ct)
        run.rollback()
        assert list(state(segmentation, ct)) == [mine]
        assert np.array_equal(slicerSays(segmentation, mine, ct), painted)

    def test_a_mask_of_the_editor_does_not_hold_it_up(self, segmentation, ct, writer, editing):
        writer().write("Liver", LIVER)
        run = writer()
        run.write("Liver", SPLEEN)
        editing.node.SetSourceVolumeIntensityMask(True)
        editing.node.SetSourceVolumeIntensityMaskRange(9000, 9001)
        run.rollback()
        assert np.array_equal(slicerSays(segmentation, next(iter(state(segmentation, ct))), ct), LIVER)
        assert editing.node.GetSourceVolumeIntensityMask()


class TestRegionOnly:
    def test_what_lies_outside_the_region_stays(self, segmentation, ct, writer):
        first = writer().write("Liver", LIVER).segmentID
        inside = box(SHAPE, (0, 24), (0, 40), (0, 18))
        writer(region=BoxMask.of(inside)).write("Liver", SPLEEN)
        assert np.array_equal(slicerSays(segmentation, first, ct), (SPLEEN & inside) | (LIVER & ~inside))

    def test_a_turned_region_is_followed_voxel_by_voxel(self, segmentation, ct, writer):
        inside = np.zeros(SHAPE, bool)
        inside[5:11, 6:12, 8:14] = np.indices((6, 6, 6)).sum(axis=0) % 2 == 0
        result = writer(region=BoxMask.of(inside)).write("Liver", LIVER).segmentID
        assert np.array_equal(slicerSays(segmentation, result, ct), LIVER & inside)


class TestSubjectHierarchy:
    def test_the_segmentation_lies_under_the_study_with_the_volume_as_reference(self, scene, ct):
        import slicer

        from MedalSLib.slicer.segmentations import addSegmentation

        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
        study = hierarchy.CreateStudyItem(patient, "study")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(ct), study)
        segmentation = addSegmentation(ct)
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(segmentation)) == study
        role = segmentation.GetReferenceImageGeometryReferenceRole()
        assert segmentation.GetNodeReference(role) is ct


class TestInstances:
    def test_each_is_a_segment_and_a_new_run_removes_those_it_no_longer_finds(self, segmentation, ct, writer, editing):
        from MedalSLib.slicer.targets import setLocked
        from MedalSLib.slicer.writer import removeStaleInstances

        parts = [box(SHAPE, (2, 4), (2, 4), (n, n + 2)) for n in (2, 8, 14)]
        run = writer()
        ids = [run.write("Liver tumor", part, number).segmentID for number, part in enumerate(parts, 1)]
        names = [segmentation.GetSegmentation().GetSegment(i).GetName() for i in ids]
        assert names == ["Liver tumor 1", "Liver tumor 2", "Liver tumor 3"]
        setLocked(segmentation, ids[2], True)
        again = writer()
        assert again.write("Liver tumor", parts[1], 1).segmentID == ids[0]
        assert removeStaleInstances(segmentation, "Liver tumor", 1) == (ids[1],)
        assert list(state(segmentation, ct)) == [ids[0], ids[2]]
        editing.undo()
        assert list(state(segmentation, ct)) == ids


def test_a_whole_ct_costs_what_its_structures_cost(scene, editing):
    """The crop is what is written: a layer holds the structure's box and not the image's."""
    from MedalSLib.slicer.segmentations import addSegmentation
    from MedalSLib.slicer.writer import SegmentWriter

    shape = (60, 128, 128)
    ct = addVolume(scene, shape, affine((1, 1, 1)))
    segmentation = addSegmentation(ct)
    run = SegmentWriter(segmentation, ct, editing)
    first = run.write("Liver", box(shape, (3, 9), (4, 12), (100, 120))).segmentID
    second = run.write("Spleen", box(shape, (40, 50), (90, 100), (3, 20))).segmentID
    extents = [segmentation.GetBinaryLabelmapInternalRepresentation(i).GetExtent() for i in (first, second)]
    assert extents == [(100, 119, 4, 11, 3, 8), (3, 19, 90, 99, 40, 49)]
