"""nnU-Net's layout, written and read back: the same voxels at the same place, under the same names."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
from training_inputs import challenge_folder

from MedalSLib.errors import CancelledError, InputError, OutputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.training.case_reading import RawCase, read_case
from MedalSLib.training.case_store import CaseReader
from MedalSLib.training.nnunet import write_nnunet
from MedalSLib.training.prepare import PrepareOptions, complete_cases, prepare_cases
from MedalSLib.training.sources import Sources, find_sources
from MedalSLib.volume import Grid
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.writing import write_segmentation

OBLIQUE = np.array([[-1.4, 0.2, 0, 12.5], [0.2, 1.4, 0.1, -7], [0, -0.2, 3, 40], [0, 0, 0, 1]])


def cases(sources: Sources) -> dict[str, RawCase]:
    return {case.identifier: read_case(case) for case in complete_cases(sources)[0]}


def clinic_folder(root: Path, count: int = 2) -> Path:
    """Oblique Hounsfield images with the labels 3 and 7, which names.json names."""
    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "names.json").write_text(json.dumps({"7": ["transplant kidney", "The kidney in the pelvis"], "3": "liver"}))
    random = np.random.default_rng(0)
    for index in range(count):
        image = random.integers(-1000, 1500, (9, 8, 7)).astype(np.int16)
        labels = random.choice(np.array([0, 3, 7], np.uint8), image.shape)
        for folder, array in (("images", image), ("labels", labels)):
            nibabel.save(nibabel.Nifti1Image(array, OBLIQUE), root / folder / f"patient {index}.nii.gz")
    return root


def test_a_folder_of_cases_comes_back_as_it_was(tmp_path: Path) -> None:
    source = find_sources(clinic_folder(tmp_path / "Pelvis 2026"), modality="CT")
    report = write_nnunet(source, tmp_path / "raw", 612)
    folder = tmp_path / "raw" / "Dataset612_Pelvis_2026"
    assert report["folders"] == [str(folder)] and report["cases"] == 2 and not report["rejected"]
    assert json.loads((folder / "dataset.json").read_text()) == {
        "name": "Pelvis 2026",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "Liver": 1, "transplant kidney": 2},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }
    assert {path.name for path in (folder / "imagesTr").iterdir()} == {f"patient {n}_0000.nii.gz" for n in (0, 1)}
    assert {path.name for path in (folder / "labelsTr").iterdir()} == {f"patient {n}.nii.gz" for n in (0, 1)}
    again = find_sources(folder)
    (info,) = {case.dataset.name: case.dataset for case in complete_cases(again)[0]}.values()
    assert (info.name, info.modality) == ("Pelvis 2026", "CT")
    assert [info.texts[label][0] for label in (1, 2)] == ["Liver", "transplant kidney"]
    before, after = cases(source), cases(again)
    assert before.keys() == after.keys()
    for name, case in before.items():
        np.testing.assert_array_equal(after[name].array_kji, case.array_kji)
        np.testing.assert_array_equal(after[name].labels_kji, np.choose(case.labels_kji // 3, [0, 1, 2]))
        assert after[name].array_kji.dtype == np.int16
        np.testing.assert_allclose(after[name].grid.affine_ras, OBLIQUE, atol=1e-5)


def test_challenge_cases_lie_as_the_user_says(tmp_path: Path) -> None:
    source = find_sources(challenge_folder(tmp_path / "npz", cases=1), orientation="LAS")
    report = write_nnunet(source, tmp_path / "raw")
    assert report["folders"] == [str(tmp_path / "raw" / "Dataset501_CT_Toy")]
    (before,), (after,) = (
        cases(one).values() for one in (source, find_sources(tmp_path / "raw" / "Dataset501_CT_Toy"))
    )
    assert after.grid.orientation == "LAS"
    np.testing.assert_array_equal(after.labels_kji, before.labels_kji)
    np.testing.assert_array_equal(after.array_kji, before.array_kji)


def test_a_prepared_folder_comes_back_on_the_networks_grid(tmp_path: Path) -> None:
    options = PrepareOptions(StageSpec(2, (1.5, 1.5, 2.0), (32, 32, 32)), workers=0)
    prepared = prepare_cases(find_sources(challenge_folder(tmp_path / "npz", cases=1)), tmp_path / "prepared", options)
    image, labels = CaseReader(prepared.root).whole(prepared.cases[0])
    write_nnunet(prepared, tmp_path / "raw")
    (after,) = cases(find_sources(tmp_path / "raw" / "Dataset501_CT_Toy")).values()
    assert after.grid.orientation == "LPS"
    high, wide, deep = prepared.cases[0].spacing_hwd
    assert after.grid.spacing_ijk == pytest.approx((wide, high, deep))
    np.testing.assert_array_equal(after.array_kji.transpose(1, 2, 0), image)
    np.testing.assert_array_equal(after.labels_kji.transpose(1, 2, 0), labels)


def test_what_nobody_looked_for_is_said_to_become_background(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    image = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    for name, structures in (("a", ("liver", "spleen")), ("b", ("liver",))):
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), tmp_path / "images" / f"{name}.nii.gz")
        masks = {one: (image % 7 == at).T for at, one in enumerate(structures, 1)}
        infos = {one: SegmentInfo((255, 0, 0)) for one in structures}
        write_segmentation(tmp_path / "labels" / f"{name}.seg.nrrd", masks, Grid((4, 5, 6), np.eye(4)), infos)
    report = write_nnunet(find_sources(tmp_path, modality="CT"), tmp_path / "raw")
    assert report["notes"] == {"b": ["Not annotated here, but background for nnU-Net: Spleen."]}


def test_nothing_is_overwritten_and_bad_cases_are_named(tmp_path: Path) -> None:
    folder = clinic_folder(tmp_path / "data")
    (folder / "images" / "patient 1.nii.gz").write_bytes(b"no image")
    report = write_nnunet(find_sources(folder, modality="CT"), tmp_path / "raw")
    assert report["cases"] == 1 and report["rejected"][0]["case"] == "patient 1"
    with pytest.raises(OutputError, match="not empty"):
        write_nnunet(find_sources(folder, modality="CT"), tmp_path / "raw")
    with pytest.raises(InputError, match="1 to 999"):
        write_nnunet(find_sources(folder, modality="CT"), tmp_path / "raw", 1000)
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        write_nnunet(find_sources(folder, modality="CT"), tmp_path / "raw", 700, cancel=stop)
