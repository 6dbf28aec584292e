"""Model folders: what a manifest must say, and opening ours and the published one by name or path."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import CLASSES, write_published_lookalike, write_tiny_model

from MedalSLib.errors import ModelError, PromptError
from MedalSLib.network.bundle import open_model
from MedalSLib.network.manifest import MANIFEST_NAME, Manifest, StageManifest, read_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def changed(folder: Path, **changes: object) -> None:
    path = folder / MANIFEST_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_opens_and_answers(folder: Path) -> None:
    model = open_model(folder)
    assert model.manifest.classes == CLASSES
    assert model.knows("CT_Liver")
    assert not model.knows("CT_Spleen")
    network = model.network("1")
    assert model.network("1") is network
    assert model.network("2") is not network
    queries = model.encode([("Liver", "CT"), ("Left kidney", "CT"), ("Liver", "MR")])
    assert queries.shape == (3, 16)
    image = torch.rand(1, 1, 32, 32, 64) * 255
    with torch.inference_mode():
        logits = network(queries[None], image, torch.zeros_like(image), None)
    assert logits[0].shape == (1, 3, 32, 32, 64)


def test_each_text_is_encoded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from MedalSLib.network.compact_encoder import CompactTextEncoder

    seen: list[str] = []
    plain = CompactTextEncoder.forward

    def counted(self: CompactTextEncoder, texts: list[str], modality: list[str]) -> torch.Tensor:
        seen.extend(f"{name} {text}" for text, name in zip(texts, modality, strict=True))
        return plain(self, texts, modality)

    monkeypatch.setattr(CompactTextEncoder, "forward", counted)
    model = open_model(folder)
    first = model.encode([("Liver", "CT"), ("Liver", "ct"), ("Liver", "MRI")])
    again = model.encode([("Liver", "MRI"), ("Liver", "CT"), ("Spleen", "CT")])
    assert seen == ["CT Liver", "MRI Liver", "CT Spleen"]
    assert torch.equal(first[[2, 0]], again[:2])
    assert model.encode([]).shape == (0, 16)
    with pytest.raises(PromptError):
        model.encode([("Liver", "telepathy")])


def test_stages_that_share_a_file_share_the_network(folder: Path) -> None:
    stages = json.loads((folder / MANIFEST_NAME).read_text())["stages"]
    changed(folder, stages=[stages[0], stages[1] | {key: stages[0][key] for key in ("weights", "sha256", "config")}])
    model = open_model(folder)
    assert model.network("1") is model.network("2")


def test_a_closed_model_loads_again(folder: Path) -> None:
    model = open_model(folder)
    before = model.encode([("Liver", "CT")])
    network = model.network("1")
    model.close()
    assert model.network("1") is not network
    assert torch.allclose(model.encode([("Liver", "CT")]), before)


def test_one_stage_is_a_model_and_the_other_is_named_when_asked_for(folder: Path) -> None:
    changed(folder, stages=json.loads((folder / MANIFEST_NAME).read_text())["stages"][:1])
    with pytest.raises(ModelError, match="no stage 2"):
        open_model(folder).network("2")


def test_a_wrong_checksum_is_an_error_with_a_remedy(folder: Path) -> None:
    with (folder / "stage2.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="wrong checksum of stage2") as caught:
        open_model(folder)
    assert "install it again" in caught.value.remedy


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "text.safetensors").unlink()
    with pytest.raises(ModelError, match=r"text\.safetensors missing"):
        open_model(folder)


def test_weights_of_another_architecture_than_the_manifest_says_are_refused(folder: Path) -> None:
    stages = json.loads((folder / MANIFEST_NAME).read_text())["stages"]
    stages[0]["config"]["layers"] = 2
    changed(folder, stages=stages)
    with pytest.raises(ModelError, match="another architecture"):
        open_model(folder).network("1")


def test_folders_without_a_model_and_unknown_names_are_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDALS_HOME", str(tmp_path / "home"))
    with pytest.raises(ModelError, match="holds no model"):
        open_model(tmp_path)
    with pytest.raises(ModelError, match='no model "nonsense"'):
        open_model("nonsense")
    with pytest.raises(ModelError, match="not installed") as caught:
        open_model("medals-v1")
    assert "medals models install medals-v1" in caught.value.remedy


def test_the_published_folder_opens_by_its_file_names(tmp_path: Path, golden: Path) -> None:
    folder = tmp_path / "downloaded"
    write_published_lookalike(folder, golden / "network_state_dict_shapes.json")
    model = open_model(folder)
    assert [(stage.stage, stage.spacing_hwd, stage.patch_hwd) for stage in model.manifest.stages] == [
        ("1", (1.5, 1.5, 3.0), (224, 224, 128)),
        ("2", (1.0, 1.0, 1.0), (192, 192, 192)),
    ]
    assert len(model.manifest.classes) == len(set(model.manifest.classes)) > 230
    assert model.knows("CT_Liver")
    assert model.network("1").config.image_size == (224, 224, 128)
    with pytest.raises(ModelError, match="BioLORD-2023-C"):
        model.encode([("Liver", "CT")])


def test_two_networks_of_one_stage_are_named(tmp_path: Path, golden: Path) -> None:
    write_published_lookalike(tmp_path / "x", golden / "network_state_dict_shapes.json")
    (tmp_path / "x" / "older_192_192_192.pth").write_bytes(b"")
    with pytest.raises(ModelError, match="2 networks of stage 2"):
        open_model(tmp_path / "x")


def test_a_manifest_survives_its_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert Manifest.from_dict(json.loads(json.dumps(manifest.to_dict()))) == manifest


def test_a_stage_says_what_differs_in_a_modality() -> None:
    by_modality = {"Microscopy": {"spacing_hwd": [2.0, 2.0, 2.0], "resampling": "relative"}}
    stage = StageManifest("1", (4.0, 4.0, 4.0), (32, 32, 32), "a", resampling="plain", by_modality=by_modality)
    assert stage.used_for("CT") == replace(stage, by_modality={})
    small = stage.used_for("Microscopy")
    assert (small.spacing_hwd, small.patch_hwd, small.resampling) == ((2.0, 2.0, 2.0), (32, 32, 32), "relative")


STAGE = {"stage": "1", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "a"}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "medals-model/9"},
        {"name": "../evil"},
        {"name": 3},
        {"orientation": "RAS"},
        {"classes": ["Liver"]},
        {"classes": None},
        {"stages": []},
        {"stages": [{"stage": "3", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "a"}]},
        {"stages": [{"stage": "1", "spacing_hwd": [1, 0, 1], "patch_hwd": [32, 32, 32], "weights": "a"}]},
        {"stages": [{"stage": "1", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "../a"}]},
        {"stages": [{"stage": "1", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "/etc/a"}]},
        {"stages": [{"stage": "1", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "C:\\a"}]},
        {"stages": [{"stage": "1"}]},
        {"stages": [{"stage": "1", "spacing_hwd": [1, 1, 1], "patch_hwd": [32, 32, 32], "weights": "a", "config": 3}]},
        {"stages": [STAGE | {"by_modality": {"MRI": {"weights": "b"}}}]},
        {"stages": [STAGE | {"by_modality": {"MRI": {"spacing_hwd": [3, 3]}}}]},
        {"stages": [STAGE | {"by_modality": {"MRI": {"resampling": "somehow"}}}]},
        {"windows": "soft tissue"},
        {"stages": 7},
        {"text_encoder": {"kind": "magic", "files": ["a"]}},
        {"text_encoder": {"kind": "compact", "files": []}},
        {"text_encoder": {"kind": "compact", "files": ["a"], "sha256": {"a": "short"}}},
        {"text_encoder": "compact"},
        {"novelty": 1},
    ],
    ids=str,
)
def test_manifests_that_cannot_be_are_refused(folder: Path, change: dict[str, object]) -> None:
    changed(folder, **change)
    with pytest.raises(ModelError):
        read_manifest(folder)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\ufffe"])
def test_manifests_that_are_no_json_objects_are_refused(folder: Path, content: str) -> None:
    (folder / MANIFEST_NAME).write_text(content)
    with pytest.raises(ModelError, match="manifest"):
        open_model(folder)
