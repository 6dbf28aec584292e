"""The smaller commands: names, resolve, predict, models, and what they exit with."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_models import write_tiny_model

from MedalSLib.errors import ModelError


def test_names_lists_completes_and_prints_json(medals) -> None:
    code, printed, _ = medals("names", "--modality", "CT", "--json")
    assert code == 0
    assert {"Liver", "Left kidney"} <= {entry["name"] for entry in json.loads(printed)}
    code, printed, _ = medals("names", "spl", "--modality", "CT", "--json")
    assert json.loads(printed)[0]["classes"] == ["Spleen"]
    assert "lung lobes" in medals("names", "--presets", "--modality", "CT")[1]


def test_resolve_explains_and_exits_with_what_was_understood(medals) -> None:
    code, printed, _ = medals("resolve", "rt kidney, liver mets", "--modality", "CT", "--json")
    assert code == 0
    assert [entry["classes"] for entry in json.loads(printed)] == [["Right kidney"], ["Liver tumors"]]
    assert medals("resolve", "liverpool", "--modality", "CT")[0] == 4
    assert medals("resolve", "", "--modality", "CT")[0] == 4


def test_names_that_a_model_brings_itself_are_listed_completed_and_resolved(medals, tmp_path: Path) -> None:
    write_tiny_model(tmp_path / "own", "own", classes=("CT_Liver", "MRI_Left thalamus", "MRI_Right thalamus"))
    model = ("--modality", "MRI", "--model", tmp_path / "own")
    code, printed, _ = medals("names", *model)
    assert code == 0 and "MRI        Left thalamus" in printed
    assert "both thalami" in medals("names", "thal", *model)[1]
    assert medals("resolve", "rt thalamus", *model)[0] == 0
    assert medals("resolve", "liver", "--model", "nothing")[0] == ModelError.exit_code


def test_help_teaches_every_command(medals) -> None:
    code, printed, _ = medals("--help")
    assert code == 0
    for command in ("segment", "names", "resolve", "predict", "evaluate", "models", "serve", "train", "fine-tune"):
        assert command in printed
        assert medals(command, "--help")[0] == 0


def test_wrong_usage_exits_with_two(medals) -> None:
    assert medals("segment")[0] == 2
    assert medals("dance")[0] == 2


def test_evaluate_needs_results_to_read_or_images_to_segment_and_not_both(medals, tmp_path: Path) -> None:
    for given in ([], ["--interactive"], ["--interactive", "--images", tmp_path, "--seg", tmp_path]):
        code, _, said = medals("evaluate", "--gt", tmp_path, *given)
        assert code == 2 and "--images DIR" in said


def test_models_are_listed_with_state_and_licence(medals) -> None:
    code, printed, _ = medals("models", "list", "--json")
    assert code == 0
    models = {entry["name"]: entry for entry in json.loads(printed)}
    assert models["medals-v1"]["state"] == "available"
    assert models["medals-v1"]["licence"]
    assert medals("models", "show", "no-such")[0] == 5


def test_nothing_is_installed_without_the_licence_being_accepted(
    medals, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    code, _, said = medals("models", "install", "tiny", "--from", tiny_model)
    assert code == 5
    assert "CC0-1.0" in said
    assert medals("models", "install", "tiny", "--from", tiny_model, "--accept-licence")[0] == 0
    assert medals("models", "verify", "tiny")[0] == 0
    assert medals("models", "remove", "tiny")[0] == 0
    assert medals("models", "verify", "tiny")[0] == 5


def challenge_case(path: Path, prompts: dict[object, object]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 28), dtype=np.uint8)
    np.savez_compressed(
        path, imgs=image, spacing=np.array([1.2, 1.0, 1.5]), text_prompts=np.array(prompts, dtype=object)
    )


def test_predict_answers_the_challenges_cases(medals, tiny_model: Path, tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    prompts = {"1": "Liver in abdominal CT", "4": "CT imaging of the left kidney", "instance_label": 0}
    challenge_case(inputs / "CT_case_1.npz", prompts)
    code, printed, said = medals("predict", inputs, outputs, "--model", tiny_model, "--json")
    assert code == 0, said
    labels = np.load(outputs / "CT_case_1.npz", allow_pickle=False)["segs"]
    assert labels.shape == (20, 30, 28)
    assert {0} < set(np.unique(labels)) <= {0, 1, 4}
    assert json.loads(printed)["cases"][0]["classes"] == {"1": "CT_Liver", "4": "CT_Left kidney"}
    assert medals("predict", inputs, outputs, "--model", tiny_model)[0] == 6
    assert medals("predict", inputs, outputs, "--model", tiny_model, "--resume")[0] == 0


def test_instances_of_the_challenge_are_numbered(medals, tiny_model: Path, tmp_path: Path) -> None:
    case = tmp_path / "CT_lesions.npz"
    challenge_case(case, {"1": "Liver tumors in abdominal CT", "instance_label": 1})
    code, printed, said = medals("predict", case, tmp_path / "out", "--model", tiny_model, "--json")
    assert code == 0, said
    labels = np.load(tmp_path / "out" / "CT_lesions.npz", allow_pickle=False)["segs"]
    assert json.loads(printed)["cases"][0]["instances"] == labels.max() > 1


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_bomb_does_not_go_off_and_the_other_cases_run(medals, tiny_model: Path, tmp_path: Path) -> None:
    inputs, trace = tmp_path / "in", tmp_path / "exploded"
    inputs.mkdir()
    challenge_case(inputs / "CT_good.npz", {"1": "Liver in CT", "instance_label": 0})
    challenge_case(inputs / "CT_bad.npz", {"1": "Liver in CT"})
    with zipfile.ZipFile(inputs / "CT_bad.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = np.lib.format.header_data_from_array_1_0(np.array({}, dtype=object))
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, header)
    members["text_prompts.npy"] = buffer.getvalue() + pickle.dumps(Bomb(trace))
    with zipfile.ZipFile(inputs / "CT_bad.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    code, _, said = medals("predict", inputs, tmp_path / "out", "--model", tiny_model)
    assert code == 3, said
    assert not trace.exists()
    assert (tmp_path / "out" / "CT_good.npz").exists()
    assert not (tmp_path / "out" / "CT_bad.npz").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a container's shell script")
@pytest.mark.slow
def test_the_container_s_entry_point_takes_a_model_and_leaves_no_case_without_a_result(
    tiny_model: Path, reference: Path, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    inputs, outputs = tmp_path / "inputs", tmp_path / "outputs"
    inputs.mkdir()
    shutil.copy(reference / "cases" / "CT_AMOS_amos_0018.npz", inputs)
    challenge_case(inputs / "CT_stones.npz", {"1": "Kidney stones in CT", "instance_label": 0})
    challenge_case(inputs / "CT_wrong.npz", {"one": "Liver in CT"})
    environment = os.environ | {
        "PYTHON": sys.executable, "PYTHONPATH": str(root), "MEDALS_MODEL": str(tiny_model), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = ["sh", root / "Resources" / "Container" / "predict.sh", inputs, outputs, "--json", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 3, done.stderr  # of the last case that failed
    results = {path.name: np.load(path, allow_pickle=False)["segs"] for path in sorted(outputs.glob("*.npz"))}
    assert sorted(results) == ["CT_AMOS_amos_0018.npz", "CT_stones.npz", "CT_wrong.npz"]
    assert {6} <= set(np.unique(results["CT_AMOS_amos_0018.npz"])) <= {0, 1, 2, 3, 6}  # what the tiny model knows
    for name in ("CT_stones.npz", "CT_wrong.npz"):
        assert results[name].shape == (20, 30, 28) and not results[name].any()
    assert "not known to the model" in done.stderr and "empty result" in done.stderr
    assert [case.get("empty") for case in json.loads(done.stdout)["cases"]] == [None, True, True]


def test_names_and_resolve_touch_no_heavy_package() -> None:
    program = (
        "import sys\n"
        "from MedalSLib.cli import main\n"
        "main(['names', 'kid', '--modality', 'CT']); main(['resolve', 'liver', '--modality', 'CT'])\n"
        "heavy = {'torch', 'scipy', 'SimpleITK', 'nibabel', 'matplotlib', 'transformers', 'fastapi', 'pydicom'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_runs_as_a_program() -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "MedalSLib.cli", "resolve", "left lung", "--modality", "CT"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Left lung" in done.stdout


def test_a_model_is_exported_for_monai_and_what_is_wrong_is_said(medals, tiny_model: Path, tmp_path: Path) -> None:
    code, printed, said = medals(
        "models",
        "export",
        tiny_model,
        tmp_path / "out",
        "--format",
        "monai",
        "--text",
        "liver",
        "--stage",
        "2",
        "--json",
    )
    assert code == 0, said
    assert str(tmp_path / "out" / "models" / "model.ts") in json.loads(printed)["files"]
    assert "configs/inference.json" in said
    assert medals("models", "export", tiny_model, tmp_path / "b", "--format", "monai", "--text", "brain")[0] == 4
    assert medals("models", "export", tiny_model, tmp_path / "c", "--text", "liver")[0] == 3
    assert not (tmp_path / "b").exists() and not (tmp_path / "c").exists()


def test_evaluate_takes_an_orientation_for_npz_alone(medals, ct: Path) -> None:
    code, _, said = medals("evaluate", "--gt", ct, "--seg", ct, "--orientation", "LAS")
    assert code == 3 and "say their own orientation" in said
