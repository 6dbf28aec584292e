"""The fine-tuning tutorial from a terminal: what a person reads on the way, and the model it ends in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_inputs import plain_folder

from MedalSLib.volume.segmentation_reading import read_segmentation


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases as the tutorial has them, and an image whose labels have another name."""
    root = plain_folder(tmp_path_factory.mktemp("mine") / "my_cases", cases=4)
    (root / "names.json").write_text(json.dumps({"1": "bright lump", "2": "right kidney"}))
    (root / "labels" / "case3.nii.gz").rename(root / "labels" / "case03.nii.gz")
    return root


@pytest.mark.slow
def test_the_tutorial_ends_in_a_model_that_segments_and_tells_how_good_it_is(
    medals, cases: Path, tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my_model"
    arguments = ["fine-tune", cases, out, "--modality", "CT", "--model", tiny_model, "--device", "cpu"]
    arguments += ["--stages", "2", "--steps", "4", "--check-every", "2", "--batch-size", "1", "--workers", "1"]
    code, printed, said = medals(*arguments, "--json")
    assert code == 0, said
    report = json.loads(printed)
    lines = said.splitlines()
    assert lines[0].startswith("preparing stage 2 1/3")
    assert any(line.startswith("training stage 2 4/4: loss ") for line in lines)
    assert "rejected case3.nii.gz: no labels of the same name" in lines
    assert f"held out of 3 cases: {report['held_out_cases'][0]}" in lines
    stage = report["stages"]["2"]
    for key, name in (("CT_bright lump", "bright lump"), ("CT_Right kidney", "Right kidney")):
        before, after = stage["held_out_dice_before"][key], stage["held_out_dice"][key]
        assert f"  {name:<32}{before:>7.3f}{after:>7.3f}" in lines
    assert lines[-1] == f"use it with: --model {out / 'model'}"

    code, _, said = medals(*arguments)
    assert code == 6
    assert "--resume" in said

    result = tmp_path / "result.seg.nrrd"
    code, printed, said = medals(
        "segment", cases / "images" / "case3.nii.gz", "--model", out / "model", "--device", "cpu", "--modality", "CT",
        "--text", "bright lump, rt kidney", "-o", result, "--json",
    )  # fmt: skip
    assert code == 0, said
    assert set(json.loads(printed)["structures"]) == {"bright lump", "Right kidney"}
    assert [segment.name for segment in read_segmentation(result).segments] == ["bright lump", "Right kidney"]


def test_cases_become_a_data_set_of_nnunet(medals, cases: Path, tmp_path: Path) -> None:
    code, printed, said = medals("to-nnunet", cases, tmp_path / "raw", "--modality", "CT", "--number", "7", "--json")
    assert code == 0, said
    folder = tmp_path / "raw" / "Dataset007_my_cases"
    assert json.loads(printed)["folders"] == [str(folder)]
    assert f"wrote 3 cases in {folder}" in said and "rejected case3.nii.gz: no labels of the same name" in said
    labels = json.loads((folder / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0, "bright lump": 1, "Right kidney": 2}
    recipe = ("--recipe", "small_stage1", "--modality", "CT", "--workers", "1")
    code, _, said = medals("prepare", folder, tmp_path / "prepared", *recipe)
    assert code == 0, said
    assert medals("to-nnunet", tmp_path / "prepared", tmp_path / "again")[0] == 0
    assert (tmp_path / "again" / "Dataset501_my_cases" / "labelsTr" / "case0.nii.gz").is_file()
