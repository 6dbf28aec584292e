"""Evaluating folders: challenge npz, labelmaps and named segments, what is missing, and the files that are written."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from MedalSLib.errors import InputError, OutputError
from MedalSLib.evaluation.folder import evaluate_folder, summary_table
from MedalSLib.evaluation.metrics import instance_scores, semantic_scores
from MedalSLib.evaluation.score_page import modality_means, overlay, score_page

SPACING_XYZ = (0.8, 0.9, 2.5)


def organs(shift: int = 0) -> np.ndarray:
    labels = np.zeros((16, 24, 24), np.uint8)
    labels[3:12, 4 + shift : 14 + shift, 3:10] = 1
    labels[4:13, 6:16, 13 + shift : 20 + shift] = 2
    return labels


def challenge(root: Path, cases: int = 2, rows: slice = slice(None)) -> tuple[Path, Path, Path]:
    folders = tuple(root / name for name in ("images", "gts", "segs"))
    for folder in folders:
        folder.mkdir(parents=True)
    for index in range(cases):
        name = f"CT_Toy_{index}.npz"
        image = (organs() * 80 + 20).astype(np.uint8)[:, rows]
        prompts = {"1": "Liver in abdominal CT", "2": "The spleen", "instance_label": 0}
        np.savez(folders[0] / name, imgs=image, spacing=SPACING_XYZ, text_prompts=np.array(prompts, dtype=object))
        np.savez(folders[1] / name, gts=organs()[:, rows], spacing=SPACING_XYZ)
        np.savez(folders[2] / name, segs=organs(shift=index + 1)[:, rows])
    return folders  # type: ignore[return-value]  # three folders go in


@pytest.mark.parametrize("order", ["correct", "published"])
def test_challenge_cases_get_the_scores_of_the_metrics_under_published_names(tmp_path: Path, order: str) -> None:
    images, gts, segs = challenge(tmp_path)
    report = evaluate_folder(gts, segs, images, spacing_order=order)
    expected = semantic_scores(organs(), organs(1), [1, 2], SPACING_XYZ[::-1], spacing_order=order)
    rows = {row["structure"]: row for row in report["cases"] if row["case"] == "CT_Toy_0"}
    assert set(rows) == {"Liver", "Spleen"}
    for name, label in (("Liver", 1), ("Spleen", 2)):
        assert rows[name]["dsc"] == pytest.approx(expected[label]["dsc"])
        assert rows[name]["nsd"] == pytest.approx(expected[label]["nsd"])
        assert rows[name]["modality"] == "CT"
    second = semantic_scores(organs(), organs(2), [1, 2], SPACING_XYZ[::-1], spacing_order=order)
    means = [(expected["mean"][key] + second["mean"][key]) / 2 for key in ("dsc", "nsd")]
    assert [report["mean"]["dsc"], report["mean"]["nsd"]] == pytest.approx(means)
    overall = [row for row in report["summary"] if row["structure"] == "all"]
    assert overall[0]["dsc"] == pytest.approx(means[0])


def test_only_labels_that_were_asked_for_count(tmp_path: Path) -> None:
    images, gts, segs = challenge(tmp_path, cases=1)
    np.savez(
        images / "CT_Toy_0.npz", imgs=organs(), spacing=SPACING_XYZ, text_prompts=np.array({"1": "Liver"}, dtype=object)
    )
    assert [row["structure"] for row in evaluate_folder(gts, segs, images)["cases"]] == ["Liver"]


def test_instances_are_scored_as_instances(tmp_path: Path) -> None:
    images, gts, segs = challenge(tmp_path, cases=1)
    prompts = {"1": "Liver tumor", "instance_label": 1}
    np.savez(images / "CT_Toy_0.npz", imgs=organs(), spacing=SPACING_XYZ, text_prompts=np.array(prompts, dtype=object))
    row = evaluate_folder(gts, segs, images)["cases"][0]
    expected = instance_scores(organs(), organs(1))
    assert (row["kind"], row["f1"], row["dsc"]) == ("instance", expected["f1"], pytest.approx(expected["dsc_tp"]))
    assert row["nsd"] is None


def test_tables_and_a_figure_are_written_and_never_overwritten_unasked(tmp_path: Path) -> None:
    images, gts, segs = challenge(tmp_path)
    report = evaluate_folder(gts, segs, images, tmp_path / "out")
    assert sorted(Path(file).name for file in report["files"]) == [
        "cases.csv",
        "figure.png",
        "scores.html",
        "summary.csv",
        "summary.json",
    ]
    with (tmp_path / "out" / "cases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert float(rows[0]["dsc"]) == pytest.approx(report["cases"][0]["dsc"], abs=1e-6)
    assert rows[0]["f1"] == ""
    assert (tmp_path / "out" / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mean"] == report["mean"]
    assert "Liver" in summary_table(report)
    with pytest.raises(OutputError, match="exists already"):
        evaluate_folder(gts, segs, images, tmp_path / "out")
    evaluate_folder(gts, segs, images, tmp_path / "out", overwrite=True)


def test_the_page_is_one_file_that_shows_the_worst_result_first(tmp_path: Path) -> None:
    images, gts, segs = challenge(tmp_path, cases=2)
    empty = np.zeros_like(organs())
    np.savez(segs / "CT_Toy_1.npz", segs=empty, spacing=SPACING_XYZ)
    evaluate_folder(gts, segs, images, tmp_path / "out")
    page = (tmp_path / "out" / "scores.html").read_text()
    assert "http" not in page and "<script" not in page
    worst = page.partition("Worst first")[2]
    assert worst.index("CT_Toy_1") < worst.index("CT_Toy_0")
    pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    assert len(pictures) == 4
    assert base64.b64decode(pictures[0]).startswith(b"\xff\xd8")


def test_the_page_keeps_the_dice_of_instances_apart_and_gives_the_mean_of_modalities() -> None:
    def row(modality: str, kind: str, dsc: float, f1: float | None) -> dict[str, Any]:
        nsd = None if kind == "instance" else dsc
        return {"modality": modality, "structure": "all", "kind": kind, "cases": 1, "dsc": dsc, "nsd": nsd, "f1": f1}

    summary = [row("CT", "semantic", 0.8, None), row("CT", "instance", 0.5, 0.3), row("MRI", "semantic", 0.6, None)]
    assert modality_means(summary) == {
        "CT": {"dsc": 0.8, "nsd": 0.8, "f1": 0.3, "dsc_tp": 0.5},
        "MRI": {"dsc": 0.6, "nsd": 0.6},
    }
    page = score_page({"summary": summary, "cases": [], "failed": []}, {})
    last = page.partition("mean of 2 modalities")[2]
    assert re.findall(r">([\d.]+)</td>", last.partition("</tr>")[0]) == ["0.7000", "0.7000", "0.3000", "0.5000"]


def test_an_overlay_shows_what_was_missed_and_what_is_wrong() -> None:
    truth, found = np.zeros((3, 20, 20), bool), np.zeros((3, 20, 20), bool)
    truth[1, :10, :10], found[1, 10:, 10:] = True, True
    picture = imread(io.BytesIO(overlay(truth, found, None, (1.0, 1.0, 1.0))), format="jpg").astype(int)
    size = picture.shape[0]
    missed, wrong = picture[size // 4, size // 4], picture[3 * size // 4, 3 * size // 4]
    assert missed[2] > missed[0] and wrong[0] > wrong[2]


def test_a_missing_result_counts_as_empty_and_a_damaged_one_is_reported(tmp_path: Path) -> None:
    images, gts, segs = challenge(tmp_path, cases=3)
    (segs / "CT_Toy_1.npz").unlink()
    (segs / "CT_Toy_2.npz").write_bytes(b"nothing")
    report = evaluate_folder(gts, segs, images)
    assert report["missing"] == ["CT_Toy_1"]
    assert [entry["case"] for entry in report["failed"]] == ["CT_Toy_2"]
    assert all(row["dsc"] == 0 for row in report["cases"] if row["case"] == "CT_Toy_1")


def write_nifti(path: Path, labels_dhw: np.ndarray, flip: bool = False) -> None:
    import nibabel

    affine = np.diag([0.8, 0.9, 2.5, 1.0])
    array = labels_dhw.transpose(2, 1, 0)
    if flip:
        array, affine = array[::-1], affine.copy()
        affine[0, 0], affine[0, 3] = -0.8, 0.8 * (array.shape[0] - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array), affine), path)


def test_npz_files_lie_as_the_user_says(tmp_path: Path) -> None:
    pages = []
    for name, rows, orientation in (("lps", slice(None), None), ("las", slice(None, None, -1), "LAS")):
        images, gts, segs = challenge(tmp_path / name, 1, rows)
        evaluate_folder(gts, segs, images, tmp_path / name / "out", orientation=orientation)
        pages.append((tmp_path / name / "out" / "scores.html").read_text())
    assert pages[0] == pages[1], "the same patient is shown the same way up"
    affine = np.diag([-0.8, 0.9, 2.5, 1])  # x to the left, y to the front
    (tmp_path / "gt").mkdir()
    nibabel.save(nibabel.Nifti1Image(organs().transpose(2, 1, 0), affine), tmp_path / "gt" / "CT_Toy_0.nii.gz")
    (tmp_path / "seg").mkdir()
    np.savez(tmp_path / "seg" / "CT_Toy_0.npz", segs=organs(), spacing=SPACING_XYZ)
    assert evaluate_folder(tmp_path / "gt", tmp_path / "seg", orientation="las")["mean"]["dsc"] == 1
    assert evaluate_folder(tmp_path / "gt", tmp_path / "seg")["mean"]["dsc"] < 1
    with pytest.raises(InputError, match="say their own orientation"):
        evaluate_folder(tmp_path / "gt", tmp_path / "gt", orientation="LAS")


def test_labelmaps_are_compared_by_value_whatever_way_they_are_stored(tmp_path: Path) -> None:
    write_nifti(tmp_path / "gt" / "one.nii.gz", organs())
    write_nifti(tmp_path / "seg" / "one_seg.nii.gz", organs(), flip=True)
    report = evaluate_folder(tmp_path / "gt", tmp_path / "seg")
    assert [row["structure"] for row in report["cases"]] == ["Label 1", "Label 2"]
    assert all(row["dsc"] == 1.0 and row["nsd"] == pytest.approx(1.0) for row in report["cases"])


def test_two_files_can_be_compared_and_a_folder_with_a_file_cannot(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", organs())
    write_nifti(tmp_path / "b.nii.gz", organs(1))
    assert evaluate_folder(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")["mean"]["dsc"] < 1
    with pytest.raises(InputError):
        evaluate_folder(tmp_path, tmp_path / "b.nii.gz")
    with pytest.raises(InputError):
        evaluate_folder(tmp_path / "gone", tmp_path / "b.nii.gz")


def test_named_segments_are_matched_by_what_they_mean(tmp_path: Path) -> None:
    from MedalSLib.volume import axial_grid
    from MedalSLib.volume.writing import write_segmentation

    grid = axial_grid(organs().shape, SPACING_XYZ[::-1])
    masks = {"liver": organs() == 1, "spleen": organs() == 2}
    for folder in ("gt", "seg"):
        (tmp_path / folder).mkdir()
    write_segmentation(tmp_path / "gt" / "CT_case.seg.nrrd", masks, grid)
    turned = {"Spleen": masks["spleen"], "Liver": masks["liver"]}
    write_segmentation(tmp_path / "seg" / "CT_case.seg.nrrd", turned, grid)
    report = evaluate_folder(tmp_path / "gt", tmp_path / "seg")
    assert {row["structure"]: row["dsc"] for row in report["cases"]} == {"Liver": 1.0, "Spleen": 1.0}


def test_a_result_elsewhere_or_missing_scores_zero_and_is_said(tmp_path: Path) -> None:
    import nibabel

    for case in ("a", "b", "c"):
        write_nifti(tmp_path / "gt" / f"{case}.nii.gz", organs())
    write_nifti(tmp_path / "seg" / "a.nii.gz", organs())
    write_nifti(tmp_path / "seg" / "b.nii.gz", organs())
    image = nibabel.load(tmp_path / "seg" / "b.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += 5000
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), tmp_path / "seg" / "b.nii.gz")
    report = evaluate_folder(tmp_path / "gt", tmp_path / "seg")
    assert {row["case"]: row["dsc"] for row in report["cases"]} == {"a": 1.0, "b": 0.0, "c": 0.0}
    assert report["mean"]["dsc"] == pytest.approx(1 / 3)
    assert report["failed"] == [] and report["missing"] == ["c"]
    assert "outside" in report["notes"]["b"] and "no result" in report["notes"]["c"]


def test_labels_without_names_in_another_order_are_said(tmp_path: Path) -> None:
    write_nifti(tmp_path / "gt" / "a.nii.gz", organs())
    write_nifti(tmp_path / "seg" / "a.nii.gz", np.array([0, 2, 1], np.uint8)[organs()])
    report = evaluate_folder(tmp_path / "gt", tmp_path / "seg")
    assert "order differs: 1 of the truth lies where 2" in report["notes"]["a"]
    named = evaluate_folder(tmp_path / "gt", tmp_path / "gt", names={1: "liver", 2: "spleen"})
    assert {row["structure"] for row in named["cases"]} == {"Liver", "Spleen"} and named["notes"] == {}


def test_units_count_in_the_evaluation_too(tmp_path: Path) -> None:
    import nibabel

    write_nifti(tmp_path / "gt" / "a.nii.gz", organs())
    write_nifti(tmp_path / "seg" / "a.nii.gz", organs(1))
    in_mm = evaluate_folder(tmp_path / "gt", tmp_path / "seg")
    for folder in ("gt", "seg"):
        image = nibabel.load(tmp_path / folder / "a.nii.gz")
        micron = nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([1000.0, 1000.0, 1000.0, 1.0]) @ image.affine)
        micron.header.set_xyzt_units("micron")
        nibabel.save(micron, tmp_path / folder / "a.nii.gz")
        assert evaluate_folder(tmp_path / "gt", tmp_path / "seg")["mean"]["nsd"] == pytest.approx(in_mm["mean"]["nsd"])


def test_dice_needs_no_monai(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from MedalSLib.evaluation import folder

    monkeypatch.setattr(folder, "can_score_surfaces", lambda: False)
    write_nifti(tmp_path / "gt" / "a.nii.gz", organs())
    report = evaluate_folder(tmp_path / "gt", tmp_path / "gt", out=tmp_path / "out")
    assert report["mean"]["dsc"] == 1.0 and report["mean"]["nsd"] is None
    assert "MONAI" in report["notes"]["surface Dice"]


@pytest.mark.parametrize(
    "options", [{"tolerance_mm": float("nan")}, {"tolerance_mm": -1.0}, {"iou": 0.0}, {"iou": 2.0}]
)
def test_thresholds_that_are_none_are_refused(tmp_path: Path, options: dict[str, float]) -> None:
    write_nifti(tmp_path / "a.nii.gz", organs())
    with pytest.raises(InputError, match="is none"):
        evaluate_folder(tmp_path / "a.nii.gz", tmp_path / "a.nii.gz", **options)
