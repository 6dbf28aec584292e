"""`resolve` reads what clinicians type, and says nothing rather than something wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary import MODALITIES, Resolution, normalize_modality, presets, resolve, structure, structures

PHRASES = Path(__file__).with_name("clinician_phrases.csv")


def classes(text: str, modality: str | None = "CT") -> list[str]:
    return [name for item in resolve(text, modality) for name in item.classes]


def clinician_phrases() -> list[tuple[str, str, frozenset[str]]]:
    with PHRASES.open(encoding="utf-8", newline="") as file:
        return [
            (r["phrase"], r["modality"], frozenset(n for n in r["classes"].split("|") if n))
            for r in csv.DictReader(file)
        ]


@pytest.mark.parametrize(("phrase", "modality", "expected"), clinician_phrases())
def test_clinician_phrases(phrase: str, modality: str, expected: frozenset[str]) -> None:
    found = classes(phrase, modality or None)
    assert set(found) == expected
    assert len(found) == len(expected)


def test_the_list_of_phrases_is_long_enough_to_mean_something() -> None:
    listed = clinician_phrases()
    assert len(listed) >= 150
    assert sum(not expected for _, _, expected in listed) >= 30


def test_published_sentences_name_their_class(reference: Path) -> None:
    folder = reference / "published"
    datasets, mapping, variants = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("CVPR25_TextSegFMData_with_class.json", "class_mapping.json", "variant_mapping.json")
    )
    by_variant = {variant.casefold(): name.casefold() for variant, name in variants.items()}
    right = total = 0
    for dataset, labels in datasets.items():
        modality = {"MR": "MRI", "autoPET": "PET"}.get(dataset.split("_")[0], dataset.split("_")[0])
        published = {name.casefold(): name for part in mapping[modality].values() for name in part}
        for label, sentences in labels.items():
            if label == "instance_label":
                continue
            first = sentences[0].casefold()
            if first.startswith("left renal structure"):  # the one label whose first entry is a sentence
                first = "left kidney"
            expected = published.get(first) or published[by_variant[first]]
            for sentence in sentences:
                right += classes(sentence, modality) == [expected]
                total += 1
    assert total == 3186
    assert right == total


@pytest.mark.parametrize("item", structures(), ids=lambda item: item.key)
def test_a_published_name_gives_itself_however_it_is_written(item) -> None:  # type: ignore[no-untyped-def]
    for text in (item.name, item.name.upper(), item.name.lower(), item.name.replace(" ", "_"), f"the {item.name}"):
        assert classes(text, item.modality) == [item.name]
        assert resolve(text, item.modality)[0].keys == (item.key,)


@pytest.mark.parametrize("item", structures(), ids=lambda item: item.key)
def test_every_synonym_in_the_table_works(item) -> None:  # type: ignore[no-untyped-def]
    for text in item.synonyms:
        assert item.concept in {structure(key).concept for r in resolve(text, item.modality) for key in r.keys}, text


@pytest.mark.parametrize("modality", MODALITIES)
def test_every_preset_gives_its_members(modality: str) -> None:
    for name, members in presets(modality).items():
        assert tuple(classes(name, modality)) == members
        assert tuple(classes(f"please segment the {name}", modality)) == members


def test_one_resolution_per_phrase_with_the_words_as_typed() -> None:
    first, second = resolve("Rt. Kidney, liver mets", "CT")
    assert first == Resolution("Rt. Kidney", ("Right kidney",), "CT", ("CT_Right kidney",), (), 1.0)
    assert (second.phrase, second.classes, second.modality) == ("liver mets", ("Liver tumors",), "CT")
    assert resolve("", "CT") == resolve(" \n,;- ", "CT") == []


def test_confidence_tells_certain_from_corrected_and_from_completed() -> None:
    def confidence(text: str) -> float:
        return resolve(text, "CT")[0].confidence

    assert confidence("left kidney") == confidence("kidneys") == confidence("IVC") == 1
    assert confidence("kidney stone") == 0
    assert 0 < confidence("splean") < confidence("kidney") < 1


@pytest.mark.parametrize(
    ("text", "suggested"),
    [
        ("kidney stone", "Left kidney"),
        ("not the liver", "Liver"),
        ("liverpool", "Liver"),
        ("left liver", "Liver"),
        ("renal artery left", "Left kidney"),
        ("left atrium", "Left atrium (MRI)"),
        ("everything except the liver", "Liver"),
    ],
)
def test_what_names_nothing_comes_with_suggestions(text: str, suggested: str) -> None:
    (found,) = resolve(text, "CT")
    assert found.classes == found.keys == ()
    assert suggested in found.suggestions


def test_a_suggestion_on_a_side_keeps_the_side() -> None:
    (found,) = resolve("left kidney stone", "CT")
    assert "Left kidney" in found.suggestions
    assert "Right kidney" not in found.suggestions


@pytest.mark.parametrize(
    ("text", "modality"),
    [
        ("liver", "CT"),
        ("liver in abdominal MRI", "MRI"),
        ("spleen on pelvic CT", "CT"),
        ("left atrium", "MRI"),
        ("jugular vein", "MRI"),
        ("soleus", "US"),
        ("mitochondria", "Microscopy"),
        ("lesion on PET/CT", "PET"),
        ("thyroid on US", "US"),
        ("show us the thyroid", "CT"),
    ],
)
def test_without_a_modality_the_words_or_the_structure_decide(text: str, modality: str) -> None:
    (found,) = resolve(text)
    assert found.classes
    assert found.modality == modality


def test_the_given_modality_wins_over_the_words() -> None:
    assert resolve("liver on MRI", "CT")[0].keys == ("CT_Liver",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ct", "CT"),
        ("MR", "MRI"),
        ("mri", "MRI"),
        ("Magnetic Resonance", "MRI"),
        ("ultrasound", "US"),
        ("US", "US"),
        ("PT", "PET"),
        ("PET/CT", "PET"),
        ("microscopy", "Microscopy"),
        ("CTA", "CT"),
    ],
)
def test_modalities_as_people_and_headers_write_them(text: str, name: str) -> None:
    assert normalize_modality(text) == name


def test_an_unknown_modality_is_explained() -> None:
    with pytest.raises(PromptError, match="CT, MRI, US, PET, Microscopy"):
        resolve("liver", "X-ray")


@pytest.mark.parametrize(("typed", "spelled"), [("Thyroid", "Thyroid"), ("Thyroid gland", "Thyroid gland")])
def test_of_two_published_spellings_the_typed_one_is_taken(typed: str, spelled: str) -> None:
    assert classes(f"{typed} in head and neck CT") == [spelled]


def test_a_synonym_takes_the_preferred_spelling() -> None:
    assert classes("IVC") == classes("caudal vena cava") == ["Inferior vena cava"]
    assert classes("glandula thyroidea") == ["Thyroid gland"]
    assert classes("postcava", "MRI") == ["Inferior vena cava"]


SIDED = [item for item in structures() if item.laterality]
PATTERNS = (
    "{side} {what}",
    "{what} {side}",
    "{what}, {side}",
    "please show the {side} {what} on this scan",
    "{what}_{side}",
)
LEFT = ("left", "lt", "L", "lt.", "left-sided", "LEFT")
RIGHT = ("right", "rt", "R", "rt.", "right sided", "RIGHT")


@given(st.sampled_from(SIDED), st.sampled_from(PATTERNS), st.integers(0, len(LEFT) - 1))
def test_sides_never_swap(item, pattern: str, how: int) -> None:  # type: ignore[no-untyped-def]
    side = (LEFT if item.laterality == "left" else RIGHT)[how]
    what = " ".join(w for w in item.name.split() if w.casefold() not in ("left", "right"))
    found = {
        structure(key).laterality
        for r in resolve(pattern.format(side=side, what=what), item.modality)
        for key in r.keys
    }
    assert found <= {item.laterality}
    if not side.endswith(".") or not pattern.endswith("{side}"):
        assert found


@given(st.sampled_from(SIDED), st.integers(0, 60), st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
def test_a_typo_in_the_name_never_changes_the_side(item, at: int, letter: str) -> None:  # type: ignore[no-untyped-def]
    what = " ".join(w for w in item.name.split() if w.casefold() not in ("left", "right"))
    at %= len(what)
    typed = f"{item.laterality} {what[:at]}{letter}{what[at + 1 :]}"
    sides = {structure(key).laterality for found in resolve(typed, item.modality) for key in found.keys}
    assert sides <= {item.laterality}


@given(st.text(max_size=60), st.sampled_from((None, *MODALITIES)))
def test_any_text_is_read_without_an_error(text: str, modality: str | None) -> None:
    for item in resolve(text, modality):
        assert item.phrase
        assert item.modality in MODALITIES
        assert len(item.classes) == len(item.keys)
        assert (item.confidence > 0) == bool(item.classes)


WORDS = st.sampled_from(
    "left,right,kidney,liver,and,not,L1,-,5,the,both,lobe,upper,vein,rt,artery,tumor,/,T2,of,in,MRI,(,),.,except,but,&,"  # noqa: SIM905
    "3,to,lungs,ct,;".split(",")
)


@given(st.lists(WORDS, max_size=12), st.sampled_from((None, *MODALITIES)))
def test_any_mixture_of_known_words_is_read_without_an_error(parts: list[str], modality: str | None) -> None:
    for item in resolve(" ".join(parts), modality):
        assert all(structure(key).name == name for key, name in zip(item.keys, item.classes, strict=True))
