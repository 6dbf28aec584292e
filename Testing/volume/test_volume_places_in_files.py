"""NIfTI, NRRD and MetaImage files with faults: the voxels lie where the file says, or what it leaves out is said."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from MedalSLib.errors import InputError
from MedalSLib.volume import Grid, same_grid
from MedalSLib.volume.geometry import swap_ras_lps
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation


def save_nifti(path: Path, array_kji: np.ndarray, grid: Grid, unit: str = "mm") -> Path:
    factor = {"mm": 1.0, "micron": 1000.0, "meter": 0.001}[unit]
    affine = np.diag([factor] * 3 + [1.0]) @ grid.affine_ras
    image = nibabel.Nifti1Image(array_kji.T, affine)
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def test_a_sform_of_zeros_gives_way_to_the_qform(tmp_path: Path, ct: np.ndarray, grid: Grid) -> None:
    path = save_nifti(tmp_path / "a.nii", ct, grid)
    for code in (1, 0):  # a qform counts even where its code says that it does not, if nothing else is left
        data = bytearray(path.read_bytes())
        data[252:254], data[280:328] = bytes([code, 0]), bytes(48)
        path.write_bytes(data)
        image = read_image(path)
        assert same_grid(image.grid, grid, 1e-3)
        assert "the qform was used" in image.warnings[0]


def test_orientations_that_contradict_each_other_are_said_with_their_distance(
    tmp_path: Path, ct: np.ndarray, upright: Grid
) -> None:
    image = nibabel.Nifti1Image(ct.T, upright.affine_ras)
    moved = upright.affine_ras.copy()
    moved[2, 3] += 40
    image.set_qform(moved, code="scanner")
    nibabel.save(image, tmp_path / "a.nii")
    found = read_image(tmp_path / "a.nii")
    assert same_grid(found.grid, upright, 1e-3)
    assert "differ by up to 40 mm" in found.warnings[0]


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_units_count_for_images_and_masks(tmp_path: Path, ct: np.ndarray, grid: Grid, unit: str) -> None:
    assert same_grid(read_image(save_nifti(tmp_path / "a.nii", ct, grid, unit)).grid, grid, 1e-3)
    mask = (ct > 0).astype(np.uint8)
    masks = read_segmentation(save_nifti(tmp_path / "mask.nii.gz", mask, grid, unit)).masks_on(grid)
    np.testing.assert_array_equal(masks["Label 1"], ct > 0)


@pytest.mark.parametrize("kind", ["plain named .nii.gz", "packed named .nii", "packed twice", "no ending", "nifti 2"])
def test_content_decides_not_the_ending(tmp_path: Path, ct: np.ndarray, grid: Grid, kind: str) -> None:
    plain, packed = save_nifti(tmp_path / "a.nii", ct, grid), save_nifti(tmp_path / "b.nii.gz", ct, grid)
    path = tmp_path / {"packed named .nii": "c.nii", "no ending": "c"}.get(kind, "c.nii.gz")
    if kind == "packed twice":
        path.write_bytes(gzip.compress(packed.read_bytes()))
    elif kind == "nifti 2":
        path = tmp_path / "c"
        nibabel.save(nibabel.Nifti2Image(ct.T, grid.affine_ras), tmp_path / "d.nii.gz")
        shutil.move(tmp_path / "d.nii.gz", path)
    else:
        shutil.copy(packed if kind == "packed named .nii" else plain, path)
    image = read_image(path)
    np.testing.assert_array_equal(image.array_kji, ct)
    assert same_grid(image.grid, grid, 1e-3)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<!DOCTYPE html><html>Sign in</html>", "web page"), (b"version https://git-lfs.github.com/spec/v1", "Git LFS")],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha"])
def test_what_is_no_image_at_all_is_named(tmp_path: Path, content: bytes, words: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_a_header_that_claims_more_than_the_file_holds(tmp_path: Path, ct: np.ndarray, grid: Grid, name: str) -> None:
    path = tmp_path / name
    if ".nii" in name:
        save_nifti(path, ct, grid)
        data = bytearray(gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes())
        data[42:48] = np.full(3, 32767, "<i2").tobytes()
        path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ct), str(path), useCompression=name == "a.nrrd")
        path.write_bytes(path.read_bytes().replace(b"11 9 6", b"32767 32767 32767"))
    with pytest.raises(InputError, match=r"do not fit|cannot be read") as caught:
        read_image(path)
    assert "memory" not in str(caught.value)


def write_nrrd(path: Path, ct: np.ndarray, grid: Grid, **changes: Any) -> Path:
    affine = swap_ras_lps(grid.affine_ras)
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
    }
    header = {key: value for key, value in (header | changes).items() if value is not None}
    nrrd.write(str(path), ct.T, header)
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
def test_nrrd_is_read_in_every_encoding(tmp_path: Path, ct: np.ndarray, grid: Grid, encoding: str) -> None:
    image = read_image(write_nrrd(tmp_path / "a.nrrd", ct, grid, encoding=encoding))
    np.testing.assert_array_equal(image.array_kji, ct)
    assert same_grid(image.grid, grid, 1e-3) and image.warnings == ()


@pytest.mark.parametrize(
    ("space", "signs"), [("right-anterior-superior", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1)),
                         ("LPS", (1, 1, 1)), ("RAS", (-1, -1, 1))],
)  # fmt: skip
def test_nrrd_is_read_in_every_space(
    tmp_path: Path, ct: np.ndarray, grid: Grid, space: str, signs: tuple[int, ...]
) -> None:
    affine = np.diag((*signs, 1)) @ swap_ras_lps(grid.affine_ras)
    changes = {"space": space, "space directions": affine[:3, :3].T, "space origin": affine[:3, 3]}
    assert same_grid(read_image(write_nrrd(tmp_path / "a.nrrd", ct, grid, **changes)).grid, grid, 1e-3)


def test_nrrd_units_of_length_count(tmp_path: Path, ct: np.ndarray, grid: Grid) -> None:
    affine = swap_ras_lps(grid.affine_ras) * 1000
    changes = {"space directions": affine[:3, :3].T, "space origin": affine[:3, 3], "space units": ["um"] * 3}
    assert same_grid(read_image(write_nrrd(tmp_path / "a.nrrd", ct, grid, **changes)).grid, grid, 1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": None, "space directions": None, "space origin": None}, ("size of its voxels", "swapped")),
        ({"space": None, "space directions": None, "space origin": None, "spacings": [1.0, 2.0, 3.0]}, ("swapped",)),
        ({"space": "scanner-xyz"}, ("scanner-xyz",)),
        ({"space": "3D-right-handed"}, ("3d-right-handed",)),
    ],
)
def test_what_a_nrrd_leaves_out_is_said(
    tmp_path: Path, ct: np.ndarray, grid: Grid, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    image = read_image(write_nrrd(tmp_path / "a.nrrd", ct, grid, **changes))
    np.testing.assert_array_equal(image.array_kji, ct)
    assert all(word in " ".join(image.warnings) for word in words)
    if "spacings" in changes:
        assert image.grid.spacing_ijk == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("frames", [1, 2])
def test_a_list_axis_may_come_first_or_last(tmp_path: Path, ct: np.ndarray, grid: Grid, at: int, frames: int) -> None:
    affine = swap_ras_lps(grid.affine_ras)
    directions = np.insert(affine[:3, :3].T, at, np.nan, axis=0)
    data = np.stack([ct + n for n in range(frames)]).transpose(0, 3, 2, 1)
    kinds = ["domain"] * 3
    kinds.insert(at, "list")
    header = {"space": "left-posterior-superior", "space directions": directions, "space origin": affine[:3, 3],
              "kinds": kinds}  # fmt: skip
    nrrd.write(str(tmp_path / "a.nrrd"), np.moveaxis(data, 0, at), header)
    image = read_image(tmp_path / "a.nrrd", frame=frames - 1)
    np.testing.assert_array_equal(image.array_kji, ct + frames - 1)
    assert same_grid(image.grid, grid, 1e-3)


def test_what_a_metaimage_leaves_out_is_said(tmp_path: Path, ct: np.ndarray) -> None:
    header = "ObjectType = Image\nNDims = 3\nDimSize = 11 9 6\nElementType = MET_SHORT\nElementDataFile = a.raw\n"
    (tmp_path / "a.mhd").write_text(header)
    (tmp_path / "a.raw").write_bytes(ct.astype("<i2").tobytes())
    image = read_image(tmp_path / "a.mhd")
    np.testing.assert_array_equal(image.array_kji, ct)
    assert "size of its voxels" in image.warnings[0] and "swapped" in image.warnings[1]


def test_an_npz_of_raw_values_or_without_spacing_says_so(tmp_path: Path, ct: np.ndarray) -> None:
    np.savez(tmp_path / "CT_raw.npz", imgs=ct, spacing=np.ones(3))
    assert "from -1000 to 1500" in read_image(tmp_path / "CT_raw.npz").warnings[0]
    np.savez(tmp_path / "CT_bare.npz", imgs=((ct - ct.min()) / 10).astype(np.uint8))
    assert "size of its voxels" in read_image(tmp_path / "CT_bare.npz").warnings[0]
