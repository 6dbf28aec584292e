"""An image that lies upside down or mirrored is noticed: by the couch of a CT, and by where organs were found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.volume import BoxMask, axial_grid
from MedalSLib.volume.challenge import read_challenge, write_challenge_result
from MedalSLib.volume.orientation_doubt import couch_doubt, organs_doubt
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.writing import write_segmentation

SPACING = (5.0, 4.0, 4.0)


def on_a_couch(has_couch: bool = True) -> np.ndarray:
    """A body of tissue (K, J, I) with a couch under it, J growing to the back; Hounsfield units."""
    y, x = np.mgrid[:90, :100]
    plane = np.where(((y - 40) / 22) ** 2 + ((x - 50) / 35) ** 2 < 1, 40, -1000)
    if has_couch:
        plane[66:70, 10:90] = -200
    return np.repeat(plane[None].astype(np.int16), 6, axis=0)


@pytest.mark.parametrize(("code", "is_said"), [("LPS", False), ("RPS", False), ("LAS", True), ("RAI", True)])
def test_a_couch_in_front_of_the_patient_is_said(code: str, is_said: bool) -> None:
    ct = on_a_couch()
    grid = axial_grid(ct.shape, SPACING, code)
    assert bool(couch_doubt(ct, grid, is_windowed=False)) is is_said
    windowed = np.clip((ct + 160.0) / 400 * 255, 0, 255).astype(np.uint8)
    windowed[ct == -200] = 60
    assert bool(couch_doubt(windowed, grid, is_windowed=True)) is is_said


def test_without_a_couch_nothing_is_said() -> None:
    ct = on_a_couch(has_couch=False)
    assert not couch_doubt(ct, axial_grid(ct.shape, SPACING, "LAS"), is_windowed=False)


def organ(x: int, y: int, z: int) -> BoxMask:
    mask = np.zeros((40, 40, 40), bool)
    mask[z - 3 : z + 3, y - 3 : y + 3, x - 3 : x + 3] = True
    return BoxMask.of(mask)


ORGANS = {  # x grows to the left, y to the back, z to the head
    "Liver": organ(10, 15, 20),
    "Spleen": organ(32, 24, 22),
    "Left kidney": organ(28, 28, 15),
    "Right kidney": organ(12, 28, 14),
    "Left lung": organ(28, 20, 34),
    "Urinary bladder": organ(20, 15, 4),
}


@pytest.mark.parametrize(
    ("code", "words"), [("LPS", ""), ("RPS", "mirrored"), ("LAS", "back to front"), ("LPI", "feet to head")]
)
def test_organs_on_the_wrong_side_are_said(code: str, words: str) -> None:
    said = organs_doubt(ORGANS, axial_grid((40, 40, 40), SPACING, code))
    assert words in said and bool(said) is bool(words)
    assert not said or "--orientation" in said


def test_one_organ_or_none_says_nothing() -> None:
    grid = axial_grid((40, 40, 40), SPACING, "RAI")
    assert not organs_doubt({"Liver": ORGANS["Liver"]}, grid)
    assert not organs_doubt({"Liver": ORGANS["Liver"], "Spleen": BoxMask.empty((40, 40, 40))}, grid)


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    path = tmp_path / "CT_case.npz"
    image = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.savez_compressed(path, imgs=image, spacing=np.array([0.8, 0.9, 5.0]))
    return path


def test_an_npz_lies_as_the_user_says(npz: Path) -> None:
    assert read_image(npz).grid.orientation == "LPS"
    assert read_image(npz, orientation="las").grid.orientation == "LAS"
    assert read_challenge(npz, orientation="RAI").grid.orientation == "RAI"


@pytest.mark.parametrize("code", ["", "LA", "LLS", "LASP", "XYZ"])
def test_what_is_no_orientation_is_refused(npz: Path, code: str) -> None:
    with pytest.raises(InputError, match="orientation") as caught:
        read_image(npz, orientation=code)
    assert "LPS" in caught.value.remedy


def test_a_file_with_an_orientation_of_its_own_takes_no_other(tmp_path: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.arange(60.0).reshape(3, 4, 5), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match="its own orientation"):
        read_image(tmp_path / "a.nii.gz", orientation="LAS")


def test_a_result_in_npz_has_the_axes_of_its_image_and_comes_back_in_place(npz: Path, tmp_path: Path) -> None:
    image = read_image(npz, orientation="LAS")
    mask = np.zeros(image.grid.shape_kji, bool)
    mask[1, 0, 2] = True
    write_segmentation(tmp_path / "r.npz", {"Liver": mask}, image.grid, source=image)
    np.testing.assert_array_equal(read_challenge(tmp_path / "r.npz").segs, mask)
    again = read_segmentation(tmp_path / "r.npz", orientation="LAS")
    np.testing.assert_array_equal(again.masks_on(image.grid)["Liver"], mask)


def test_the_couch_of_a_real_case_is_seen(reference: Path) -> None:
    case = reference / "cases" / "CT_AMOS_amos_0018.npz"
    assert any("upside down" in said for said in read_image(case).warnings)
    assert not read_image(case, orientation="LAS").warnings


def test_results_are_compared_by_the_names_they_carry(tmp_path: Path) -> None:
    from MedalSLib.evaluation.folder import evaluate_folder

    truth = np.zeros((4, 5, 6), np.uint8)
    truth[:2], truth[2:] = 6, 1
    texts = np.array({"6": "Liver in CT", "1": "Spleen in CT"}, dtype=object)
    np.savez_compressed(tmp_path / "CT_t.npz", gts=truth, spacing=np.ones(3), text_prompts=texts)
    found = np.where(truth == 6, 1, 2).astype(np.uint8)
    write_challenge_result(tmp_path / "CT_r.npz", found, (1, 1, 1), ["Liver", "Spleen"])
    report = evaluate_folder(tmp_path / "CT_t.npz", tmp_path / "CT_r.npz")
    assert {row["structure"]: row["dsc"] for row in report["cases"]} == {"Liver": 1.0, "Spleen": 1.0}
