"""Masks keep their voxels, place, names, colours and codes through every file format, and in 3D Slicer."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pydicom
import pytest
import slicerio

from MedalSLib.errors import InputError, MedalSError, OutputError
from MedalSLib.vocabulary import Code, Terminology, parse_terminology
from MedalSLib.volume import Grid, same_grid
from MedalSLib.volume import files as volume_files
from MedalSLib.volume.layers import assign_layers
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.segmentation import Segmentation
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.writing import check_segmentation_output, write_segmentation


def infos_of(found: Segmentation) -> dict[str, SegmentInfo]:
    return {segment.name: SegmentInfo(segment.color, segment.terminology) for segment in found.segments}


ANATOMY = Code("123037004", "Anatomical Structure")
LEFT = Code("7771000", "Left")
LUNG = SegmentInfo((197, 25, 99), Terminology(ANATOMY, Code("39607008", "Lung"), LEFT))
CYST = SegmentInfo(
    (10, 20, 30),
    Terminology(
        Code("49755003", "Morphologically Altered Structure"),
        Code("441457006", "Cyst"),
        region=Code("64033007", "Kidney"),
        region_modifier=LEFT,
    ),
)


def masks_of(ct: np.ndarray) -> dict[str, np.ndarray]:
    """A lung, a cyst that overlaps it, something apart, and an absent structure."""
    return {"Left lung": ct < 0, "Cyst": (ct > -300) & (ct < 300), "Bone": ct > 900, "Absent": np.zeros(ct.shape, bool)}


@pytest.fixture
def masks(ct: np.ndarray) -> dict[str, np.ndarray]:
    return masks_of(ct)


INFOS = {"Left lung": LUNG, "Cyst": CYST}


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, mask in expected.items():
        assert found[name].dtype == bool
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


def test_a_seg_nrrd_keeps_everything(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    assert write_segmentation(tmp_path / "a.seg.nrrd", masks, grid, INFOS) == ()
    found = read_segmentation(tmp_path / "a.seg.nrrd")
    assert_equal(found.masks, masks)
    assert same_grid(found.grid, grid, 1e-6)
    assert infos_of(found)["Left lung"] == LUNG and infos_of(found)["Cyst"] == CYST


def test_slicerio_reads_what_was_written(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    write_segmentation(tmp_path / "a.seg.nrrd", masks, grid, INFOS)
    content = slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd"))
    assert content["voxels"].shape[0] == 2, "one overlap needs two layers, not four"
    lung = slicerio.segment_from_name(content, "Left lung")
    assert lung["terminology"]["type"] == ["SCT", "39607008", "Lung"]
    assert lung["terminology"]["typeModifier"] == ["SCT", "7771000", "Left"]
    stored = content["voxels"][lung["layer"]] == lung["labelValue"]
    np.testing.assert_array_equal(stored.T, masks["Left lung"])


def test_3d_slicer_itself_opens_what_was_written(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    slicer = pytest.importorskip("slicer", reason="needs slicer-core")
    vtk = pytest.importorskip("vtk")
    from vtkmodules.util.numpy_support import vtk_to_numpy

    path = tmp_path / "a.seg.nrrd"
    names = {"Left lung": "Lunge links ü 肝", "Cyst": "Cyst", "Bone": "Bone", "Absent": "Absent"}
    write_segmentation(
        path, {names[name]: mask for name, mask in masks.items()}, grid, {names[n]: i for n, i in INFOS.items()}
    )
    scene, app = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    app.SetMRMLScene(scene)
    logic = slicer.vtkSlicerSegmentationsModuleLogic()
    logic.SetMRMLScene(scene)
    node = logic.LoadSegmentationFromFile(str(path), True)
    segmentation = node.GetSegmentation()
    assert segmentation.GetNumberOfSegments() == len(masks)
    for index, (name, mask) in enumerate(masks.items()):
        segment = segmentation.GetNthSegment(index)
        assert segment.GetName() == names[name]
        image = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(index), image)
        if not mask.any():
            assert (
                image.GetExtent()[1] < image.GetExtent()[0] or not vtk_to_numpy(image.GetPointData().GetScalars()).any()
            )
            continue
        extent, matrix = image.GetExtent(), vtk.vtkMatrix4x4()
        image.GetImageToWorldMatrix(matrix)
        affine = np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
        voxels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape([n + 1 for n in (np.diff(extent)[4::-2])])
        for k, j, i in np.argwhere(voxels):
            place = affine @ (i + extent[0], j + extent[2], k + extent[4], 1)
            x, y, z = np.rint(grid.ras_to_index(place[:3])).astype(int)
            assert mask[z, y, x]
        assert np.count_nonzero(voxels) == mask.sum()
    entry = vtk.reference("")
    segmentation.GetNthSegment(0).GetTag("TerminologyEntry", entry)
    assert parse_terminology(str(entry)) == LUNG.terminology
    assert segmentation.GetNthSegment(0).GetColor() == pytest.approx([c / 255 for c in LUNG.color or ()], abs=1e-5)


def test_slicers_own_files_are_read_with_their_overlap(chest: Path) -> None:
    found = read_segmentation(chest / "SegmentationOverlapping.seg.nrrd")
    assert [segment.name for segment in found.segments][4:] == [
        "right lung",
        "left lung",
        "tissue",
        "overlapping sphere",
    ]
    lung, sphere = found.masks["right lung"], found.masks["overlapping sphere"]
    assert lung.sum() == 34450 and sphere.sum() == 19139 and (lung & sphere).any()
    assert infos_of(found)["left lung"].color == (197, 25, 99)
    terminology = infos_of(found)["left lung"].terminology
    assert terminology is not None and terminology.type_modifier == LEFT
    image = read_image(chest / "CTChest4.nrrd")
    assert same_grid(found.grid, image.grid)
    air = image.array_kji[found.masks["left lung"]].mean()
    assert air < -500, "the lung's mask must lie on the lung"


def test_a_segment_of_slicers_old_files_is_found_by_its_layer(tmp_path: Path, masks: dict[str, np.ndarray]) -> None:
    chosen = list(masks.values())[:2]
    header = {
        "space": "left-posterior-superior",
        "space directions": np.vstack([[np.nan] * 3, np.eye(3)]),
        "space origin": np.zeros(3),
        "kinds": ["list", "domain", "domain", "domain"],
        "Segment0_Name": "first",
        "Segment1_Name": "second",
    }
    nrrd.write(str(tmp_path / "a.seg.nrrd"), np.stack([m.astype(np.uint8).T for m in chosen]), header)
    assert_equal(read_segmentation(tmp_path / "a.seg.nrrd").masks, {"first": chosen[0], "second": chosen[1]})


def test_a_nifti_labelmap_carries_names_and_says_what_overlapped(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid
) -> None:
    warnings = write_segmentation(tmp_path / "a.nii.gz", masks, grid, INFOS)
    overlap = masks["Left lung"] & masks["Cyst"]
    assert str(overlap.sum()) in warnings[0]
    found = read_segmentation(tmp_path / "a.nii.gz")
    assert_equal(found.masks, {**masks, "Left lung": masks["Left lung"] & ~masks["Cyst"]})
    assert same_grid(found.grid, grid, 1e-3)
    assert infos_of(found)["Cyst"] == CYST
    raw: Any = nibabel.load(tmp_path / "a.nii.gz")
    assert np.asarray(raw.dataobj).dtype == np.uint8
    np.testing.assert_allclose(raw.get_qform(), raw.get_sform(), atol=1e-4)


def test_a_foreign_labelmap_gets_the_names_it_is_given(tmp_path: Path) -> None:
    labels = np.zeros((4, 5, 6), np.float64)
    labels[1], labels[2] = 3, 7
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    nrrd.write(str(tmp_path / "a.nrrd"), labels.astype(np.uint8))
    for name in ("a.nii.gz", "a.nrrd"):
        found = read_segmentation(tmp_path / name, {7: "Spleen"})
        assert [segment.name for segment in found.segments] == ["Label 3", "Spleen"]
        assert found.masks["Spleen"].sum() == 30


def test_a_challenge_result_lies_on_the_right_voxels_in_lps(
    tmp_path: Path, masks: dict[str, np.ndarray], upright: Grid
) -> None:
    flipped = Grid(upright.shape_kji, upright.affine_ras @ np.diag((-1.0, 1, 1, 1)))
    bone = {"Bone": masks["Bone"]}
    assert write_segmentation(tmp_path / "a.npz", bone, flipped) == ()
    found = read_segmentation(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.masks["Bone"], masks["Bone"][:, :, ::-1])
    assert found.grid.spacing_ijk == pytest.approx(flipped.spacing_ijk)


@pytest.mark.parametrize("oblique", [False, True])
def test_a_dicom_seg_refers_to_its_series_and_keeps_place_names_codes_and_overlap(
    tmp_path: Path,
    even_ct: np.ndarray,
    grid: Grid,
    upright: Grid,
    oblique: bool,
    write_series: Callable[..., list[Path]],
) -> None:
    files = write_series(tmp_path / "ct", even_ct, grid if oblique else upright)
    image = read_image(tmp_path / "ct")
    masks = masks_of(image.array_kji)
    warnings = write_segmentation(tmp_path / "a.dcm", masks, image.grid, INFOS, source=image)
    assert "Absent" in warnings[0]
    found = read_segmentation(tmp_path / "a.dcm")
    del masks["Absent"]
    assert list(found.masks) == list(masks)
    assert_equal(found.masks_on(image.grid), masks)
    assert infos_of(found)["Cyst"].terminology == CYST.terminology
    assert infos_of(found)["Left lung"].terminology == LUNG.terminology
    color = infos_of(found)["Left lung"].color
    assert color is not None and np.abs(np.subtract(color, LUNG.color or ())).max() <= 2
    header = pydicom.dcmread(tmp_path / "a.dcm")
    source = pydicom.dcmread(files[0])
    assert header.PatientID == source.PatientID and header.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert header.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_a_dicom_seg_of_a_few_slices_lies_on_them(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Callable[..., list[Path]]
) -> None:
    write_series(tmp_path / "ct", even_ct, upright)
    image = read_image(tmp_path / "ct")
    masks = {name: np.zeros(even_ct.shape, bool) for name in ("two ends", "middle")}
    masks["two ends"][1, 2:5, 3:6] = masks["two ends"][4, 1:3, 2:9] = True
    masks["middle"][2, 4:6, 1:4] = True
    write_segmentation(tmp_path / "a.dcm", masks, image.grid, source=image)
    assert_equal(read_segmentation(tmp_path / "a.dcm").masks_on(image.grid), masks)


def test_a_dicom_seg_of_an_enhanced_multi_frame_image(
    tmp_path: Path,
    ct: np.ndarray,
    masks: dict[str, np.ndarray],
    upright: Grid,
    write_enhanced: Callable[..., Path],
) -> None:
    image = read_image(write_enhanced(tmp_path / "ct.dcm", ct, upright))
    write_segmentation(tmp_path / "a.dcm", {"Bone": masks["Bone"]}, image.grid, source=image)
    found = read_segmentation(tmp_path / "a.dcm")
    assert_equal(found.masks_on(image.grid), {"Bone": masks["Bone"]})


def test_a_dicom_seg_needs_a_dicom_source(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid, chest: Path
) -> None:
    for source in (None, read_image(chest / "CTChest4.nrrd")):
        with pytest.raises(OutputError, match="not DICOM") as caught:
            write_segmentation(tmp_path / "a.dcm", masks, grid, source=source)
        assert "folder" in caught.value.remedy
        with pytest.raises(OutputError, match="not DICOM"):
            check_segmentation_output(tmp_path / "a.dcm", source)


def test_an_empty_or_misplaced_dicom_seg_is_refused(
    tmp_path: Path,
    even_ct: np.ndarray,
    masks: dict[str, np.ndarray],
    grid: Grid,
    upright: Grid,
    write_series: Callable[..., list[Path]],
) -> None:
    write_series(tmp_path / "ct", even_ct, upright)
    image = read_image(tmp_path / "ct")
    with pytest.raises(OutputError, match="empty"):
        write_segmentation(tmp_path / "a.dcm", {"Absent": masks["Absent"]}, image.grid, source=image)
    with pytest.raises(InputError, match="grid"):
        write_segmentation(tmp_path / "a.dcm", masks, grid, source=image)
    assert not (tmp_path / "a.dcm").exists()


def test_an_image_is_not_taken_for_a_segmentation(
    tmp_path: Path, chest: Path, even_ct: np.ndarray, upright: Grid, write_series: Callable[..., list[Path]]
) -> None:
    with pytest.raises(InputError, match="not a labelmap"):
        read_segmentation(chest / "CTChest4.nrrd")
    files = write_series(tmp_path / "ct", even_ct, upright)
    with pytest.raises(InputError, match="not a Segmentation"):
        read_segmentation(files[0])
    (tmp_path / "a.txt").write_text("liver" * 50)
    with pytest.raises(InputError, match="can read"):
        read_segmentation(tmp_path / "a.txt")


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="no segment"):
        read_segmentation(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.npz"])
@pytest.mark.parametrize("keep", [0.1, 0.6, 0.9])
def test_truncated_segmentations_are_refused(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid, name: str, keep: float
) -> None:
    write_segmentation(tmp_path / name, masks, grid)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match=name):
        read_segmentation(tmp_path / name)


def test_names_that_would_break_a_header_do_not(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    names = ["two\nlines", "a|b~c^d:=e", "@u000041@ ü", "two lines"]
    write_segmentation(tmp_path / "a.seg.nrrd", dict(zip(names, masks.values(), strict=True)), grid)
    found = read_segmentation(tmp_path / "a.seg.nrrd")
    assert [segment.name for segment in found.segments] == ["two lines", "a|b~c^d:=e", "@u000041@ ü", "two lines (2)"]
    np.testing.assert_array_equal(found.segments[3].mask, masks["Absent"])


def test_more_than_255_segments_fit(tmp_path: Path) -> None:
    labels = np.arange(300).reshape(3, 10, 10)
    masks = {f"s{value}": labels == value for value in range(300)}
    grid = Grid(labels.shape, np.eye(4))
    for name in ("a.seg.nrrd", "a.nii.gz"):
        write_segmentation(tmp_path / name, masks, grid)
        assert_equal(read_segmentation(tmp_path / name).masks, masks)


def line(*indices: int) -> np.ndarray:
    mask = np.zeros((1, 1, 12), bool)
    mask[..., list(indices)] = True
    return mask


@pytest.mark.parametrize(
    ("masks", "layers"),
    [
        ([line(0), line(1), line(2)], 1),
        ([line(0, 1), line(1, 2), line(2, 3), line(3, 4)], 2),
        ([line(0, 1), line(4, 5), line(1, 2), line(2, 4)], 2),  # a chain in an order that fools a greedy choice
        ([line(0, 1), line(0, 2), line(0, 3)], 3),
        ([line(*range(12)), line(0), line(1), line(2)], 2),
        ([line(), line(), line(3)], 1),
    ],
)
def test_overlapping_masks_take_as_few_layers_as_possible(masks: list[np.ndarray], layers: int) -> None:
    assigned = assign_layers([BoxMask.of(mask) for mask in masks])
    assert max(assigned) + 1 == layers
    for a in range(len(masks)):
        for b in range(a):
            assert assigned[a] != assigned[b] or not (masks[a] & masks[b]).any()


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.nii", "a.npz"])
def test_a_full_disk_leaves_nothing_behind_and_the_old_file_whole(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / name
    target.write_bytes(b"old result")
    real = Path.open

    class Full:
        def __init__(self, stream: Any) -> None:
            self.stream, self.left = stream, 200

        def write(self, data: Any) -> int:
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.stream.write(data))

        def __getattr__(self, key: str) -> Any:
            return getattr(self.stream, key)

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

    def open_path(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        stream = real(self, mode, *args, **more)
        return Full(stream) if "w" in mode else stream

    monkeypatch.setattr(Path, "open", open_path)

    def save(image: Any, path: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nibabel, "save", save)
    with pytest.raises(OutputError, match="no space left") as caught:
        write_segmentation(target, masks, grid, overwrite=True)
    monkeypatch.undo()
    assert "Free some space" in caught.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert target.read_bytes() == b"old result"


@pytest.mark.parametrize("name", ["a.seg.nrrd", "a.nii.gz", "a.npz"])
def test_an_existing_file_is_kept_unless_it_may_be_overwritten(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid, name: str
) -> None:
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists") as caught:
        write_segmentation(tmp_path / name, masks, grid)
    assert "--overwrite" in caught.value.remedy
    assert (tmp_path / name).read_bytes() == b"mine"
    write_segmentation(tmp_path / name, masks, grid, overwrite=True)
    assert read_segmentation(tmp_path / name).segments
    assert not list(tmp_path.glob(".*"))


def test_a_file_that_appears_during_the_run_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists"), volume_files.replacing(tmp_path / "a.npz") as temporary:
        temporary.write_bytes(b"new")
        (tmp_path / "a.npz").write_bytes(b"someone else's")
    assert (tmp_path / "a.npz").read_bytes() == b"someone else's"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failure_in_the_middle_leaves_no_temporary_file(
    tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_segmentation(tmp_path / "a.seg.nrrd", masks, grid)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "cause"), [(errno.EACCES, "may not write"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")]
)
def test_other_reasons_not_to_write_are_named(tmp_path: Path, code: int, cause: str) -> None:
    with pytest.raises(OutputError, match=cause), volume_files.replacing(tmp_path / "a.npz"):
        raise OSError(code, "reason")


def test_bad_targets_are_refused_before_any_work(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    cases: dict[str, type[MedalSError]] = {"a.xyz": OutputError, "a": OutputError, "none/a.nii.gz": OutputError}
    for name, kind in cases.items():
        with pytest.raises(kind) as caught:
            check_segmentation_output(tmp_path / name)
        assert caught.value.remedy
    (tmp_path / "a.nii.gz").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_segmentation(tmp_path / "a.nii.gz", masks, grid, overwrite=True)
    with pytest.raises(OutputError, match="no segment"):
        write_segmentation(tmp_path / "b.nii.gz", {}, grid)


def test_a_mask_on_another_grid_is_not_written(tmp_path: Path, grid: Grid) -> None:
    with pytest.raises(InputError, match="'Liver'"):
        write_segmentation(tmp_path / "a.seg.nrrd", {"Liver": np.ones((2, 2, 2), bool)}, grid)
    assert not list(tmp_path.iterdir())


def test_a_sheared_grid_survives_in_nrrd_and_is_placed_alike_by_every_reader_of_nifti(
    tmp_path: Path, upright: Grid
) -> None:
    import SimpleITK

    affine = upright.affine_ras.copy()
    affine[1, 2] = 0.9
    sheared = Grid((20, 30, 28), affine)
    block = np.zeros(sheared.shape_kji, bool)
    block[4:15, 8:20, 6:18] = True
    assert write_segmentation(tmp_path / "a.seg.nrrd", {"Bone": block}, sheared) == ()
    assert same_grid(read_segmentation(tmp_path / "a.seg.nrrd").grid, sheared, 1e-3)
    (note,) = write_segmentation(tmp_path / "a.nii.gz", {"Bone": block}, sheared)
    assert "sheared" in note
    centre = sheared.index_to_ras(np.argwhere(block)[:, ::-1].mean(axis=0))
    image = nibabel.load(tmp_path / "a.nii.gz")
    by_nibabel = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj))).mean(axis=0)
    shape = SimpleITK.LabelShapeStatisticsImageFilter()
    shape.Execute(SimpleITK.ReadImage(str(tmp_path / "a.nii.gz")))
    by_itk = np.asarray(shape.GetCentroid(1)) * (-1, -1, 1)
    np.testing.assert_allclose(by_nibabel, by_itk, atol=1e-3)
    np.testing.assert_allclose(by_nibabel, centre, atol=0.2)
    assert shape.GetPhysicalSize(1) == pytest.approx(block.sum() * sheared.voxel_volume_ml * 1000, rel=0.02)


def test_the_codes_of_the_vocabulary_reach_the_file(tmp_path: Path, masks: dict[str, np.ndarray], grid: Grid) -> None:
    from MedalSLib.vocabulary.tables import structure

    kidney = structure("CT_Left kidney")
    info = SegmentInfo.of(kidney)
    write_segmentation(tmp_path / "a.seg.nrrd", {kidney.name: masks["Bone"]}, grid, {kidney.name: info})
    assert infos_of(read_segmentation(tmp_path / "a.seg.nrrd"))[kidney.name] == info
