"""`suggest` completes names, synonyms and presets, ranked, and what it suggests can be typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.vocabulary import MODALITIES, resolve, structure, suggest
from MedalSLib.vocabulary.suggesting import _candidates

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("liv", "Liver"),
        ("Sple", "Spleen"),
        ("ivc", "Inferior vena cava"),
        ("left kid", "Left kidney"),
        ("kid l", "Left kidney"),
        ("kidney lef", "Left kidney"),
        ("splean", "Spleen"),
        ("pncreas", "Pancreas"),
        ("oesoph", "Esophagus"),
        ("lung lob", "lung lobes"),
        ("abdominal", "abdominal organs"),
        ("liver, sple", "Spleen"),
        ("both kidn", "both kidneys"),
        ("TH12", "Vertebrae T12"),
    ],
)
def test_the_first_suggestion(typed: str, first: str) -> None:
    assert suggest(typed, "CT")[0].text == first


def test_suggestions_say_what_they_mean_and_what_matched() -> None:
    (best, *_) = suggest("windpi", "CT")
    assert (best.text, best.classes, best.keys, best.matched) == ("Trachea", ("Trachea",), ("CT_Trachea",), "windpipe")
    (preset, *_) = suggest("lumbar verte", "CT")
    assert preset.kind == "preset"
    assert len(preset.classes) == 5


def test_the_best_come_first() -> None:
    texts = [item.text for item in suggest("kidney", "CT")]
    assert texts.index("Left kidney") < texts.index("Left kidney cyst")
    assert [item.score for item in suggest("kidney", "CT")] == sorted(
        (i.score for i in suggest("kidney", "CT")), reverse=True
    )


@pytest.mark.parametrize("typed", ["k", "ki", "kid", "kidney", "liv", "lung", "pan", "adr", "colo"])
def test_organs_come_before_their_lesions(typed: str) -> None:
    lesions = [
        structure(key).terminology.category.value == "49755003"
        for item in suggest(typed, "CT")
        for key in item.keys[:1]
    ]
    assert lesions == sorted(lesions)
    assert not lesions[0]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("kidney les", "Kidney lesions"),
        ("liver tum", "Liver tumors"),
        ("cyst", "Left kidney cyst"),
        ("lesion", "Lesion"),
    ],
)
def test_lesions_are_found_by_their_own_words(typed: str, first: str) -> None:
    assert suggest(typed, "CT")[0].text == first


def test_the_whole_name_of_a_lesion_is_a_full_match() -> None:
    assert suggest("Kidney lesions", "CT")[0].score == suggest("Spleen", "CT")[0].score == 1


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ("kidney", "both kidneys"),
        ("kidneys", "both kidneys"),
        ("both kidney", "both kidneys"),
        ("iliac arteries", "both iliac arteries"),
        ("lobe of lung", "both upper lobes of lung"),
        ("humeri", "both humeri"),
        ("both gluteus max", "both gluteus maximus"),
    ],
)
def test_both_sides_are_offered_in_the_plural(typed: str, text: str) -> None:
    assert text in [item.text for item in suggest(typed, "CT")]


def test_the_limit_and_the_modality_are_kept() -> None:
    assert len(suggest("l", "CT", limit=3)) == 3
    assert suggest("l", "CT", limit=0) == []
    assert {item.modality for item in suggest("l", "MR", limit=50)} == {"MRI"}
    assert len(suggest("", "CT", limit=5)) == 5
    assert suggest("xyzzyq", "CT") == []


def test_without_a_modality_each_name_comes_once() -> None:
    texts = [item.text.casefold() for item in suggest("l", None, limit=200)]
    assert len(texts) == len(set(texts))
    assert "soleus" in [item.text.casefold() for item in suggest("sole")]


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_is_suggested_resolves_to_what_it_says(modality: str) -> None:
    for candidate in _candidates(modality):
        wanted = candidate.suggestion
        found = [name for item in resolve(wanted.text, modality) for name in item.classes]
        assert sorted(found) == sorted(wanted.classes), wanted.text


@given(st.text(max_size=30), st.sampled_from((None, *MODALITIES)))
def test_any_prefix_is_completed_without_an_error(prefix: str, modality: str | None) -> None:
    for item in suggest(prefix, modality):
        assert 0 < item.score <= 1
        assert item.classes


def test_importing_loads_no_third_party_package() -> None:
    program = (
        "import sys; import MedalSLib.vocabulary as v; v.resolve('left kidney', 'CT');"
        "print([n for n in ('numpy', 'rapidfuzz', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
