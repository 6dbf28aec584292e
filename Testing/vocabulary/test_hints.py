"""Phrases that name no structure get a hint: everything at once, other languages, common abbreviations."""

from __future__ import annotations

import pytest

from MedalSLib.vocabulary import resolve

KNOWN = frozenset(("CT_Liver", "CT_Spleen", "MRI_Liver"))


@pytest.mark.parametrize("text", ["everything", "All structures", "whole body", "alles"])
def test_everything_is_what_the_model_knows(text: str) -> None:
    (found,) = resolve(text, "CT", KNOWN)
    assert set(found.classes) == {"Liver", "Spleen"} and set(found.keys) == {"CT_Liver", "CT_Spleen"}
    (asked,) = resolve(text, "CT")
    assert not asked.classes and "abdominal organs" in asked.suggestions and asked.hint


@pytest.mark.parametrize(
    ("text", "meant"),
    [("leber", "Liver"), ("Hígado", "Liver"), ("foie", "Liver"), ("肝臓", "Liver"), ("печень", "Liver"),
     ("rechte Niere", "Right kidney"), ("rein gauche", "Left kidney"), ("Milz", "Spleen")],
)  # fmt: skip
def test_other_languages_get_a_suggestion(text: str, meant: str) -> None:
    (found,) = resolve(text, "CT")
    assert found.suggestions == (meant,) and "English" in found.hint


def test_an_abbreviation_is_explained_and_suggests_nothing_that_only_looks_like_it() -> None:
    (found,) = resolve("SMA", "CT")
    assert found.suggestions == () and "superior mesenteric artery" in found.hint
