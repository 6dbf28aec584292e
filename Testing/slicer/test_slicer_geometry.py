"""A ball drawn in world space comes back at its place: every grid, transform and pairing of grids, by Slicer's core."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.phantoms import (
    GRIDS,
    addLinear,
    addVolume,
    addWarp,
    affine,
    ballRas,
    centreRas,
    draw,
    rotation,
    slicerSays,
)

from MedalSLib.errors import InputError


def editing(scene):
    from MedalSLib.slicer.editing import SegmentEditing

    return SegmentEditing(scene)


def writeBall(scene, volume, segmentation, mask):
    from MedalSLib.slicer.writer import SegmentWriter

    return SegmentWriter(segmentation, volume, editing(scene)).write("Liver", mask).segmentID


@pytest.mark.parametrize("name", GRIDS)
def test_voxels_and_their_places_come_as_slicer_has_them(scene, name):
    from MedalSLib.slicer.volumes import readVolume

    volume = addVolume(scene, matrix=GRIDS[name])
    image = readVolume(volume)
    assert image.array.shape == image.grid.shape_kji == (24, 40, 48)
    np.testing.assert_allclose(image.grid.affine_ras, GRIDS[name], atol=1e-9)
    world = [0.0] * 3
    inverse = np.linalg.inv(GRIDS[name])
    volume.TransformPointToWorld((GRIDS[name] @ [3, 5, 7, 1])[:3], world)
    np.testing.assert_allclose(inverse @ [*world, 1], [3, 5, 7, 1], atol=1e-9)
    np.testing.assert_allclose(image.grid.index_to_ras((3, 5, 7)), world, atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_a_written_ball_is_where_slicer_exports_it_and_where_it_was_drawn(scene, name):
    from MedalSLib.slicer import segments
    from MedalSLib.slicer.segmentations import addSegmentation

    volume = addVolume(scene, matrix=GRIDS[name])
    ball = ballRas(volume, centreRas(volume), 9)
    segmentation = addSegmentation(volume)
    segmentID = writeBall(scene, volume, segmentation, ball)
    assert np.array_equal(slicerSays(segmentation, segmentID, volume), ball)
    assert np.array_equal(segments.readSegment(segmentation, segmentID, volume).array(), ball)


@pytest.mark.parametrize("turn", [0.0, 40.0])
def test_a_linear_parent_transform_is_part_of_the_place(scene, turn):
    from MedalSLib.slicer.segmentations import addSegmentation
    from MedalSLib.slicer.volumes import readVolume

    volume = addVolume(scene, matrix=GRIDS["oblique"])
    matrix = affine(directions=rotation((0, 0, 1), turn), origin=(30, -12, 8))
    volume.SetAndObserveTransformNodeID(addLinear(scene, matrix).GetID())
    image = readVolume(volume)
    np.testing.assert_allclose(image.grid.affine_ras, matrix @ GRIDS["oblique"], atol=1e-9)
    ball = ballRas(volume, centreRas(volume), 8)
    segmentation = addSegmentation(volume)
    segmentID = writeBall(scene, volume, segmentation, ball)
    assert np.array_equal(slicerSays(segmentation, segmentID, volume), ball)


def test_a_segmentation_outside_the_volumes_transform_gets_the_result_at_its_world_place(scene):
    from MedalSLib.slicer.segmentations import prepareSegmentation

    volume = addVolume(scene, matrix=GRIDS["axial"])
    fixed = addVolume(scene, shape=(70, 100, 100), matrix=affine((1, 1, 1), None, (-60, -60, -40)), name="other")
    volume.SetAndObserveTransformNodeID(
        addLinear(scene, affine(directions=rotation((0, 0, 1), 20), origin=(4, 5, 6))).GetID()
    )
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(fixed)
    drawn = draw(segmentation, fixed, "mine", ballRas(fixed, (-40, -40, -30), 5))
    prepareSegmentation(segmentation, volume)
    centre = centreRas(volume)
    segmentID = writeBall(scene, volume, segmentation, ballRas(volume, centre, 9))
    assert segmentation.GetParentTransformNode() is None
    centroid = centroidRas(segmentation, segmentID, fixed)
    assert np.linalg.norm(centroid - centre) < 0.5
    assert slicerSays(segmentation, drawn, fixed).sum() == ballRas(fixed, (-40, -40, -30), 5).sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_ball_keeps_its_place_between_random_grids_and_transforms_within_half_a_voxel(scene, seed):
    from MedalSLib.slicer import segments

    rng = np.random.default_rng(seed)

    def grid(origin):
        directions = rotation(rng.normal(size=3), rng.uniform(-90, 90)) @ np.diag(rng.choice([-1, 1], 3))
        matrix = affine(rng.uniform(0.7, 1.6, 3), directions)
        matrix[:3, 3] = np.asarray(origin) - matrix[:3, :3] @ [23.5, 19.5, 19.5]
        return matrix

    volume = addVolume(scene, shape=(40, 40, 48), matrix=grid((0, 0, 0)))
    other = addVolume(scene, shape=(40, 40, 48), matrix=grid((2, -1, 1)), name="other")
    volume.SetAndObserveTransformNodeID(
        addLinear(scene, affine(directions=rotation(rng.normal(size=3), 25), origin=(3, 2, 1))).GetID()
    )
    centre = centreRas(volume)
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(other)
    draw(segmentation, other, "somewhere", ballRas(other, centreRas(other), 3))
    segmentID = writeBall(scene, volume, segmentation, ballRas(volume, centre, 10))
    half = 0.5 * max(np.linalg.norm(volume.GetSpacing()) / np.sqrt(3), 0.5)
    assert np.linalg.norm(centroidRas(segmentation, segmentID, other) - centre) < half
    back = segments.readSegment(segmentation, segmentID, volume).array()
    truth = ballRas(volume, centre, 10)
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.93


def test_a_result_that_leaves_the_segmentations_grid_is_not_cut_off(scene):
    from MedalSLib.slicer import segments
    from MedalSLib.slicer.segmentations import prepareSegmentation

    small = addVolume(scene, shape=(8, 8, 8), matrix=affine((1, 1, 1)), name="small")
    volume = addVolume(scene, shape=(24, 24, 24), matrix=affine((1, 1, 1), None, (-8, -8, -8)))
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(small)
    prepareSegmentation(segmentation, volume)
    ball = ballRas(volume, (3, 3, 3), 10)
    segmentID = writeBall(scene, volume, segmentation, ball)
    assert np.array_equal(segments.readSegment(segmentation, segmentID, volume).array(), ball)


def test_under_one_warp_volume_and_segmentation_share_their_coordinates(scene):
    from MedalSLib.slicer.segmentations import addSegmentation
    from MedalSLib.slicer.volumes import readVolume

    volume = addVolume(scene, matrix=GRIDS["axial"])
    warp = addWarp(scene)
    volume.SetAndObserveTransformNodeID(warp.GetID())
    image = readVolume(volume)
    np.testing.assert_allclose(image.grid.affine_ras, GRIDS["axial"], atol=1e-9)
    segmentation = addSegmentation(volume)
    assert segmentation.GetParentTransformNode() is warp
    ball = ballRas(volume, centreRas(volume), 8)
    segmentID = writeBall(scene, volume, segmentation, ball)
    assert np.array_equal(slicerSays(segmentation, segmentID, volume), ball)


def test_a_warp_between_volume_and_segmentation_is_refused_with_both_names(scene):
    from MedalSLib.slicer.segmentations import prepareSegmentation

    volume = addVolume(scene, matrix=GRIDS["axial"], name="CT warped")
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    draw(segmentation, volume, "a", ballRas(volume, centreRas(volume), 5))
    volume.SetAndObserveTransformNodeID(addWarp(scene).GetID())
    with pytest.raises(InputError, match=r"CT warped.*mine") as error:
        prepareSegmentation(segmentation, volume)
    assert "same transform" in error.value.remedy


def test_a_segment_is_read_through_a_warp_at_its_world_place(scene):
    from MedalSLib.slicer import segments

    volume = addVolume(scene, shape=(40, 40, 40), matrix=affine((1, 1, 1), None, (-20, -20, -20)))
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    drawn = draw(segmentation, volume, "a", ballRas(volume, (0, 0, 0), 6))
    segmentation.SetAndObserveTransformNodeID(addWarp(scene, shift=6.0).GetID())
    found = segments.readSegment(segmentation, drawn, volume).array()
    centroid = np.argwhere(found).mean(axis=0)[::-1] - 20
    assert found.any()
    np.testing.assert_allclose(centroid, (6, 0, 0), atol=1.0)


def test_a_segment_stored_as_a_surface_is_a_prompt_too_and_stays_a_surface(scene):
    import vtk

    from MedalSLib.slicer import segments

    volume = addVolume(scene, shape=(40, 40, 40), matrix=affine((1, 1, 1), None, (-20, -20, -20)))
    ball = vtk.vtkSphereSource()
    ball.SetRadius(8)
    ball.SetThetaResolution(60)
    ball.SetPhiResolution(60)
    ball.Update()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentID = segmentation.AddSegmentFromClosedSurfaceRepresentation(ball.GetOutput(), "liver", [1, 0, 0])
    truth = ballRas(volume, (0, 0, 0), 8)
    found = segments.readSegment(segmentation, segmentID, volume).array()
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.95
    assert not segmentation.GetSegmentation().ContainsRepresentation("Binary labelmap")


def test_results_are_not_forced_into_a_segmentation_of_surfaces(scene):
    import vtk

    from MedalSLib.slicer.segmentations import prepareSegmentation

    volume = addVolume(scene)
    cube = vtk.vtkCubeSource()
    cube.Update()
    segmentation = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "implants")
    segmentation.GetSegmentation().SetSourceRepresentationName("Closed surface")
    segmentation.AddSegmentFromClosedSurfaceRepresentation(cube.GetOutput(), "screw", [1, 0, 0])
    with pytest.raises(InputError, match="implants stores surfaces"):
        prepareSegmentation(segmentation, volume)


class TestUnusableVolumes:
    def test_no_volume(self, scene):
        from MedalSLib.slicer.volumes import readVolume

        with pytest.raises(InputError, match="No volume"):
            readVolume(None)

    @pytest.mark.parametrize(
        ("node", "reason"),
        [
            ("vtkMRMLModelNode", "not a volume"),
            ("vtkMRMLLabelMapVolumeNode", "label map"),
            ("vtkMRMLScalarVolumeNode", "no voxels"),
        ],
    )
    def test_other_nodes_and_empty_ones(self, scene, node, reason):
        from MedalSLib.slicer.volumes import readVolume

        with pytest.raises(InputError, match=reason):
            readVolume(scene.AddNewNodeByClass(node, "it"))

    def test_a_colour_volume(self, scene):
        import slicer

        from MedalSLib.slicer.volumes import readVolume

        node = slicer.util.addVolumeFromArray(
            np.zeros((4, 5, 6, 3), np.uint8), nodeClassName="vtkMRMLVectorVolumeNode", name="photo"
        )
        with pytest.raises(InputError, match="3 values in each voxel"):
            readVolume(node)


class TestRegion:
    def test_a_box_holds_exactly_the_voxels_whose_centres_lie_in_it(self, scene):
        from MedalSLib.slicer.roi import roiMask
        from MedalSLib.slicer.volumes import gridOf

        volume = addVolume(scene, matrix=GRIDS["anisotropic"])
        roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
        roi.SetCenter(0, 0, 0)
        roi.SetSize(10, 12, 20)
        region = roiMask(roi, volume)
        index = np.linalg.inv(GRIDS["anisotropic"]) @ np.array([[-5, 5], [-6, 6], [-10, 10], [1, 1]], float)
        expected = [(int(np.ceil(a - 1e-9)), int(np.floor(b + 1e-9)) + 1) for a, b in index[:3]]
        assert region.shape == gridOf(volume).shape_kji
        assert list(region.box) == expected[::-1] and region.crop().all()

    def test_a_turned_box_does_not_leak_into_its_corners(self, scene):
        from MedalSLib.slicer.roi import roiMask
        from MedalSLib.slicer.volumes import gridOf

        volume = addVolume(scene, shape=(40, 40, 40), matrix=affine((1, 1, 1), None, (-20, -20, -20)))
        roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
        roi.SetSize(16, 10, 12)
        roi.SetAndObserveTransformNodeID(addLinear(scene, affine(directions=rotation((0, 0, 1), 45))).GetID())
        found = roiMask(roi, volume).array()
        k, j, i = np.indices((40, 40, 40))
        places = gridOf(volume).index_to_ras(np.stack([i, j, k], -1)) @ rotation((0, 0, 1), 45)
        truth = (np.abs(places) <= np.array([8, 5, 6]) + 1e-6).all(axis=-1)
        assert np.array_equal(found, truth)

    def test_a_region_beside_the_image_is_refused(self, scene):
        from MedalSLib.slicer.roi import roiMask

        volume = addVolume(scene)
        roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "far")
        roi.SetCenter(500, 0, 0)
        roi.SetSize(10, 10, 10)
        with pytest.raises(InputError, match="far contains no voxel"):
            roiMask(roi, volume)


def centroidRas(segmentation, segmentID, reference):
    """Centroid in world RAS by Slicer's export on a reference volume."""
    from MedalSLib.slicer.volumes import gridOf

    mask = slicerSays(segmentation, segmentID, reference)
    return gridOf(reference).index_to_ras(np.argwhere(mask)[:, ::-1].mean(axis=0))
