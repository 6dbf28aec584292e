"""Segments as spatial prompts and as places that no result may enter."""

from __future__ import annotations

import pytest
from panel_doubles import Segment, Workspace

from MedalSLib.panel.chips import ModelClasses
from MedalSLib.panel.spatial import SpatialPresenter


@pytest.fixture
def workspace():
    return Workspace(
        shown=[
            Segment("a", "Liver", "Liver", "result"),
            Segment("b", "Segment_2"),
            Segment("c", "tumour draft", "", "", empty=True),
        ]
    )


@pytest.fixture
def table(workspace):
    made = SpatialPresenter(workspace)
    made.refresh("CT")
    return made


def row(table, segmentID):
    return next(one for one in table.rows if one.segmentID == segmentID)


def test_no_segment_is_used_before_it_was_chosen(table):
    assert table.prompts == {} and table.excluded == () and table.problems == ()


def test_a_known_segment_becomes_a_prompt_at_once(table, workspace):
    table.use("a", "prompt")
    assert table.prompts == {"a": "Liver"} and workspace.state.spatialPrompts == {"a": "Liver"}
    assert row(table, "a").how == "written by Medal S"


def test_an_unknown_segment_asks_for_its_structure(table):
    table.use("b", "prompt")
    assert table.prompts == {} and table.problems == ("Say which structure Segment_2 stands for.",)
    assert table.name("b", "lt kidney")
    assert table.prompts == {"b": "Left kidney"} and table.problems == ()
    assert row(table, "b").how == "chosen by you"


def test_the_structure_of_a_known_segment_can_be_changed(table):
    table.use("a", "prompt")
    assert table.name("a", "spleen")
    assert table.prompts == {"a": "Spleen"}


@pytest.mark.parametrize("typed", ["kidneys", "nonsense", ""])
def test_words_that_mean_none_or_several_are_refused(table, typed):
    said = []
    table.changed.connect(lambda: said.append(1))
    assert not table.name("a", typed)
    assert row(table, "a").structure == "Liver" and said


def test_an_empty_segment_is_no_prompt(table):
    table.use("c", "prompt")
    assert "is empty" in table.problems[0]


def test_not_this_segment_excludes_it_and_ends_its_use_as_a_prompt(table, workspace):
    table.use("a", "prompt")
    table.use("a", "exclude")
    assert table.prompts == {} and table.excluded == ("a",) and workspace.state.excluded == ("a",)
    table.use("a", "")
    assert table.excluded == ()


def test_naming_a_forbidden_segment_makes_it_a_prompt(table):
    table.use("a", "exclude")
    table.name("a", "liver")
    assert table.excluded == () and table.prompts == {"a": "Liver"}


def test_locks_go_to_the_segment(table):
    table.lock("a", True)
    assert row(table, "a").locked


def test_segments_that_were_deleted_no_longer_count(table, workspace):
    table.use("a", "prompt")
    workspace.shown = workspace.shown[1:]
    table.refresh("CT")
    assert table.prompts == {}


def test_nothing_is_said_when_nothing_changed(table):
    said = []
    table.changed.connect(lambda: said.append(1))
    table.refresh("CT")
    assert not said


class TestNamesOfTheModel:
    """A fine-tuned model may know structures that no table has."""

    CUSTOM = ModelClasses("Ours", frozenset({"CT_Gallbladder wall"}))

    def test_a_segment_may_be_said_to_stand_for_one(self, table):
        table.use("b", "prompt")
        assert not table.name("b", "gallbladder wall")
        table.useModel(self.CUSTOM)
        assert table.name("b", "gallbladder wall")
        assert table.prompts == {"b": "Gallbladder wall"}

    def test_a_segment_of_that_name_stands_for_it(self, table, workspace):
        workspace.shown.append(Segment("d", "Gallbladder Wall"))
        table.refresh("CT")
        assert row(table, "d").structure == ""
        table.useModel(self.CUSTOM)
        assert (row(table, "d").structure, row(table, "d").how) == ("Gallbladder wall", "from its name")
        table.use("d", "prompt")
        assert table.prompts == {"d": "Gallbladder wall"}

    def test_what_told_better_than_the_name_stays(self, table, workspace):
        workspace.shown.append(Segment("d", "Gallbladder Wall", "Liver", "terminology"))
        table.useModel(self.CUSTOM)
        assert row(table, "d").structure == "Liver"
