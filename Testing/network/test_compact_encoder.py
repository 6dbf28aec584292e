"""The compact text encoder: what must stay apart stays apart, spellings of one name stay together, hashing is fixed."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from MedalSLib.errors import InputError, ModelError
from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
from MedalSLib.network.text_features import text_features
from MedalSLib.vocabulary import structures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def encoder() -> CompactTextEncoder:
    torch.manual_seed(0)
    return CompactTextEncoder(CompactEncoderConfig(query_dim=96)).eval()


def similarity(encoder: CompactTextEncoder, first: str, second: str, modality: str = "CT") -> float:
    with torch.inference_mode():
        one, two = encoder([first, second], modality)
    return float(functional.cosine_similarity(one, two, dim=0))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Left kidney", "Right kidney"),
        ("Vertebrae T11", "Vertebrae T12"),
        ("Vertebrae L1", "Vertebrae T1"),
        ("Left rib 3", "Left rib 4"),
    ],
)
def test_names_that_differ_in_side_or_level_are_apart_before_and_after_training_towards_each_other(
    encoder: CompactTextEncoder, first: str, second: str
) -> None:
    assert similarity(encoder, first, second) < 0.85
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    for _ in range(30):
        optimizer.zero_grad()
        one, two = encoder([first, second], "CT")
        (1 - functional.cosine_similarity(one, two, dim=0)).backward()
        optimizer.step()
    assert similarity(encoder, first, second) < 0.9


@pytest.mark.parametrize("spelling", ["left kidney", "LEFT KIDNEY", "left_kidney", "Left  kidney.", "Léft kidney"])
def test_case_accents_and_punctuation_do_not_matter(spelling: str) -> None:
    assert text_features(spelling, 2048) == text_features("Left kidney", 2048)


@pytest.mark.parametrize(
    ("text", "side", "region", "number"),
    [
        ("lt kidney", 1, 0, 0),
        ("kidney R", 2, 0, 0),
        ("both kidneys", 3, 0, 0),
        ("left and right lung", 3, 0, 0),
        ("Vertebrae T12", 0, 2, 12),
        ("Th12 vertebra", 0, 2, 12),
        ("fifth lumbar vertebra", 0, 3, 5),
        ("L5", 0, 3, 5),
        ("12th rib right", 2, 0, 12),
        ("Liver", 0, 0, 0),
    ],
)
def test_side_region_and_number_are_read_outright(text: str, side: int, region: int, number: int) -> None:
    features = text_features(text, 2048)
    assert (features.side, features.region, features.number) == (side, region, number)


def test_a_misspelling_is_nearer_than_another_organ(encoder: CompactTextEncoder) -> None:
    assert similarity(encoder, "pancreas", "pancrease") > similarity(encoder, "pancreas", "gallbladder")


def test_no_two_published_names_have_the_same_features() -> None:
    for modality in ("CT", "MRI", "US", "Microscopy"):
        read = {item.name: text_features(item.name, 2048) for item in structures(modality)}
        same = [pair for pair in combinations(read, 2) if read[pair[0]] == read[pair[1]]]
        assert not same


def test_the_modality_changes_the_query(encoder: CompactTextEncoder) -> None:
    with torch.inference_mode():
        ct, mri = encoder(["Liver", "Liver"], ["CT", "MRI"])
    assert not torch.allclose(ct, mri)


def test_gradients_reach_every_weight(encoder: CompactTextEncoder) -> None:
    encoder(["left kidney", "Vertebrae T12"], "CT").sum().backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_texts_without_a_word_and_no_texts_are_taken(encoder: CompactTextEncoder) -> None:
    assert torch.isfinite(encoder(["", "!?"], "CT")).all()
    assert encoder([], "CT").shape == (0, 96)


def test_modalities_must_match_the_texts(encoder: CompactTextEncoder) -> None:
    with pytest.raises(InputError):
        encoder(["liver"], ["CT", "CT"])


def test_hashing_is_the_same_in_every_process() -> None:
    program = "from MedalSLib.network.text_features import text_features; print(text_features('Left kidney', 2048))"
    runs = {
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert runs == {f"{text_features('Left kidney', 2048)}\n"}


def test_configuration_survives_its_dictionary() -> None:
    config = CompactEncoderConfig(query_dim=100, buckets=512)
    assert CompactEncoderConfig.from_dict(config.to_dict()) == config
    for change in ({"width": 0}, {"novelty": 1}, {"query_dim": 30}):
        with pytest.raises(ModelError):
            CompactEncoderConfig.from_dict(config.to_dict() | change)
