"""What the prompt field understands, offers and changes."""

from __future__ import annotations

import pytest
from panel_doubles import CLASSES, MemoryStore, state

from MedalSLib.panel.chips import ModelClasses, readPrompt, suggestionParts
from MedalSLib.panel.completion import complete, insert
from MedalSLib.panel.flow import lines
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.prompt import EVERYTHING, PromptPresenter

KNOWS = ModelClasses("Starter", frozenset(CLASSES))
CUSTOM = ModelClasses("Ours", frozenset({"CT_Liver", "CT_Gallbladder wall", "MRI_odd thing"}))


@pytest.fixture
def presenter():
    made = PromptPresenter(state(), Settings(MemoryStore()))
    made.detect("CT")
    return made


class TestChips:
    def test_a_name_a_synonym_and_a_typo_say_what_they_were_understood_as(self):
        liver, kidney, typo = readPrompt("liver, rt kidney, splen", "CT")
        assert (liver.state, liver.text) == ("understood", "Liver")
        assert kidney.text == "rt kidney → Right kidney"
        assert (typo.state, typo.classes) == ("guessed", ("Spleen",))
        assert "Check" in typo.explanation

    @pytest.mark.parametrize(
        ("text", "meant"),
        [("Leber", "Liver"), ("left atrium", "Left atrium (MRI)")],
    )
    def test_what_may_have_been_meant_is_asked(self, text, meant):
        (chip,) = readPrompt(text, "CT")
        assert chip.text == f"{text}: {meant}?" and "Did you mean" in chip.explanation

    @pytest.mark.parametrize(
        "text", ["kidney stone", "not the liver", "no spleen", "LL", "liver cyst", "renal calculus"]
    )
    def test_another_thing_than_typed_is_not_asked_about(self, text):
        """An organ near a stone, or one that was excluded, is offered by name in the menu at most."""
        (chip,) = readPrompt(text, "CT")
        assert chip.state == "unknown" and not chip.runs
        assert chip.text == f"{text}: not understood" and "Did you mean" not in chip.explanation

    def test_what_is_near_is_kept_for_the_menu(self):
        (chip,) = readPrompt("kidney stone", "CT")
        assert chip.suggestions == ("Right kidney", "Left kidney") and "Near it are" in chip.explanation

    def test_what_names_nothing_at_all_says_so(self):
        (chip,) = readPrompt("xqzwv", "CT")
        assert chip.text == "xqzwv: not understood" and not chip.suggestions

    def test_a_name_that_the_model_does_not_know_is_said_before_the_run(self):
        (chip,) = readPrompt("pancreas", "CT", KNOWS)
        assert chip.state == "unsupported" and chip.lost == ("Pancreas",)
        assert "Starter does not know Pancreas" in chip.explanation

    def test_a_group_of_which_the_model_knows_a_part_runs_with_that_part(self):
        (chip,) = readPrompt("abdominal organs", "CT", KNOWS)
        assert set(chip.classes) == {"Liver", "Spleen", "Right kidney", "Left kidney"}
        assert "Pancreas" in chip.lost and "not in this model" in chip.text

    def test_the_model_is_asked_about_the_modality_at_hand(self):
        (chip,) = readPrompt("spleen", "MRI", KNOWS)
        assert chip.state == "unsupported"

    def test_a_model_of_which_nothing_is_known_refuses_nothing(self):
        (chip,) = readPrompt("pancreas", "CT", ModelClasses("A server"))
        assert chip.runs

    def test_long_groups_are_summed_up(self):
        (chip,) = readPrompt("vertebrae", "CT")
        assert chip.text.endswith("and 24 more")

    def test_a_suggestion_of_another_modality_is_taken_apart(self):
        assert suggestionParts("Myocardium (MRI)") == ("Myocardium", "MRI")
        assert suggestionParts("Prostate/uterus") == ("Prostate/uterus", "")


class TestNamesOfTheModel:
    """A fine-tuned model may know structures that no table has."""

    def test_they_are_understood(self):
        liver, wall = readPrompt("liver, the gallbladder WALL", "CT", CUSTOM)
        assert (wall.state, wall.classes, wall.phrase) == ("understood", ("Gallbladder wall",), "the gallbladder WALL")
        assert liver.classes == ("Liver",)

    def test_they_are_not_with_another_model_or_modality(self):
        assert not readPrompt("gallbladder wall", "CT", KNOWS)[0].runs
        assert not readPrompt("gallbladder wall", "MRI", CUSTOM)[0].runs

    def test_a_typo_offers_them(self):
        (chip,) = readPrompt("galbladder wal", "CT", CUSTOM)
        assert chip.text == "galbladder wal: Gallbladder wall?"

    def test_they_are_completed_before_what_the_model_does_not_know(self):
        found = complete("gallb", 5, "CT", CUSTOM)
        assert [item.text for item in found[:2]] == ["Gallbladder wall", "Gallbladder"]
        assert found[0].label == "Gallbladder wall"
        assert found[1].label == "Gallbladder (not in this model)"

    def test_they_stay_when_a_neighbour_is_removed_or_replaced(self, presenter):
        presenter.useModel(CUSTOM)
        presenter.text = "liver, gallbladder wall, kidney stone"
        assert presenter.structures == ("Liver", "Gallbladder wall")
        presenter.accept(2, "Left kidney")
        presenter.remove(0)
        assert presenter.text == "gallbladder wall, Left kidney"
        presenter.text = "liver and gallbladder wall"
        presenter.remove(0)
        assert presenter.text == "gallbladder wall"


class TestCompletion:
    def test_the_name_at_the_cursor_is_completed_not_the_last_one(self):
        texts = [item.text for item in complete("liv, spleen", 3, "CT")]
        assert texts[0] == "Liver"

    def test_synonyms_are_found_and_shown(self):
        labels = {item.text: item.label for item in complete("rk", 2, "CT")}
        assert labels["Right kidney"] == "Right kidney — RK"

    def test_names_that_the_model_knows_come_first_and_others_are_marked(self):
        found = complete("ki", 2, "CT", KNOWS)
        assert [item.text for item in found[:2]] == ["Left kidney", "Right kidney"]
        others = [item for item in found if item.text == "Kidney lesions"]
        assert others and others[0].label.endswith("(not in this model)")

    def test_organs_come_before_their_lesions_and_both_sides_in_the_plural(self):
        texts = [item.text for item in complete("kid", 3, "CT")]
        assert texts[:3] == ["Left kidney", "Right kidney", "both kidneys"]
        assert "Kidney lesions" in texts

    def test_an_empty_name_offers_nothing(self):
        assert complete("liver, ", 7, "CT") == ()

    @pytest.mark.parametrize(
        ("text", "cursor", "expected"),
        [
            ("sp", 2, ("Spleen, ", 8)),
            ("liver, sp", 9, ("liver, Spleen, ", 15)),
            ("liver\nsp", 8, ("liver\nSpleen, ", 14)),
            ("sp, liver", 2, ("Spleen, liver", 6)),
            ("splx, liver", 2, ("Spleen, liver", 6)),
        ],
    )
    def test_a_completion_replaces_the_whole_name_at_the_cursor(self, text, cursor, expected):
        assert insert(text, cursor, "Spleen") == expected


class TestPresenter:
    def test_each_structure_is_segmented_once(self, presenter):
        presenter.text = "liver, liver, kidneys, right kidney"
        assert presenter.structures == ("Liver", "Right kidney", "Left kidney")

    def test_removing_a_name_leaves_the_others_with_their_meaning(self, presenter):
        presenter.text = "liver; left and right kidney, spleen"
        before = presenter.structures
        presenter.remove(0)
        assert set(presenter.structures) == set(before) - {"Liver"}

    def test_accepting_a_suggestion_replaces_the_name(self, presenter):
        presenter.text = "liver, kidney stone"
        presenter.accept(1, "Left kidney")
        assert presenter.text == "liver, Left kidney"

    def test_accepting_a_suggestion_of_another_modality_chooses_it(self, presenter):
        presenter.text = "whatever"
        presenter.accept(0, "Myocardium (MRI)")
        assert (presenter.text, presenter.modality) == ("Myocardium", "MRI")

    def test_a_preset_is_added_once_and_means_its_members(self, presenter):
        presenter.text = "liver,"
        presenter.addPreset("lung lobes")
        presenter.addPreset("lung lobes")
        assert presenter.text == "liver, lung lobes"
        assert len(presenter.structures) == 6

    def test_everything_that_the_model_knows_is_a_preset(self, presenter):
        assert EVERYTHING not in presenter.presets
        presenter.useModel(KNOWS)
        assert set(presenter.presets[EVERYTHING]) == {"Liver", "Spleen", "Right kidney", "Left kidney"}
        presenter.addPreset(EVERYTHING)
        assert set(presenter.structures) == set(presenter.presets[EVERYTHING])

    def test_what_stands_for_several_or_another_name_is_said_and_nothing_else(self, presenter):
        presenter.text = "liver, both kidneys, rk, splen, kidney stone"
        assert presenter.meanings == (("both kidneys", ("Right kidney", "Left kidney")), ("rk", ("Right kidney",)))
        assert [chip.phrase for chip in presenter.chips if chip.needsDecision] == ["splen", "kidney stone"]

    def test_the_last_ten_prompts_are_kept_between_sessions_names_alone(self):
        store = MemoryStore()
        for number in range(1, 13):
            text = f"vertebra L{number}" if number < 6 else f"vertebra T{number - 5}"
            kept = PromptPresenter(state(prompt=f"{text}, patient Miller"), Settings(store))
            kept.detect("CT")
            kept.remember()
        again = PromptPresenter(state(), Settings(MemoryStore(store.values)))
        assert len(again.recent) == 10 and again.recent[:2] == ("vertebra T7", "vertebra T6")
        assert "Miller" not in str(store.values)

    def test_a_prompt_that_comes_again_moves_to_the_top(self, presenter):
        for text in ("liver", "spleen", "Liver"):
            presenter.text = text
            presenter.remember()
        assert presenter.recent == ("Liver", "spleen")

    def test_presets_show_only_what_the_model_knows(self, presenter):
        presenter.useModel(KNOWS)
        assert presenter.presets["abdominal organs"] == ("Liver", "Right kidney", "Spleen", "Left kidney")
        assert "vertebrae" not in presenter.presets

    def test_the_chosen_modality_wins_over_the_detected_one_and_is_kept_in_the_scene(self):
        kept = state()
        presenter = PromptPresenter(kept, Settings(MemoryStore()))
        presenter.detect("CT")
        presenter.choose("MRI")
        assert (presenter.modality, kept.modality) == ("MRI", "MRI")
        presenter.choose("")
        assert presenter.modality == "CT"

    def test_changes_are_said_once_and_only_if_something_changed(self, presenter):
        said = []
        presenter.changed.connect(lambda: said.append(1))
        presenter.text = "liver"
        presenter.text = "liver"
        presenter.choose("")
        assert len(said) == 1

    def test_what_cannot_run_is_named(self, presenter):
        presenter.text = "liver, kidney stone"
        assert [chip.phrase for chip in presenter.problems] == ["kidney stone"]


def test_chips_are_broken_into_lines_like_words():
    assert lines([50, 40, 30, 200, 10], 100, 5) == [[0, 1], [2], [3], [4]]
    assert lines([], 100, 5) == []
