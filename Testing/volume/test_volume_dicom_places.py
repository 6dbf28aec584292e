"""DICOM series with faults in their geometry: each voxel lies where the scanner put it, or the series is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from MedalSLib.errors import InputError, OutputError
from MedalSLib.volume import Grid, same_grid
from MedalSLib.volume.image import Image
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.writing import check_segmentation_output, write_segmentation

Write = Callable[..., list[Path]]


def edit(paths: Iterable[Path], change: Callable[[Any, int], None]) -> None:
    for number, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        change(dataset, number)
        dataset.save_as(path)


def move(paths: Iterable[Path], place_mm: Callable[[int], float]) -> None:
    """Give the slices other places along the patient's axis."""

    def change(dataset: Any, number: int) -> None:
        dataset.ImagePositionPatient[2] = f"{place_mm(number):.4f}"

    edit(paths, change)


def head_mm(image: Image, k: int) -> float:
    return float(image.grid.index_to_ras((0, 0, k))[2])


def enhanced_frames(path: Path, keep: Callable[[float], bool] = lambda place: True, **changes: Any) -> None:
    """Keep the frames of an enhanced file at some places only."""
    dataset = pydicom.dcmread(path)
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(len(frames), -1)
    kept = [n for n, item in enumerate(frames) if keep(float(item.PlanePositionSequence[0].ImagePositionPatient[2]))]
    dataset.PerFrameFunctionalGroupsSequence = [frames[n] for n in kept]
    dataset.NumberOfFrames, dataset.PixelData = len(kept), pixels[kept].tobytes()
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.fixture(params=["files", "enhanced"])
def without_two(
    request: pytest.FixtureRequest, tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write,
    write_enhanced: Callable[..., Path],
) -> Path:  # fmt: skip
    """A series whose third and fourth of six slices are missing, as single files and as a multi-frame file."""
    folder = tmp_path / "in"
    if request.param == "files":
        for path in write_series(folder, even_ct, upright)[2:4]:
            path.unlink()
    else:
        folder.mkdir()
        enhanced_frames(write_enhanced(folder / "a.dcm", even_ct, upright), lambda z: abs(z + 292.5) > 2)
    return folder


def test_missing_slices_leave_the_others_in_their_place(without_two: Path, even_ct: np.ndarray, upright: Grid) -> None:
    image = read_image(without_two)
    assert same_grid(image.grid, upright, 1e-3)
    np.testing.assert_array_equal(image.array_kji[[0, 1, 4, 5]], even_ct[[0, 1, 4, 5]])
    between = (2 * even_ct[1].astype(float) + even_ct[4]) / 3
    assert np.abs(image.array_kji[2] - between).max() <= 0.5
    said = next(warning for warning in image.warnings if "missing" in warning)
    assert said.startswith("2 slices of the series are missing") and "up to 2 mm" in said


def test_a_dicom_segmentation_lies_on_the_slices_that_are_there(without_two: Path, tmp_path: Path) -> None:
    image = read_image(without_two)
    mask = np.zeros(image.grid.shape_kji, bool)
    mask[1:5, 2:6, 3:9] = True
    notes = write_segmentation(tmp_path / "seg.dcm", {"Liver": mask}, image.grid, source=image)
    assert any("4 planes of the source's slices" in note for note in notes)
    places = {round(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]), 3)
              for frame in pydicom.dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence}  # fmt: skip
    assert places == {-297.0, -288.0}


def test_most_slices_missing_is_no_volume(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    move(files, lambda k: (0, 3, 6, 9, 12, 60)[k])
    with pytest.raises(InputError, match=r"15 slices of the series .* missing") as caught:
        read_image(tmp_path)
    assert files[4].name in caught.value.cause and files[5].name in caught.value.cause
    move(files, lambda k: (0, 2.6, 6.1, 9, 12, 60.5)[k])
    with pytest.raises(InputError, match=r"gap of 48\.5 mm"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("places", "spacing"),
    [((0, 2.5, 5, 10, 15, 20), 2.5), ((0, 3, 6, 9.9, 12, 15), 3.0), ((0, 3.3, 6.3, 9, 12.4, 15.2), 3.04)],
)
def test_varying_distances_are_resampled_to_even_ones(
    tmp_path: Path, upright: Grid, write_series: Write, places: tuple[float, ...], spacing: float
) -> None:
    # Intensities that grow evenly along the patient, so that the value says the place.
    ramp = np.broadcast_to((np.asarray(places) * 20).round()[:, None, None] // 2 * 2, (6, 9, 11)).astype(np.int16)
    ramp = ramp + np.arange(11, dtype=np.int16) * 200
    move(write_series(tmp_path, ramp, upright), lambda k: places[k])
    image = read_image(tmp_path)
    assert head_mm(image, 0) == pytest.approx(0, abs=1e-3)
    assert image.grid.spacing_kji[0] == pytest.approx(spacing, abs=0.7)
    for k in range(len(image.array_kji)):
        assert image.array_kji[k, 0, 0] == pytest.approx(20 * head_mm(image, k), abs=3)
    assert head_mm(image, len(image.array_kji) - 1) == pytest.approx(places[-1])
    assert any("not even" in warning and "resampled" in warning for warning in image.warnings)


def test_a_slice_that_lies_sideways_is_brought_back(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    smooth = np.broadcast_to(np.arange(11, dtype=np.int16) * 40, (6, 9, 11))
    files = write_series(tmp_path, smooth, upright)

    def change(dataset: Any, number: int) -> None:
        if number in (2, 3):  # two columns of 0.7 mm to the patient's left
            dataset.ImagePositionPatient[0] = float(dataset.ImagePositionPatient[0]) + 1.4

    edit(files, change)
    image = read_image(tmp_path)
    assert any("sideways" in warning for warning in image.warnings)
    for k in range(6):  # i and j of a voxel of known place: its value is what was measured there
        i, j, z = image.grid.ras_to_index(upright.index_to_ras((5, 4, k)))
        value = np.interp(i, np.arange(11), image.array_kji[round(z), round(j)])
        assert value == pytest.approx(200 - (80 if k in (2, 3) else 0), abs=2)


@pytest.mark.parametrize("keyword", ["ImageOrientationPatient", "PixelSpacing", "ImagePositionPatient"])
def test_last_digits_do_not_split_a_volume(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write, keyword: str
) -> None:
    files = write_series(tmp_path, even_ct, upright)

    def change(dataset: Any, number: int) -> None:
        values = [float(value) for value in dataset[keyword].value]
        setattr(dataset, keyword, [f"{value + (-1) ** number * 6e-4:.6f}" for value in values])

    edit(files, change)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert image.warnings == ()
    mask = even_ct > 0
    write_segmentation(tmp_path / "seg.dcm", {"Liver": mask}, image.grid, source=image)
    np.testing.assert_array_equal(read_segmentation(tmp_path / "seg.dcm").masks_on(image.grid)["Liver"], mask)


def test_slices_of_another_spacing_between_the_others_are_not_left_out_silently(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    edit(files[2:4], lambda dataset, _: setattr(dataset, "PixelSpacing", [0.9, 0.8]))
    with pytest.raises(InputError, match=r"2 slices .* spacing differs") as caught:
        read_image(tmp_path)
    assert files[2].name in caught.value.cause


def test_micrometre_slices_are_not_taken_for_one_place(
    tmp_path: Path, even_ct: np.ndarray, write_series: Write
) -> None:
    fine = Grid(even_ct.shape, np.diag((-0.002, -0.002, 0.004, 1.0)))
    write_series(tmp_path, even_ct, fine)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert image.grid.spacing_kji == pytest.approx((0.004, 0.002, 0.002))


@pytest.mark.parametrize("kept", [slice(0, 0), slice(0, 3)])
def test_files_without_preamble_are_read(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write, kept: slice
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    for number, path in enumerate(files):
        if path in files[kept]:
            continue
        data = path.read_bytes()
        # Every other one without the file header too.
        path.write_bytes(data[data.index(b"\x08\x00\x08\x00CS") :] if number % 2 else data[132:])
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert image.warnings == ()
    np.testing.assert_array_equal(read_image(files[-1]).array_kji, even_ct)


@pytest.mark.parametrize("syntax", ["plain", "rle", "jpeg 2000", "jpeg 2000 by itk", "enhanced"])
def test_monochrome1_is_about_how_an_image_is_shown(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write, write_enhanced: Callable[..., Path],
    syntax: str, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import SimpleITK
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, RLELossless

    if syntax == "enhanced":
        enhanced_frames(write_enhanced(tmp_path / "a.dcm", even_ct, upright), PhotometricInterpretation="MONOCHROME1")
    else:
        for path in write_series(tmp_path, even_ct, upright, PhotometricInterpretation="MONOCHROME1"):
            dataset = pydicom.dcmread(path)
            if syntax == "rle":
                dataset.compress(RLELossless, generate_instance_uid=False)
            elif syntax.startswith("jpeg 2000"):  # by ITK, which has the encoder
                image = SimpleITK.GetImageFromArray(dataset.pixel_array[None])
                writer = SimpleITK.ImageFileWriter()
                writer.SetFileName(str(tmp_path / "packed"))
                writer.SetImageIO("GDCMImageIO")
                writer.UseCompressionOn()
                writer.SetCompressor("JPEG2000")
                writer.Execute(image)
                packed = pydicom.dcmread(tmp_path / "packed")
                assert packed.file_meta.TransferSyntaxUID == JPEG2000Lossless
                frame = next(iter(pydicom.encaps.generate_frames(packed.PixelData, number_of_frames=1)))
                dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
                dataset.PixelData = encapsulate([frame])
                dataset["PixelData"].is_undefined_length = True
                (tmp_path / "packed").unlink()
            dataset.save_as(path)
    if syntax.endswith("itk"):  # whose decoders are used where pydicom has none
        monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda _: SimpleNamespace(is_available=False))
    np.testing.assert_array_equal(read_image(tmp_path).array_kji, even_ct)


def test_bits_that_are_not_used_do_not_count(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright, BitsStored=12, HighBit=11)
    edit(files, lambda dataset, _: setattr(
        dataset, "PixelData", (np.frombuffer(dataset.PixelData, np.uint16) | 0x9000).tobytes()))  # fmt: skip
    np.testing.assert_array_equal(read_image(tmp_path).array_kji, even_ct)


def test_one_sop_instance_uid_for_all_images(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    write_series(tmp_path / "in", even_ct, upright, SOPInstanceUID="1.2.3")
    image = read_image(tmp_path / "in")
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("SOP instance UID" in warning for warning in image.warnings)
    with pytest.raises(OutputError, match="share one SOP instance UID"):
        check_segmentation_output(tmp_path / "seg.dcm", image)


def test_a_series_uid_for_each_image(tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write) -> None:
    files = write_series(tmp_path, even_ct, upright)
    edit(files, lambda dataset, _: setattr(dataset, "SeriesInstanceUID", generate_uid()))
    for source in (tmp_path, files[2]):
        image = read_image(source)
        np.testing.assert_array_equal(image.array_kji, even_ct)
        assert any("series UID of its own" in warning for warning in image.warnings)
    write_series(tmp_path, even_ct[:4], upright, number=2)
    assert len(read_image(tmp_path).array_kji) == 6


def test_a_file_without_sop_class_is_named_and_left_out(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    odd = pydicom.dcmread(files[0])
    del odd.SOPClassUID
    odd.SOPInstanceUID = "1.2.3.4"
    odd.save_as(tmp_path / "ODD", enforce_file_format=False)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("ODD" in warning and "SOP class" in warning for warning in image.warnings)


def test_colour_captures_do_not_hide_the_ct(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    uid = generate_uid()
    write_series(tmp_path / "apart", even_ct, upright)
    write_series(tmp_path / "apart", np.repeat(even_ct, 3, 0), upright, number=9, SamplesPerPixel=3)
    image = read_image(tmp_path / "apart")
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("largest usable" in warning for warning in image.warnings)
    with pytest.raises(InputError, match="colour"):
        read_image(tmp_path / "apart", series="9")
    write_series(tmp_path / "mixed", even_ct, upright, series=uid)
    write_series(tmp_path / "mixed", even_ct[:2], upright, series=uid, time=3, SamplesPerPixel=3)
    image = read_image(tmp_path / "mixed")
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("2 images of the series that are in colour" in warning for warning in image.warnings)


def test_a_segmentation_of_a_series_without_frame_of_reference(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    def change(dataset: Any, number: int) -> None:
        del dataset.FrameOfReferenceUID, dataset.PatientBirthDate

    edit(write_series(tmp_path / "in", even_ct, upright), change)
    image = read_image(tmp_path / "in")
    notes = write_segmentation(tmp_path / "seg.dcm", {"Liver": even_ct > 0}, image.grid, source=image)
    assert any("frame of reference" in note for note in notes)
    assert pydicom.dcmread(tmp_path / "seg.dcm").FrameOfReferenceUID


@pytest.mark.parametrize("kind", ["files", "enhanced"])
def test_a_segmentation_of_a_tilted_series_comes_back_voxel_by_voxel(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write, write_enhanced: Callable[..., Path],
    kind: str,
) -> None:  # fmt: skip
    affine = upright.affine_ras.copy()
    affine[1, 2] = 0.8
    tilted = Grid(upright.shape_kji, affine)
    (tmp_path / "in").mkdir()
    if kind == "files":
        write_series(tmp_path / "in", even_ct, tilted)
    else:
        write_enhanced(tmp_path / "in" / "a.dcm", even_ct, tilted)
    image = read_image(tmp_path / "in")
    mask = even_ct > 300
    write_segmentation(tmp_path / "seg.dcm", {"Liver": mask, "Spleen": ~mask}, image.grid, source=image)
    back = read_segmentation(tmp_path / "seg.dcm")
    assert same_grid(back.grid, image.grid, 1e-2)
    np.testing.assert_array_equal(back.masks["Liver"], mask)
    np.testing.assert_array_equal(back.masks["Spleen"], ~mask)


def over_time(folder: Path, array: np.ndarray, grid: Grid, write_series: Write, change: Callable[[Any, int, int], None]
              ) -> list[list[Path]]:  # fmt: skip
    """Two phases in one series that nothing but `change(dataset, phase, k)` tells apart."""
    uid = generate_uid()
    phases = [write_series(folder, array + 20 * phase, grid, series=uid, time=phase + 1) for phase in (0, 1)]
    for phase, files in enumerate(phases):

        def told(dataset: Any, k: int, phase: int = phase) -> None:
            dataset.AcquisitionNumber, dataset.InstanceNumber = 1, 1
            change(dataset, phase, k)

        edit(files, told)
    return phases


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda ds, phase, k: setattr(ds, "TemporalPositionIdentifier", phase + 1), "temporal position"),
        (lambda ds, phase, k: setattr(ds, "EchoTime", 5 + 10 * phase), "echo time"),
        (lambda ds, phase, k: setattr(ds, "TriggerTime", 400 * phase), "cardiac phase"),
        (lambda ds, phase, k: setattr(ds, "AcquisitionTime", f"1200{20 * phase + k:02d}"), "acquisition time"),
        (lambda ds, phase, k: setattr(ds, "InstanceNumber", 1 + 2 * k + phase), "instance number"),
    ],
)
def test_phases_are_told_apart_by_time_or_acquisition(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write,
    change: Callable[[Any, int, int], None], words: str,
) -> None:  # fmt: skip
    over_time(tmp_path, even_ct, upright, write_series, change)
    with pytest.raises(InputError, match=f"2 frames, told apart by their {words}"):
        read_image(tmp_path)
    for frame in (0, 1):
        np.testing.assert_array_equal(read_image(tmp_path, frame=frame).array_kji, even_ct + 20 * frame)


def test_phases_are_never_mixed_by_accident(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    numbers = np.random.default_rng(3).permutation(12).tolist()
    over_time(tmp_path, even_ct, upright, write_series,
              lambda ds, phase, k: setattr(ds, "InstanceNumber", numbers[2 * k + phase]))  # fmt: skip
    with pytest.raises(InputError, match="tells them apart"):
        read_image(tmp_path)


def test_a_phase_with_a_missing_slice_keeps_to_itself(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    phases = over_time(tmp_path, even_ct, upright, write_series,
                       lambda ds, phase, k: setattr(ds, "TemporalPositionIdentifier", phase))  # fmt: skip
    phases[0][3].unlink()
    image = read_image(tmp_path, frame=0)
    np.testing.assert_array_equal(image.array_kji[[0, 1, 2, 4, 5]], even_ct[[0, 1, 2, 4, 5]])
    assert any("1 slices of the series are missing" in warning for warning in image.warnings)
    np.testing.assert_array_equal(read_image(tmp_path, frame=1).array_kji, even_ct + 20)


def test_copies_with_uids_of_their_own_count_once(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    for path in files[:2]:
        dataset = pydicom.dcmread(path)
        dataset.SOPInstanceUID = generate_uid()
        dataset.save_as(path.with_name(path.name + "-copy"))
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("2 copies" in warning for warning in image.warnings)


def test_a_volume_in_several_multi_frame_files_is_one(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_enhanced: Callable[..., Path]
) -> None:
    uid = generate_uid()
    for name, low, high in (("a", -301, -293), ("b", -292, -280)):
        enhanced_frames(write_enhanced(tmp_path / name, even_ct, upright), lambda z, low=low, high=high: low < z < high,
                        SeriesInstanceUID=uid)  # fmt: skip
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert image.warnings == ()


def test_a_dicomdir_stands_for_what_lies_beside_it(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    write_series(tmp_path / "IMAGES", even_ct, upright)
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    np.testing.assert_array_equal(read_image(tmp_path / "DICOMDIR").array_kji, even_ct)


def test_phases_of_an_enhanced_file_are_told_apart_by_their_time(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_enhanced: Callable[..., Path]
) -> None:
    path = write_enhanced(tmp_path / "a.dcm", even_ct, upright)
    dataset = pydicom.dcmread(path)
    frames = list(dataset.PerFrameFunctionalGroupsSequence)
    pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(len(frames), -1)
    both = []
    for phase in (1, 0):
        for frame in frames:
            copy, content = deepcopy(frame), pydicom.Dataset()
            content.TemporalPositionIndex = phase + 1
            copy.FrameContentSequence = [content]
            both.append(copy)
    dataset.PerFrameFunctionalGroupsSequence, dataset.NumberOfFrames = both, len(both)
    dataset.PixelData = np.concatenate([pixels + 20, pixels]).astype(np.uint16).tobytes()
    dataset.save_as(path)
    with pytest.raises(InputError, match="2 frames, told apart by their temporal position"):
        read_image(path)
    for phase in (0, 1):
        np.testing.assert_array_equal(read_image(path, frame=phase).array_kji, even_ct + 20 * phase)


def test_where_a_segment_is_cut_off_is_in_its_description(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    from MedalSLib.run import StructureReport
    from MedalSLib.volume.segment_info import SegmentInfo

    write_series(tmp_path / "in", even_ct, upright)
    image = read_image(tmp_path / "in")
    words = StructureReport("Liver", True, 12.34, cut_off=("feet",)).cut_off_words
    infos = {"Liver": SegmentInfo(description=words)}
    write_segmentation(tmp_path / "seg.dcm", {"Liver": even_ct > 0}, image.grid, infos, source=image)
    (segment,) = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    assert segment.SegmentDescription == "Cut off by the edge of the scan (feet): at least 12.3 ml."


def test_a_number_that_is_none_names_its_file(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    files[1].write_bytes(files[1].read_bytes().replace(b"-297.000000", b"-29x,000000"))
    with pytest.raises(InputError, match=files[1].name):
        read_image(tmp_path)


def test_a_series_is_chosen_from_folders_only(tmp_path: Path, ct: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", imgs=ct, spacing=np.ones(3))
    with pytest.raises(InputError, match="no folder"):
        read_image(tmp_path / "a.npz", series="1")
