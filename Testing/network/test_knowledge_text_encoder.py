"""The published text encoder gives the published figures."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import parameter

from MedalSLib.errors import InputError, ModelError, PromptError
from MedalSLib.network.text_encoder import KnowledgeTextEncoder

pytestmark = pytest.mark.slow


def published_shapes(golden: Path) -> dict[str, list[int]]:
    return json.loads((golden / "text_state_dict_shapes.json").read_text())


@pytest.fixture(scope="module")
def folder(golden: Path, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    language = folder / "BioLORD-2023-C"
    language.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(reference / "published" / f"mpnet_{name}", language / name)
    weights = {
        f"module.{key}": torch.from_numpy(parameter(key, shape)) for key, shape in published_shapes(golden).items()
    }
    weights |= {
        "module.temperature": torch.zeros(1),
        "module.atlas_tower.0.weight": torch.zeros(2),
        "module.text_tower.biolord.embeddings.position_ids": torch.arange(514)[None],
    }
    torch.save({"step": np.int64(1), "model_state_dict": weights}, folder / "text_encoder.pth")
    return folder


@pytest.fixture(scope="module")
def encoder(folder: Path) -> KnowledgeTextEncoder:
    return KnowledgeTextEncoder.from_folder(folder)


@pytest.fixture(scope="module")
def texts(golden: Path) -> list[str]:
    return json.loads((golden / "text.json").read_text())


def test_names_and_shapes_are_the_published_ones(encoder: KnowledgeTextEncoder, golden: Path) -> None:
    assert {key: list(value.shape) for key, value in encoder.state_dict().items()} == published_shapes(golden)


def test_tokens_are_the_published_ones(encoder: KnowledgeTextEncoder, golden: Path, texts: list[str]) -> None:
    with np.load(golden / "text.npz") as figures:
        assert np.array_equal(encoder.tokens(texts).numpy(), figures["open/ids"])


@pytest.mark.parametrize("modality", ["ct", "mri"])
def test_figures_are_the_published_ones(
    encoder: KnowledgeTextEncoder, golden: Path, texts: list[str], modality: str
) -> None:
    with np.load(golden / "text.npz") as figures:
        assert np.abs(encoder(texts, modality).numpy() - figures[f"open/{modality}"]).max() <= 1e-4


def test_a_text_is_encoded_alike_alone_and_among_others(encoder: KnowledgeTextEncoder, texts: list[str]) -> None:
    together = encoder(texts[:3], ["CT", "MR", "PET"])
    alone = torch.cat([encoder([text], name) for text, name in zip(texts, ("ct", "MRI", "pet"), strict=False)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_long_texts_are_cut_to_256_tokens_that_end_as_others_do(encoder: KnowledgeTextEncoder) -> None:
    ids = encoder.tokens(["liver " * 300, "liver"])
    assert ids.shape == (2, 256)
    assert ids[0, 0] == 105
    assert ids[0, -1] == 106
    assert (ids[0, 1:-1] == ids[1, 1]).all()


def test_no_texts_give_no_queries(encoder: KnowledgeTextEncoder) -> None:
    assert encoder([], "CT").shape == (0, 768)


def test_unknown_and_missing_modalities_are_named(encoder: KnowledgeTextEncoder) -> None:
    with pytest.raises(PromptError, match="telepathy"):
        encoder(["liver"], "telepathy")
    with pytest.raises(InputError, match="2 texts but 1"):
        encoder(["liver", "spleen"], ["CT"])


@pytest.mark.parametrize("missing", ["text_encoder.pth", "BioLORD-2023-C/config.json", "BioLORD-2023-C/tokenizer.json"])
def test_missing_files_are_named(folder: Path, tmp_path: Path, missing: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=os.link)
    (copy / missing).unlink()
    with pytest.raises(ModelError, match=Path(missing).name):
        KnowledgeTextEncoder.from_folder(copy)


def test_a_network_in_place_of_the_text_encoder_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "BioLORD-2023-C", tmp_path / "BioLORD-2023-C")
    weights = {"module.backbone.weight": torch.zeros(1)}
    torch.save({"step": 1, "model_state_dict": weights}, tmp_path / "text_encoder.pth")
    with pytest.raises(ModelError, match="does not fit"):
        KnowledgeTextEncoder.from_folder(tmp_path)
