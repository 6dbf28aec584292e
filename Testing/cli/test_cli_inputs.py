"""Inputs of other programs and mistaken arguments: what is meant is done, the rest is said, and no result is lost."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from MedalSLib.cli import main
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.writing import write_segmentation
from tools.robustness.sample_files import write_samples


@pytest.fixture
def common(tiny_model: Path) -> tuple[Any, ...]:
    return ("--modality", "CT", "--model", tiny_model)


@pytest.fixture
def block(ct: Path) -> np.ndarray:
    mask = np.zeros(read_image(ct).grid.shape_kji, bool)
    mask[4:8, 6:12, 6:12] = True
    return mask


def save_labels(path: Path, ct: Path, labels_kji: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(labels_kji.astype(np.uint8).T, nibabel.load(ct).affine), path)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("liver.nii.gz", ()),
        ("mask.nii.gz", ("--text", "liver")),
        ("labels.nii.gz", ("--names", "1=liver")),
        ("labels.mha", ("--names", "1=liver,2=spleen")),
    ],
)
def test_masks_without_names_get_them_from_file_text_or_table(
    medals, ct: Path, common: tuple[Any, ...], block: np.ndarray, tmp_path: Path, name: str, options: tuple[str, ...]
) -> None:
    path = save_labels(tmp_path / name.replace(".mha", ".nii"), ct, block)
    if name.endswith(".mha"):
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path := tmp_path / name))
    code, printed, said = medals(
        "segment", ct, "--masks", path, *options, "-o", tmp_path / "out.nii.gz", "--json", *common
    )
    assert code == 0, said
    assert json.loads(printed)["structures"]["Liver"]["source"] == "mask"


@pytest.mark.parametrize(
    "table",
    [
        {"names.json": '{"1": "liver", "2": "spleen"}'},
        {"dataset.json": '{"labels": {"background": 0, "liver": 1, "spleen": 2}}'},
        {"dataset.json": '{"labels": {"0": "background", "1": "liver", "2": "spleen"}}'},
        {"names.csv": "label,name\n1,liver\n2,spleen\n"},
        {"itk-snap.txt": '# labels\n0 0 0 0 0 0 0 "Clear Label"\n1 255 0 0 1 1 1 "liver"\n2 0 255 0 1 1 1 "spleen"\n'},
        {"colors.ctbl": "# Color table\n0 Background 0 0 0 0\n1 liver 255 0 0 255\n2 spleen 0 0 255 255\n"},
    ],
)
def test_tables_of_names_of_many_programs_are_read(tmp_path: Path, table: dict[str, str]) -> None:
    from MedalSLib.volume.segment_names import read_names

    ((name, text),) = table.items()
    (tmp_path / name).write_text(text)
    assert read_names(str(tmp_path / name)) == {1: "liver", 2: "spleen"}


@pytest.mark.parametrize("name", ["Liver_1", "liver copy", "liver (2)", "LIVER", "liver_mask", "Segment_1"])
def test_segments_with_suffixes_run_and_the_others_are_named(
    medals, ct: Path, common: tuple[Any, ...], block: np.ndarray, tmp_path: Path, name: str
) -> None:
    masks = {name: block} if name == "Segment_1" else {name: block, "Flurb": ~block}
    grid = read_image(ct).grid
    write_segmentation(tmp_path / "in.seg.nrrd", {key: BoxMask.of(mask) for key, mask in masks.items()}, grid)
    code, printed, said = medals(
        "segment",
        ct,
        "--masks",
        tmp_path / "in.seg.nrrd",
        "--text",
        "liver",
        "-o",
        tmp_path / "o.nii.gz",
        "--json",
        *common,
    )
    assert code == 0, said
    report = json.loads(printed)
    assert list(report["structures"]) == ["Liver"] and report["structures"]["Liver"]["source"] == "mask"
    assert name == "Segment_1" or "left out: Flurb" in " ".join(report["warnings"])


def test_a_folder_of_masks_as_totalsegmentator_writes_it(
    medals, ct: Path, common: tuple[Any, ...], block: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "segmentations"
    folder.mkdir()
    for name in ("liver", "kidney_left", "heart_myocardium"):
        save_labels(folder / f"{name}.nii.gz", ct, block)
    code, printed, said = medals(
        "segment",
        ct,
        "--masks",
        folder,
        "--text",
        "liver, left kidney",
        "-o",
        tmp_path / "o.seg.nrrd",
        "--json",
        *common,
    )
    assert code == 0, said
    assert {entry["source"] for entry in json.loads(printed)["structures"].values()} == {"mask"}


def test_our_own_nifti_keeps_its_names_through_a_re_save(medals, ct: Path, block: np.ndarray, tmp_path: Path) -> None:
    grid = read_image(ct).grid
    write_segmentation(tmp_path / "a.nii.gz", {"Liver": block, "Spleen": ~block}, grid)
    image = nibabel.load(tmp_path / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine), tmp_path / "a.nii.gz")  # as others do
    assert [segment.name for segment in read_segmentation(tmp_path / "a.nii.gz").segments] == ["Liver", "Spleen"]


@pytest.mark.parametrize("code", [0, 30])
def test_the_label_table_in_a_nifti_header_is_read(tmp_path: Path, code: int) -> None:
    table = """<?xml version="1.0"?><CaretExtension><VolumeInformation Index="0"><LabelTable>
      <Label Key="1" Red="0.3" Green="0.1" Blue="0.2" Alpha="1"><![CDATA[spleen]]></Label>
      <Label Key="2" Red="0.3" Green="0.1" Blue="0.2" Alpha="1"><![CDATA[kidney_right]]></Label>
    </LabelTable></VolumeInformation></CaretExtension>"""
    image = nibabel.Nifti1Image(np.repeat(np.arange(3, dtype=np.uint8), 20).reshape(3, 4, 5), np.eye(4))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(code, table.encode()))
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert [segment.name for segment in read_segmentation(tmp_path / "a.nii.gz").segments] == ["spleen", "kidney_right"]


def test_a_thin_mask_on_a_finer_grid_is_kept(ct: Path) -> None:
    from MedalSLib.volume import Grid
    from MedalSLib.volume.resample import resample_mask

    coarse = Grid((8, 20, 20), np.diag((1.0, 1.0, 5.0, 1.0)))
    fine = Grid((160, 20, 20), np.diag((1.0, 1.0, 0.25, 1.0)))
    sheet = np.zeros(fine.shape_kji, bool)
    sheet[33, 4:12, 5:15] = True  # at 8.25 mm, between the coarse slices at 5 and 10 mm
    kept = resample_mask(sheet, fine, coarse)
    assert kept[2, 4:12, 5:15].all() and kept.sum() == 80


def test_an_output_that_is_an_input_is_refused_whatever_may_be_overwritten(
    medals, ct: Path, common: tuple[Any, ...], block: np.ndarray, tmp_path: Path
) -> None:
    masks = save_labels(tmp_path / "liver.nii.gz", ct, block)
    (tmp_path / "link.nii.gz").symlink_to(ct)
    before = {path: path.read_bytes() for path in (ct, masks)}
    for out in (ct, masks, tmp_path / "link.nii.gz"):
        code, _, said = medals("segment", ct, "--masks", masks, "-o", out, "--overwrite", *common)
        assert code == 6 and "input of this run" in said
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    ("name", "words"), [("x" * 300 + ".nii.gz", "too long"), ("gone/x.nii.gz", "no folder"), ("x.txt", "ending")]
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(
    medals, tmp_path: Path, name: str, words: str
) -> None:
    code, _, said = medals("segment", __file__, "--text", "liver", "-o", tmp_path / name)
    assert code == 6 and words in said
    code, _, said = medals(
        "segment", __file__, "--text", "liver", "-o", tmp_path / "a.nii", "--preview", tmp_path / "a.gif"
    )
    assert code == 6 and ".png" in said
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_names_may_be_is_written(medals, ct: Path, common: tuple[Any, ...], tmp_path: Path) -> None:
    out = tmp_path / ("x" * 240 + ".seg.nrrd")
    code, _, said = medals("segment", ct, "--text", "liver", "-o", out, *common)
    assert code == 0 and out.is_file(), said


def test_no_room_is_said_before_the_run(
    medals, ct: Path, common: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))
    code, _, said = medals("segment", ct, "--text", "liver", "-o", tmp_path / "a.nii", *common)
    assert code == 6 and "left on the disk" in said and "stage 1" not in said


def test_a_result_that_cannot_be_written_is_kept_and_named(
    medals, ct: Path, common: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(nibabel, "save", full)
    code, _, said = medals("segment", ct, "--text", "liver", "-o", tmp_path / "a.nii.gz", *common)
    assert code == 6 and "no space" in said
    kept = Path(re.search(r"kept: (\S+\.seg\.nrrd)", said)[1])  # type: ignore[index]
    try:
        assert [segment.name for segment in read_segmentation(kept).segments] == ["Liver"]
    finally:
        shutil.rmtree(kept.parent)
    assert not (tmp_path / "a.nii.gz").exists()


def test_a_structure_at_the_edge_of_the_scan_is_at_least_as_large(
    medals, ct: Path, common: tuple[Any, ...], tmp_path: Path
) -> None:
    out = tmp_path / "a.seg.nrrd"
    code, printed, said = medals("segment", ct, "--text", "liver, spleen", "-o", out, "--json", *common)
    assert code == 0, said
    report, masks = json.loads(printed), read_segmentation(out).masks
    for name, entry in report["structures"].items():
        mask = masks[name]
        sides = {"feet": mask[0], "head": mask[-1], "front": mask[:, -1], "back": mask[:, 0], "left": mask[..., -1],
                 "right": mask[..., 0]}  # fmt: skip
        assert set(entry["cut_off"]) == {side for side, plane in sides.items() if plane.any()}
        assert (f"{name:<32}" in said) and ("at least" in said) == any(
            e["cut_off"] for e in report["structures"].values()
        )


def test_values_that_cannot_be_hounsfield_units_are_said_whoever_says_ct(
    medals, ct: Path, common: tuple[Any, ...], tmp_path: Path
) -> None:
    image = nibabel.load(ct)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj).clip(-1024) + 1024, image.affine), tmp_path / "b.nii.gz")
    code, printed, _ = medals(
        "segment", tmp_path / "b.nii.gz", "--text", "liver", "-o", tmp_path / "o.nii", "--json", *common
    )
    assert code == 0 and any("plus 1024" in warning for warning in json.loads(printed)["warnings"])


def test_series_are_listed_and_chosen(medals, common: tuple[Any, ...], tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    write_samples(folder)
    for path in folder.iterdir():
        if path.is_file() and path.suffix != ".dcm":
            path.unlink()
    shutil.copytree(folder / "series", folder / "second")
    import pydicom

    for number, path in enumerate((folder / "second").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID, dataset.SeriesNumber, dataset.SeriesDescription = "1.2.3", 8, "Lung sharp"
        dataset.SOPInstanceUID = f"1.2.3.{number}"
        dataset.save_as(path)
    (folder / "second" / "4.dcm").unlink()
    code, printed, said = medals("info", folder, "--json")
    assert code == 0, said
    listed = json.loads(printed)["series"]
    assert [(item["number"], item["images"], item["usable"]) for item in listed] == [
        (3, 5, True),
        (3, 5, True),
        (8, 4, True),
    ]
    code, printed, _ = medals("info", folder)
    assert printed.startswith("* series 3") and "Lung sharp" in printed
    for wanted in ("8", "lung", "1.2.3"):
        code, printed, said = medals("info", folder, "--series", wanted, "--json")
        assert code == 0 and json.loads(printed)["size"] == [8, 9, 4], said
    code, _, said = medals(
        "segment", folder, "--series", "knee", "--text", "liver", "-o", tmp_path / "o.nii.gz", *common
    )
    assert code == 3 and "no series 'knee'" in said


def test_a_batch_takes_dicom_folders_and_no_labelmaps(medals, ct: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    samples = tmp_path / "samples"
    samples.mkdir()
    write_samples(samples)
    shutil.copytree(samples / "series", source / "patient 1" / "CT")
    shutil.copy(samples / "seg.dcm", source / "patient 1" / "seg.dcm")
    for name in ("ct.nii.gz", "ct_seg.nii.gz", "ct_label.nii.gz"):
        shutil.copy(ct, source / name)
    code, printed, said = medals("batch", source, "--list", "--json")
    assert code == 0, said
    report = json.loads(printed)
    assert report["studies"] == {
        str(source / "ct.nii.gz"): "ct.seg.nrrd",
        str(source / "patient 1" / "CT"): "patient 1__CT.seg.nrrd",
    }
    assert len(report["labelmaps"]) == 2


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["segment", "CT", "--text", "liver", "--roi", "inf:1,2:3,4:5", "-o", "OUT"], 3),
        (["segment", "CT", "--text", "liver", "--roi-mm", "nan:1,2:3,4:5", "-o", "OUT"], 3),
        (["segment", "CT", "--text", "liver", "--api-key-file", "/nowhere", "-o", "OUT"], 3),
        (["segment", "x" * 300, "--text", "liver", "-o", "OUT"], 3),
        (["predict", "CT", "CT"], 6),
        (["info", "/dev/null"], 3),
        (["segment", "a\0b", "--text", "liver", "-o", "OUT"], 2),
    ],
)
def test_mistaken_arguments_get_a_sentence(
    medals, ct: Path, tiny_model: Path, tmp_path: Path, line: list[str], code: int
) -> None:
    given = [{"CT": str(ct), "OUT": str(tmp_path / "o.nii.gz")}.get(word, word) for word in line]
    extra = ["--model", str(tiny_model), "--modality", "CT"] if line[0] == "segment" else []
    found, _, said = medals(*given, *extra)
    assert found == code, said
    assert said.strip() and "Traceback" not in said and "unexpectedly" not in said


def test_a_fault_of_ours_ends_in_a_sentence_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from MedalSLib.cli import names

    monkeypatch.setattr(names, "print_json", lambda _: 1 / 0)
    assert main(["resolve", "liver", "--json"]) == 1
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said and "MEDALS_TRACEBACK" in said and "Traceback (" not in said


@pytest.mark.slow
@pytest.mark.parametrize("options", [("--mode", "refine"), ("--previous", "SAME")])
def test_an_unchanged_result_is_refined_to_itself(
    medals, ct: Path, common: tuple[Any, ...], tmp_path: Path, options: tuple[str, ...]
) -> None:
    first, second = tmp_path / "a.seg.nrrd", tmp_path / "b.seg.nrrd"
    assert medals("segment", ct, "--text", "liver, spleen", "-o", first, *common)[0] == 0
    given = [first if option == "SAME" else option for option in options]
    code, _, said = medals("segment", ct, "--masks", first, *given, "--text", "liver", "-o", second, *common)
    assert code == 0, said
    masks = read_segmentation(second).masks
    assert list(masks) == ["Liver"]
    np.testing.assert_array_equal(masks["Liver"], read_segmentation(first).masks["Liver"])


def test_punctuation_alone_gets_a_sentence(medals) -> None:
    code, _, said = medals("resolve", "!!!")
    assert code == 4 and "no word" in said
