"""Training with the published, frozen text encoder: from its files to a model that answers through it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from training_inputs import SPACING_DHW, body, challenge_folder, prepared_folder, toy_recipe
from transformers import MPNetConfig

from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError, ModelError
from MedalSLib.network.bundle import open_model
from MedalSLib.network.text_encoder import KnowledgeTextEncoder
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.train import TrainOptions, train

pytestmark = pytest.mark.slow

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "left", "right", "kidney", "in", "abdominal", "ct")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published encoder's files, with one small layer, ten words and random weights."""
    folder = tmp_path_factory.mktemp("published")
    language = folder / "BioLORD-2023-C"
    language.mkdir()
    config = MPNetConfig(vocab_size=len(WORDS), num_hidden_layers=1, intermediate_size=32)
    config.to_json_file(language / "config.json")
    words = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(language / "tokenizer.json"))
    torch.manual_seed(0)
    weights = KnowledgeTextEncoder(config, tokenizer).state_dict()
    content = {"step": 1, "model_state_dict": {f"module.{key}": value for key, value in weights.items()}}
    torch.save(content, folder / "text_encoder.pth")
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = toy_recipe(text={"encoder": "knowledge"}, schedule=[{"steps": 6, "peak": 5e-3, "warmup": 2}])
    settings["network"] = {**settings["network"], "query_dim": 768, "heads": 8}  # type: ignore[dict-item]  # a table
    path = tmp_path_factory.mktemp("recipe") / "knowledge.json"
    path.write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    root = tmp_path_factory.mktemp("cases")
    prepared_folder(challenge_folder(root / "npz"), root / "prepared", recipe)
    return root / "prepared"


@pytest.fixture(scope="module")
def run(prepared: Path, recipe: Path, published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps; `encoded.json` beside it counts how often each text went through the encoder."""
    root = tmp_path_factory.mktemp("run")
    texts: Counter[str] = Counter()
    forward = KnowledgeTextEncoder.forward

    def counting(self: KnowledgeTextEncoder, some: Sequence[str], modality: str | Sequence[str]) -> torch.Tensor:
        texts.update(some)
        return forward(self, some, modality)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KnowledgeTextEncoder, "forward", counting)
        train(TrainOptions(prepared, root / "run", recipe, device="cpu", text_encoder=published))
    (root / "encoded.json").write_text(json.dumps(texts))
    return root / "run"


def losses(run: Path) -> list[float]:
    return [float(entry["loss"]) for entry in RunFolder(run).entries() if "loss" in entry]


def test_each_text_is_encoded_once_though_it_is_drawn_often(run: Path) -> None:
    texts = json.loads((run.parent / "encoded.json").read_text())
    assert {"Left kidney", "Right kidney"} <= texts.keys()
    assert any("abdominal" in text for text in texts)
    assert set(texts.values()) == {1}
    assert len(losses(run)) == 6
    assert np.isfinite(losses(run)).all()


def test_the_result_brings_the_encoder_unchanged_and_answers_through_it(run: Path, published: Path) -> None:
    model = open_model(run / "model")
    assert model.manifest.text_encoder.kind == "knowledge"
    assert (run / "model" / "text_encoder.pth").read_bytes() == (published / "text_encoder.pth").read_bytes()
    expected = KnowledgeTextEncoder.from_folder(published)(["Left kidney", "Right kidney"], "CT")
    assert torch.equal(model.encode([("Left kidney", "CT"), ("Right kidney", "CT")]), expected)
    assert not torch.allclose(expected[0], expected[1])
    image = body(5)[0].astype(np.float32) - 100
    affine = np.diag([-SPACING_DHW[2], -SPACING_DHW[1], SPACING_DHW[0], 1.0])
    with open_engine(str(run / "model"), "cpu") as engine, engine.open_session(image, affine, "CT") as session:
        result = session.segment(["lt kidney"])
    assert result.masks["Left kidney"].shape == image.shape


def test_only_the_network_learns_and_a_resumed_run_has_the_same_losses(
    run: Path, prepared: Path, recipe: Path, published: Path, tmp_path: Path
) -> None:
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert all(key.startswith("network.") for key in state)
    again = tmp_path / "run"
    train(TrainOptions(prepared, again, recipe, device="cpu", text_encoder=published, steps=2))
    train(TrainOptions(prepared, again, recipe, device="cpu", text_encoder=published, resume=True))
    assert losses(again) == losses(run)


def test_what_is_missing_or_does_not_fit_is_said_before_training(
    prepared: Path, recipe: Path, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="--text-encoder"):
        train(TrainOptions(prepared, tmp_path / "run", recipe, device="cpu"))
    with pytest.raises(ModelError, match=r"config\.json"):
        train(TrainOptions(prepared, tmp_path / "run", recipe, device="cpu", text_encoder=tmp_path))
    settings = json.loads(recipe.read_text())
    settings["network"]["query_dim"] = 64
    (tmp_path / "narrow.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="768"):
        train(TrainOptions(prepared, tmp_path / "run", tmp_path / "narrow.json", device="cpu", text_encoder=published))
    assert not (tmp_path / "run").exists()
