"""Names that a fine-tuned model brings itself: described with general facts, and found in what is typed."""

from __future__ import annotations

import pytest

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary import describe, own_keys, split_own, structure

KNOWN = ("CT_Liver", "CT_Gallbladder wall", "CT_left odd lump", "MRI_odd thing")


def test_published_structures_keep_their_own_facts() -> None:
    assert describe("CT_Liver") is structure("CT_Liver")


def test_own_structures_have_a_side_a_window_and_a_lasting_colour() -> None:
    lump = describe("CT_left odd lump")
    assert (lump.name, lump.modality, lump.laterality, lump.window) == ("left odd lump", "CT", "left", "soft tissue")
    assert lump.type_modifier is not None
    assert describe("MRI_odd thing").window == "percentile"
    assert lump.color == describe("CT_left odd lump").color
    with pytest.raises(PromptError):
        describe("nothing")


def test_own_names_are_found_between_others_whatever_their_capitals() -> None:
    own = own_keys(KNOWN, "CT")
    assert set(own.values()) == {"CT_Gallbladder wall", "CT_left odd lump"}
    found, rest = split_own("liver, gallbladder  WALL; left odd lump, rt kidney", own)
    assert [key for _, key in found] == ["CT_Gallbladder wall", "CT_left odd lump"]
    assert rest == "liver, rt kidney"
    assert split_own("left and right kidney, spleen", own) == ([], "left and right kidney, spleen")
    assert own_keys(KNOWN, "PET") == {}
