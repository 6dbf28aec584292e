"""Images are read with their place in the patient, and bad ones are refused with a cause and a remedy."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from MedalSLib.errors import InputError
from MedalSLib.volume import Grid, NetworkFrame, same_grid
from MedalSLib.volume.geometry import lps_of_grid, swap_ras_lps
from MedalSLib.volume.reading import read_image


def save_nifti(path: Path, array_kji: np.ndarray, affine: np.ndarray | None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array_kji.T, affine), path)
    return path


def save_itk(path: Path, array_kji: np.ndarray, grid: Grid) -> Path:
    image = SimpleITK.GetImageFromArray(array_kji)
    origin, spacing, direction = lps_of_grid(grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path))
    return path


def save_nrrd(path: Path, array_kji: np.ndarray, grid: Grid) -> Path:
    affine = swap_ras_lps(grid.affine_ras)
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "kinds": ["domain"] * 3,
    }
    nrrd.write(str(path), array_kji.T, header)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_every_format_gives_the_same_voxels_at_the_same_place(
    tmp_path: Path, ct: np.ndarray, grid: Grid, name: str
) -> None:
    path = tmp_path / name
    if ".nii" in name:
        save_nifti(path, ct, grid.affine_ras)
    elif name == "a.nrrd":
        save_nrrd(path, ct, grid)
    else:
        save_itk(path, ct, grid)
    image = read_image(path)
    np.testing.assert_array_equal(image.array_kji, ct)
    assert same_grid(image.grid, grid, 1e-3)
    assert image.modality.modality == "CT" and image.modality.certain
    assert image.warnings == ()


def test_the_real_chest_ct_is_read_with_the_head_up_and_the_left_on_the_left(chest: Path) -> None:
    image = read_image(str(chest / "CTChest4.nrrd"))
    assert image.array_kji.shape == (34, 128, 128)
    assert image.grid.orientation == "RAS"
    assert image.grid.spacing_kji == pytest.approx((10, 3.047, 3.047), abs=1e-3)
    assert image.modality.modality == "CT"
    inside = NetworkFrame(image.grid).to_network(image.array_kji)
    assert inside.shape == (34, 128, 128)
    table = inside[:, -20:, :] > -500  # the table is behind the patient
    sky = inside[:, :20, :] > -500
    assert table.sum() > sky.sum()


def test_a_sheared_nrrd_keeps_its_shear(tmp_path: Path, ct: np.ndarray, upright: Grid) -> None:
    affine = upright.affine_ras.copy()
    affine[1, 2] = 0.9
    tilted = Grid(upright.shape_kji, affine)
    image = read_image(save_nrrd(tmp_path / "a.nrrd", ct, tilted))
    assert same_grid(image.grid, tilted, 1e-3) and "right angles" in image.warnings[0]


def test_a_frame_of_a_4d_image_is_read_on_request_only(tmp_path: Path, ct: np.ndarray, grid: Grid) -> None:
    frames = np.stack([ct, ct + 1, ct + 2])
    path = tmp_path / "a.nii.gz"
    nibabel.save(nibabel.Nifti1Image(frames.transpose(3, 2, 1, 0), grid.affine_ras), path)
    np.testing.assert_array_equal(read_image(path, frame=2).array_kji, ct + 2)
    with pytest.raises(InputError, match=r"4-D: it has 3 frames") as caught:
        read_image(path)
    assert "0 to 2" in caught.value.remedy and "--frame" in caught.value.remedy
    with pytest.raises(InputError, match="no frame 3"):
        read_image(path, frame=3)
    nibabel.save(nibabel.Nifti1Image(frames[:1].transpose(3, 2, 1, 0), grid.affine_ras), path)
    np.testing.assert_array_equal(read_image(path).array_kji, ct)


def test_a_frame_of_a_nrrd_sequence_and_of_a_4d_metaimage(tmp_path: Path, ct: np.ndarray) -> None:
    frames = np.stack([ct, ct + 1])
    header = {
        "kinds": ["list", "domain", "domain", "domain"],
        "space": "left-posterior-superior",
        "space directions": np.vstack([[np.nan] * 3, np.eye(3)]),
        "space origin": np.zeros(3),
    }
    nrrd.write(str(tmp_path / "a.nrrd"), frames.transpose(0, 3, 2, 1), header)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(frames, isVector=False), str(tmp_path / "a.mha"))
    for name in ("a.nrrd", "a.mha"):
        np.testing.assert_array_equal(read_image(tmp_path / name, frame=1).array_kji, ct + 1)
        with pytest.raises(InputError, match="2 frames"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_a_2d_image_is_refused(tmp_path: Path, ct: np.ndarray, name: str) -> None:
    if name.endswith(".gz"):
        nibabel.save(nibabel.Nifti1Image(ct[0].T, np.eye(4)), tmp_path / name)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ct[0]), str(tmp_path / name))
    with pytest.raises(InputError, match="2-D") as caught:
        read_image(tmp_path / name)
    assert "volume" in caught.value.remedy


def test_one_slice_is_not_a_volume(tmp_path: Path, ct: np.ndarray, upright: Grid) -> None:
    with pytest.raises(InputError, match="2-D"):
        read_image(save_nifti(tmp_path / "a.nii", ct[:1], upright.affine_ras))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_counted_and_refused(tmp_path: Path, ct: np.ndarray, value: float) -> None:
    bad = ct.astype(np.float32)
    bad[1, 2, 3] = bad[0, 0, 0] = value
    with pytest.raises(InputError, match="2 voxels") as caught:
        read_image(save_nifti(tmp_path / "a.nii.gz", bad, np.eye(4)))
    assert "Replace" in caught.value.remedy


def test_a_constant_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="same intensity"):
        read_image(save_nifti(tmp_path / "a.nii.gz", np.full((4, 5, 6), -1024, np.int16), np.eye(4)))


@pytest.mark.parametrize("replacement", [b"1 0 1", b"1 -1 1"])
def test_zero_or_negative_spacing_in_a_metaimage_is_refused(tmp_path: Path, ct: np.ndarray, replacement: bytes) -> None:
    path = save_itk(tmp_path / "a.mha", ct, Grid(ct.shape, np.diag((-1.0, -1.0, 1.0, 1.0))))
    path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 1 1 1", b"ElementSpacing = " + replacement))
    with pytest.raises(InputError, match="spacing"):
        read_image(path)


def test_zero_spacing_in_a_nrrd_is_refused(tmp_path: Path, ct: np.ndarray) -> None:
    header = {"space": "left-posterior-superior", "space directions": np.diag((1.0, 0, 2)), "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "a.nrrd"), ct, header)
    with pytest.raises(InputError, match="spacing"):
        read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("spacing", [0.0, -2.0, np.nan])
def test_bad_spacing_in_a_nifti_without_orientation_is_refused(tmp_path: Path, ct: np.ndarray, spacing: float) -> None:
    path = save_nifti(tmp_path / "a.nii", ct, None)
    data = bytearray(path.read_bytes())
    data[84:88] = np.float32(spacing).tobytes()  # pixdim[2]
    data[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"spacing|affine") as caught:
        read_image(path)
    assert caught.value.remedy


def test_a_nifti_with_a_singular_sform_is_refused(tmp_path: Path, ct: np.ndarray) -> None:
    path = save_nifti(tmp_path / "a.nii", ct, np.eye(4))
    data = bytearray(path.read_bytes())
    data[280:296] = np.zeros(4, np.float32).tobytes()  # srow_x
    path.write_bytes(data)
    with pytest.raises(InputError, match="spacing"):
        read_image(path)


def test_a_nifti_without_orientation_is_read_with_a_warning(tmp_path: Path, ct: np.ndarray) -> None:
    image = read_image(save_nifti(tmp_path / "a.nii", ct, None))
    assert any("left and right" in warning for warning in image.warnings)


def test_a_nifti_whose_two_orientations_differ_is_read_with_a_warning(tmp_path: Path, ct: np.ndarray) -> None:
    nifti = nibabel.Nifti1Image(ct.T, np.eye(4))
    nifti.set_qform(np.diag((-1.0, 1, 1, 1)), code=1)
    nifti.set_sform(np.eye(4), code=2)
    nibabel.save(nifti, tmp_path / "a.nii")
    image = read_image(tmp_path / "a.nii")
    assert any("sform" in warning for warning in image.warnings)
    np.testing.assert_allclose(image.grid.affine_ras, np.eye(4))


def test_a_nifti_in_microns_is_brought_to_millimetres(tmp_path: Path, ct: np.ndarray) -> None:
    nifti = nibabel.Nifti1Image(ct.T, np.diag((500.0, 500, 2000, 1)))
    nifti.header.set_xyzt_units("micron")
    nibabel.save(nifti, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").grid.spacing_ijk == pytest.approx((0.5, 0.5, 2.0))


def test_slope_and_intercept_of_a_nifti_are_applied(tmp_path: Path) -> None:
    nifti = nibabel.Nifti1Image(np.arange(120, dtype=np.int16).reshape(4, 5, 6), np.eye(4))
    nifti.header.set_slope_inter(2.0, -1024.0)
    nibabel.save(nifti, tmp_path / "a.nii")
    stored = read_image(tmp_path / "a.nii").array_kji
    raw = nibabel.load(tmp_path / "a.nii").get_fdata().T
    np.testing.assert_allclose(stored, raw)
    assert stored.dtype == np.float32


def test_a_nrrd_without_orientation_is_read_with_a_warning(tmp_path: Path, ct: np.ndarray) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), ct)
    assert any("left and right" in warning for warning in read_image(tmp_path / "a.nrrd").warnings)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("damage", ["cut", "start", "text"])
def test_damaged_files_are_refused_and_named(
    tmp_path: Path, ct: np.ndarray, grid: Grid, name: str, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    (save_nifti(path, ct, grid.affine_ras) if ".nii" in name else save_itk(path, ct, grid))
    data = path.read_bytes()
    path.write_bytes({"cut": data[: len(data) * 2 // 3], "start": data[:20], "text": b"not an image\n" * 50}[damage])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert name in caught.value.cause and "\n" not in caught.value.cause and caught.value.remedy


def test_a_gz_that_ends_early_is_refused_even_where_the_header_is_whole(tmp_path: Path, grid: Grid) -> None:
    noise = np.random.default_rng(0).normal(size=(30, 40, 50)).astype(np.float32)
    path = save_nifti(tmp_path / "a.nii.gz", noise, np.eye(4))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cut short"):
        read_image(path)
    path.write_bytes(gzip.compress(b"x" * 400))
    with pytest.raises(InputError):
        read_image(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.nii"):
        read_image(tmp_path / "nothing.nii")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").touch()
    with pytest.raises(InputError, match="empty"):
        read_image(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("name", ["a.txt", "a.png", "a", "a.dcm"])
def test_an_unknown_format_is_refused_with_the_known_ones(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"something else" * 30)
    with pytest.raises(InputError, match="cannot be read") as caught:
        read_image(tmp_path / name)
    assert ".nii.gz" in caught.value.remedy and "DICOM" in caught.value.remedy


def test_very_uneven_voxels_are_warned_about(tmp_path: Path, ct: np.ndarray) -> None:
    image = read_image(save_nifti(tmp_path / "a.nii", ct, np.diag((0.4, 0.4, 8.0, 1))))
    assert any("uneven" in warning for warning in image.warnings)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float64])
def test_every_type_of_voxel_is_read_as_at_most_32_bits(tmp_path: Path, dtype: type) -> None:
    array = np.arange(120).reshape(4, 5, 6).astype(dtype)
    path = tmp_path / "a.nii"
    nibabel.save(nibabel.Nifti1Image(array.T, np.eye(4), dtype=dtype), path)
    image = read_image(path).array_kji
    np.testing.assert_array_equal(image, array)
    assert image.dtype.itemsize <= 4 and image.dtype.isnative


def test_colour_is_refused(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(InputError, match="not an intensity"):
        read_image(tmp_path / "a.nii")
