"""`medals batch`: many studies from a terminal, gone on with after failures and interruptions."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from MedalSLib.volume.segmentation_reading import read_segmentation

pytestmark = pytest.mark.slow

NAMES = "liver, lt kidney"


@pytest.fixture
def studies(ct: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "studies"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        shutil.copy(ct, folder / name / "ct.nii.gz")
    return folder


@pytest.fixture
def arguments(studies: Path, tmp_path: Path, tiny_model: Path) -> list[object]:
    choices = ["--text", NAMES, "--modality", "CT", "--model", tiny_model, "--device", "cpu"]
    return ["batch", studies, "-o", tmp_path / "out", *choices]


def test_every_study_gets_a_result_and_a_line_of_the_manifest(medals, arguments: list[object], tmp_path: Path) -> None:
    code, printed, said = medals(*arguments, "--json")
    out = tmp_path / "out"
    assert code == 0, said
    report = json.loads(printed)
    assert (report["done"], report["skipped"], report["failed"]) == (2, 0, [])
    assert report["manifest"] == str(out / "manifest.jsonl") and report["manifest"] in said
    assert "1/2 ct.nii.gz" in said and "2/2 ct.nii.gz" in said and " a minute, 0:" in said
    assert (out / "summary.csv").is_file() and str(out / "summary.html") in said
    assert sorted(path.name for path in out.glob("*.seg.nrrd")) == ["a__ct.seg.nrrd", "b__ct.seg.nrrd"]
    assert [segment.name for segment in read_segmentation(out / "a__ct.seg.nrrd").segments] == ["Liver", "Left kidney"]
    lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    assert [line["state"] for line in lines] == ["started", "done"] * 2
    assert all(line["structures"].keys() == {"Liver", "Left kidney"} for line in lines if line["state"] == "done")

    report = json.loads(medals(*arguments, "--json", "--quiet")[1])
    assert (report["done"], report["skipped"]) == (0, 2)


def test_a_bad_study_sets_the_exit_code_and_is_tried_again_unless_that_is_not_wanted(
    medals, arguments: list[object], studies: Path, ct: Path
) -> None:
    broken = studies / "a" / "ct.nii.gz"
    broken.write_bytes(b"no image")
    code, printed, said = medals(*arguments, "--json")
    report = json.loads(printed)
    assert code == 3 and report["done"] == 1 and [one["study"] for one in report["failed"]] == [str(broken)]
    assert report["failed"][0]["cause"] in said
    shutil.copy(ct, broken)
    code, _, said = medals(*arguments, "--skip-failed")
    assert code == 3 and "were left out" in said
    assert medals(*arguments)[0] == 0


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    medals, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedalSLib.cli.batch import _Display

    shown = _Display.outcome

    def press(self: _Display, *details) -> None:
        shown(self, *details)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(_Display, "outcome", press)
        code, _, said = medals(*arguments)
    assert code == 130 and "go on where it ended" in said
    report = json.loads(medals(*arguments, "--json")[1])
    assert (report["done"], report["skipped"]) == (1, 1)


def test_what_cannot_work_is_said_before_any_study(medals, arguments: list[object], tmp_path: Path) -> None:
    code, _, said = medals(*["liverpool" if value == NAMES else value for value in arguments])
    assert code == 4 and "liverpool" in said
    assert '"failed"' not in (tmp_path / "out" / "manifest.jsonl").read_text()
    assert medals(*[" " if value == NAMES else value for value in arguments])[0] == 4
    assert medals("batch", tmp_path / "nothing", "-o", tmp_path / "out", "--text", "liver")[0] == 3
    assert medals(*arguments, "--workers", "0")[0] == 3
    assert medals(*arguments, "--format", ".jpg")[0] == 2
    code, _, said = medals(*arguments[:-3], "no-such-model", "--device", "cpu")
    assert code == 5 and "no-such-model" in said


def test_help_teaches_how_a_batch_goes_on(medals) -> None:
    code, printed, _ = medals("batch", "--help")
    assert code == 0
    for word in (
        "manifest.jsonl",
        "what is missing is done",
        "--skip-failed",
        "--workers",
        "RAY_ADDRESS",
        "examples:",
    ):
        assert word in printed


def test_workers_on_ray_give_the_same_results(medals, arguments: list[object], tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="needs the scale-out extra")
    try:
        code, _, said = medals(*arguments, "--workers", "1")
    finally:
        ray.shutdown()
    assert code == 0, said
    here = [tmp_path / "here" if value == tmp_path / "out" else value for value in arguments]
    assert medals(*here)[0] == 0
    for name in ("a__ct.seg.nrrd", "b__ct.seg.nrrd"):
        far, near = (read_segmentation(tmp_path / folder / name) for folder in ("out", "here"))
        assert far.grid.shape_kji == near.grid.shape_kji
        for left, right in zip(far.segments, near.segments, strict=True):
            assert left.name == right.name and (left.mask == right.mask).all()
