"""DICOM series are sorted by position, scaled, and what is odd about them is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from MedalSLib.errors import InputError
from MedalSLib.volume import Grid, same_grid
from MedalSLib.volume.reading import read_image

Write = Callable[..., list[Path]]


def test_a_folder_is_sorted_by_position_and_scaled_to_hounsfield_units(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path / "d" / "deeper", even_ct, upright)
    (tmp_path / "d" / "readme.txt").write_text("a CD holds other files too")
    (tmp_path / "d" / "DICOMDIR").write_bytes(b"\0" * 300)
    image = read_image(tmp_path / "d")
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert same_grid(image.grid, upright, 1e-3)
    assert image.array_kji.dtype.kind == "i"
    assert image.source.files == tuple(files)
    assert image.modality.modality == "CT" and "DICOM" in image.modality.reason
    assert image.warnings == ()


def test_an_oblique_series_keeps_its_place(
    tmp_path: Path, even_ct: np.ndarray, grid: Grid, write_series: Write
) -> None:
    write_series(tmp_path, even_ct, grid)
    image = read_image(tmp_path)
    i, j, k = 3, 4, 1
    position = grid.index_to_ras((i, j, k))
    x, y, z = np.rint(image.grid.ras_to_index(position)).astype(int)
    assert image.array_kji[z, y, x] == even_ct[k, j, i]
    np.testing.assert_allclose(image.grid.index_to_ras((x, y, z)), position, atol=1e-3)


def test_nothing_that_names_the_patient_is_kept(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    write_series(tmp_path, even_ct, upright)
    write_series(tmp_path, even_ct[:3], upright, number=2, SeriesDescription="Scout of Jane Doe")
    image = read_image(tmp_path)
    text = repr((image.warnings, image.modality))
    assert not any(secret in text for secret in ("Doe", "Jane", "SECRET", "1970"))


def test_the_largest_series_is_read_unless_another_is_asked_for(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    uid = generate_uid()
    write_series(tmp_path, even_ct, upright, number=2)
    write_series(tmp_path, even_ct[:3], upright, number=7, series=uid, SeriesDescription="Lung 1.0 B60f")
    image = read_image(tmp_path)
    assert len(image.array_kji) == 6
    assert "2 series" in image.warnings[0] and "series 7" in image.warnings[0]
    for wanted in ("7", "lung", uid):
        assert len(read_image(tmp_path, series=wanted).array_kji) == 3
    with pytest.raises(InputError, match="no series 'knee'") as caught:
        read_image(tmp_path, series="knee")
    assert "series 2 (CT, 6 images)" in caught.value.remedy


def test_one_file_stands_for_its_whole_series(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    write_series(tmp_path, even_ct[:2], upright, number=3)
    image = read_image(files[4])
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert "6 slices" in image.warnings[0]


def test_a_lone_slice_is_not_a_volume(tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write) -> None:
    files = write_series(tmp_path, even_ct[:1], upright)
    for path in (files[0], tmp_path):
        with pytest.raises(InputError, match="2-D"):
            read_image(path)


def test_missing_slices_are_counted(tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write) -> None:
    files = write_series(tmp_path, even_ct, upright)
    files[2].unlink()
    assert any("1 slices of the series are missing" in warning for warning in read_image(tmp_path).warnings)


def test_uneven_distances_are_warned_about(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    dataset = pydicom.dcmread(files[3])
    dataset.ImagePositionPatient[2] = float(dataset.ImagePositionPatient[2]) + 0.9
    dataset.save_as(files[3])
    assert any("not even" in warning for warning in read_image(tmp_path).warnings)


def test_a_tilted_gantry_keeps_each_voxel_where_it_was_measured(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    affine = upright.affine_ras.copy()
    affine[1, 2] = 0.8
    tilted = Grid(upright.shape_kji, affine)
    write_series(tmp_path, even_ct, tilted)
    image = read_image(tmp_path)
    assert same_grid(image.grid, tilted, 1e-3)
    assert any("tilted" in warning for warning in image.warnings)


def test_a_localizer_inside_the_series_is_left_out(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, grid: Grid, write_series: Write
) -> None:
    uid = generate_uid()
    write_series(tmp_path, even_ct, upright, series=uid)
    write_series(tmp_path, even_ct[:1], grid, series=uid, time=2)
    image = read_image(tmp_path)
    np.testing.assert_array_equal(image.array_kji, even_ct)
    assert any("1 images" in warning for warning in image.warnings)


def test_a_series_over_time_needs_a_frame(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    uid = generate_uid()
    write_series(tmp_path, even_ct, upright, series=uid, time=1)
    write_series(tmp_path, even_ct + 20, upright, series=uid, time=2)
    with pytest.raises(InputError, match="2 frames"):
        read_image(tmp_path)
    np.testing.assert_array_equal(read_image(tmp_path, frame=1).array_kji, even_ct + 20)


def test_the_same_image_copied_twice_counts_once(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    files = write_series(tmp_path, even_ct, upright)
    (tmp_path / "copy of a slice").write_bytes(files[2].read_bytes())
    np.testing.assert_array_equal(read_image(tmp_path).array_kji, even_ct)


def test_an_enhanced_multi_frame_file_is_sorted_and_scaled_frame_by_frame(
    tmp_path: Path, ct: np.ndarray, upright: Grid, write_enhanced: Callable[..., Path]
) -> None:
    path = write_enhanced(tmp_path / "a.dcm", ct, upright)
    for source in (path, tmp_path):
        image = read_image(source)
        np.testing.assert_array_equal(image.array_kji, ct)
        assert image.array_kji.dtype.kind == "i"
        assert same_grid(image.grid, upright, 1e-3)


def test_a_film_without_places_is_refused(
    tmp_path: Path, ct: np.ndarray, upright: Grid, write_enhanced: Callable[..., Path]
) -> None:
    path = write_enhanced(tmp_path / "a.dcm", ct, upright)
    dataset = pydicom.dcmread(path)
    del dataset.PerFrameFunctionalGroupsSequence
    dataset.save_as(path)
    with pytest.raises(InputError, match="where in the patient"):
        read_image(path)


def test_slices_without_places_are_refused(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    for path in write_series(tmp_path, even_ct, upright):
        dataset = pydicom.dcmread(path)
        del dataset.ImagePositionPatient
        dataset.save_as(path)
    with pytest.raises(InputError, match="where in the patient") as caught:
        read_image(tmp_path)
    assert "3D Slicer" in caught.value.remedy


def test_a_truncated_slice_is_named(tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write) -> None:
    files = write_series(tmp_path, even_ct, upright)
    files[1].write_bytes(files[1].read_bytes()[:-100])
    with pytest.raises(InputError, match=files[1].name):
        read_image(tmp_path)


def test_a_damaged_header_is_named(tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write) -> None:
    files = write_series(tmp_path, even_ct, upright)
    data = bytearray(files[2].read_bytes())
    data[132:] = b"\x02\x00\x00\x00UL\x04\x00" + b"\xff" * 30
    files[2].write_bytes(data)
    with pytest.raises(InputError, match=files[2].name):
        read_image(tmp_path)


def test_colour_and_foreign_folders_are_refused(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no DICOM image"):
        read_image(tmp_path / "empty")
    write_series(tmp_path / "colour", even_ct, upright, SamplesPerPixel=3)
    with pytest.raises(InputError, match="colour"):
        read_image(tmp_path / "colour")


def test_progress_grows_to_one_and_may_stop_the_reading(
    tmp_path: Path, even_ct: np.ndarray, upright: Grid, write_series: Write
) -> None:
    write_series(tmp_path, even_ct, upright)
    shares: list[float] = []
    read_image(tmp_path, on_progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 6
