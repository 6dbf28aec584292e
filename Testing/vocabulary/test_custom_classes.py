"""Names that a fine-tuned model brings itself: described with general facts, and found in what is typed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary import describe, resolve, structure, suggest
from MedalSLib.vocabulary.custom_classes import custom_keys, split_custom_names

KNOWN = ("CT_Liver", "CT_Gallbladder wall", "CT_left odd lump", "MRI_odd thing")


def test_published_structures_keep_their_own_facts() -> None:
    assert describe("CT_Liver") is structure("CT_Liver")


def test_own_structures_have_a_side_a_window_and_a_lasting_colour() -> None:
    lump = describe("CT_left odd lump")
    assert (lump.name, lump.modality, lump.laterality, lump.window) == ("left odd lump", "CT", "left", "soft tissue")
    assert lump.terminology.type_modifier is not None
    assert describe("MRI_odd thing").window == "percentile"
    assert lump.color == describe("CT_left odd lump").color
    with pytest.raises(PromptError):
        describe("nothing")


def test_custom_keys_are_those_of_the_modality_that_no_table_has() -> None:
    assert custom_keys(KNOWN, "CT") == {"gallbladder wall": "CT_Gallbladder wall", "left odd lump": "CT_left odd lump"}
    assert custom_keys(KNOWN, "PET") == {}
    assert custom_keys(KNOWN, None)["odd thing"] == "MRI_odd thing"


@pytest.mark.parametrize(
    ("typed", "parts"),
    [
        ("liver, gallbladder  WALL; rt kidney", ["liver", "CT_Gallbladder wall", "rt kidney"]),
        ("left and right kidney, spleen", ["left and right kidney, spleen"]),
        ("left and right kidney, spleen\nleft odd lump", ["left and right kidney, spleen", "CT_left odd lump"]),
        ("liver and the gallbladder wall", ["liver", "CT_Gallbladder wall"]),
        ("left odd lump & gallbladder wall", ["CT_left odd lump", "CT_Gallbladder wall"]),
        ("wall and gallbladder", ["wall and gallbladder"]),
        ("gallbladder wall,, ,", ["CT_Gallbladder wall", ", ,"]),
        ("", []),
    ],
)
def test_own_names_are_found_between_others_in_the_order_typed(typed: str, parts: list[str]) -> None:
    assert [key or words for words, key in split_custom_names(typed, custom_keys(KNOWN, "CT"))] == parts


class TestResolve:
    def test_own_and_published_names_come_in_the_order_typed(self) -> None:
        found = resolve("rt kidney, Gallbladder wall, livr", "CT", KNOWN)
        assert [item.classes for item in found] == [("Right kidney",), ("Gallbladder wall",), ("Liver",)]
        own = found[1]
        assert (own.phrase, own.keys, own.modality, own.confidence) == (
            "Gallbladder wall",
            ("CT_Gallbladder wall",),
            "CT",
            1.0,
        )

    def test_without_the_model_they_are_not_known(self) -> None:
        assert not any(item.classes for item in resolve("gallbladder wall", "CT"))
        assert not any(item.classes for item in resolve("odd thing", "CT", KNOWN))

    def test_a_typo_in_an_own_name_suggests_it_first(self) -> None:
        (item,) = resolve("galbladder wal", "CT", KNOWN)
        assert item.classes == () and item.suggestions[0] == "Gallbladder wall"

    def test_words_that_share_with_their_neighbours_still_do(self) -> None:
        found = resolve("left and right kidney, gallbladder wall", "CT", KNOWN)
        assert {name for item in found for name in item.classes} == {"Left kidney", "Right kidney", "Gallbladder wall"}

    def test_without_a_modality_a_published_name_goes_first(self) -> None:
        known = (*KNOWN, "US_Liver")
        assert [item.keys for item in resolve("liver, odd thing", None, known)] == [("CT_Liver",), ("MRI_odd thing",)]
        assert [item.keys for item in resolve("liver", "US", known)] == [("US_Liver",)]

    @given(st.text(alphabet="galbdrw ,;&and\n", max_size=40))
    def test_names_of_a_model_never_break_the_reading_of_others(self, text: str) -> None:
        for item in resolve(text, "CT", KNOWN):
            assert item.phrase
            assert bool(item.classes) == (item.confidence > 0)


class TestSuggest:
    def test_own_names_are_completed_among_the_published_ones(self) -> None:
        assert [item.text for item in suggest("gallbl", "CT", known=KNOWN)[:2]] == ["Gallbladder", "Gallbladder wall"]
        (lump,) = [item for item in suggest("odd l", "CT", known=KNOWN) if item.score > 0.5]
        assert (lump.text, lump.keys, lump.kind) == ("left odd lump", ("CT_left odd lump",), "structure")

    def test_only_those_of_the_modality(self) -> None:
        assert "odd thing" not in [item.text for item in suggest("odd", "CT", known=KNOWN)]
        assert "odd thing" in [item.text for item in suggest("odd", None, known=KNOWN)]

    def test_a_typo_finds_them(self) -> None:
        assert suggest("galbladder wal", "CT", known=KNOWN)[0].text == "Gallbladder wall"

    def test_without_the_model_nothing_of_it_is_offered(self) -> None:
        suggest("gallbl", "CT", known=KNOWN)
        assert "Gallbladder wall" not in [item.text for item in suggest("gallbl", "CT")]


class TestNamesWithAConcept:
    """Structures that no published class is, but whose concept the tables have."""

    BRAIN = ("MRI_Left thalamus", "MRI_Right thalamus", "MRI_Cerebellum", "MRI_Brainstem", "CT_Larynx", "CT_Mandible")

    def test_they_have_codes_sides_and_colours_of_their_own(self) -> None:
        left, right = (describe(f"MRI_{side} thalamus") for side in ("Left", "Right"))
        assert left.terminology.type.value == right.terminology.type.value == "42695009"
        assert left.terminology.type_modifier.meaning == "Left" and right.terminology.type_modifier.meaning == "Right"
        assert left.color != right.color and left.window == "percentile"
        assert describe("CT_Mandible").terminology.type.meaning == "Mandible"

    @pytest.mark.parametrize(
        ("typed", "names"),
        [
            ("left thalamus", ["Left thalamus"]),
            ("thalamus, rt", ["Right thalamus"]),
            ("both thalami", ["Left thalamus", "Right thalamus"]),
            ("left and right thalamus", ["Left thalamus", "Right thalamus"]),
            ("the cerebellum and the brain stem", ["Cerebellum", "Brainstem"]),
        ],
    )
    def test_they_are_read_with_sides_and_synonyms_like_published_names(self, typed: str, names: list[str]) -> None:
        assert [name for item in resolve(typed, "MRI", self.BRAIN) for name in item.classes] == names
        assert not any(item.classes for item in resolve(typed, "MRI", KNOWN)), "only where the model has them"

    def test_a_models_own_name_goes_before_a_group_of_that_name(self) -> None:
        assert [item.classes for item in resolve("larynx, lower jaw", "CT", self.BRAIN)] == [("Larynx",), ("Mandible",)]
        (group,) = resolve("larynx", "CT")
        assert len(group.classes) > 1

    def test_both_sides_and_synonyms_are_completed(self) -> None:
        assert suggest("thal", "MRI", known=self.BRAIN)[0].classes == ("Left thalamus", "Right thalamus")
        assert suggest("jaw", "CT", known=self.BRAIN)[0].text == "Mandible"

    def test_a_name_that_a_published_one_has_is_no_other_reading_of_it(self) -> None:
        known = (*self.BRAIN, "CT_kidney")
        assert [item.classes for item in resolve("kidneys", "CT", known)] == [("Right kidney", "Left kidney")]
        assert [item.classes for item in resolve("kidney", "CT", known)] == [("kidney",)]
