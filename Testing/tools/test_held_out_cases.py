"""Held-out volumes leave the packed form as files that other programs read."""

import json
from pathlib import Path

import numpy as np
import pytest

from MedalSLib.errors import InputError
from tools.starter.export_held_out import main
from tools.starter.held_out_cases import labelled_cases
from tools.starter.labels import ELEMENTS


def pack(path: Path, trusted: list[str]) -> np.ndarray:
    elements = np.zeros((12, 20, 24), np.uint8)
    elements[2:8, 3:15, 4:12] = ELEMENTS["liver"]
    elements[2:8, 3:9, 15:20] = ELEMENTS["spleen"]
    elements[9:11, 4:8, 4:8] = ELEMENTS["kidney_left"]  # too few voxels to be judged
    image = np.where(elements > 0, 180, 20).astype(np.uint8)
    np.savez_compressed(
        path, image=image, elements=elements, spacing=np.array([4.0, 2.0, 2.5]), modality="MRI",
        trusted=np.array(trusted), weight=1.0,
    )  # fmt: skip
    return elements


def test_a_held_out_volume_is_read_back_with_its_trusted_structures_in_place(tmp_path: Path) -> None:
    elements = pack(tmp_path / "belly.npz", ["Liver", "Left kidney"])
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "files"), "--volumes", "belly"]) == 0
    (case,) = labelled_cases(tmp_path / "files", "MRI")
    assert case.name == "belly"
    assert case.modality == "MRI"
    assert set(case.truths) == {"Liver"}
    np.testing.assert_array_equal(case.truths["Liver"], elements == ELEMENTS["liver"])
    assert case.grid.spacing_kji == pytest.approx((4.0, 2.0, 2.5))
    assert case.grid.orientation == "LPS"
    np.testing.assert_array_equal(case.array_kji, np.where(elements > 0, 180, 20))


def test_a_public_case_is_read_back_with_what_was_contoured_in_it(tmp_path: Path) -> None:
    import nibabel

    (tmp_path / "openkbp").mkdir()
    (tmp_path / "t1_head").mkdir()
    labels = np.zeros((24, 20, 12), np.uint8)
    labels[10:14, 8:12, 2:10] = 2
    affine = np.diag([3.0, 3.0, 2.0, 1.0])
    for name, array in (
        ("openkbp/pt_9_ct", labels.astype(np.int16) * 50), ("openkbp/pt_9_labels", labels),
        ("t1_head/t1", labels), ("t1_head/labels", labels),
    ):  # fmt: skip
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    entry = {"name": "pt_9", "role": "held out", "contoured": ["SpinalCord"]}
    (tmp_path / "openkbp/index.json").write_text(json.dumps({"labels": {"SpinalCord": 2}, "volumes": [entry]}))
    command = ["--public", str(tmp_path), "--output", str(tmp_path / "files"), "--cases", "pt_9"]
    assert main(command) == 0
    (case,) = labelled_cases(tmp_path / "files", "CT")
    assert case.name == "pt_9" and case.grid.orientation == "RAS"
    np.testing.assert_array_equal(case.truths["Spinal cord"], labels.transpose(2, 1, 0) == 2)


def test_a_volume_that_was_not_packed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"chest\.npz"):
        main(["--data", str(tmp_path), "--output", str(tmp_path / "files"), "--volumes", "chest"])


def test_a_folder_without_labelled_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        labelled_cases(tmp_path, "MRI")
