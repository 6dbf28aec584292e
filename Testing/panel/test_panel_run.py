"""Running, cancelling, refining, reviewing: the presenter behind the large button."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fake_engine import FakeEngine
from panel_doubles import CLASSES, CT, DirectJobs, MemoryStore, Segment, Workspace, state

from MedalSLib.errors import InputError, ResourceError
from MedalSLib.panel.consent import ConsentPresenter
from MedalSLib.panel.engines import EnginePresenter
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.prompt import PromptPresenter
from MedalSLib.panel.run_presenter import RunPresenter
from MedalSLib.panel.spatial import SpatialPresenter


class Desk:
    """All presenters that a run needs, around a workspace without a scene."""

    def __init__(self, workspace, kind="isolated", url=""):
        self.workspace = workspace
        self.settings = Settings(MemoryStore())
        self.settings.engineKind, self.settings.serverUrl = kind, url
        self.engine = FakeEngine(classes=CLASSES)
        self.opened = []
        self.prompt = PromptPresenter(workspace.state, self.settings)
        self.prompt.detect("CT")
        self.spatial = SpatialPresenter(workspace)
        self.spatial.refresh("CT")
        self.consent = ConsentPresenter(self.settings)
        self.engines = EnginePresenter(
            workspace.state,
            self.settings,
            dict.fromkeys(("isolated", "in-process", "remote"), self._open),
            DirectJobs(),
            workspace.forget,
        )
        self.run = RunPresenter(workspace, self.prompt, self.spatial, self.engines, self.consent)
        self.states = []
        self.run.changed.connect(lambda: self.states.append((self.run.state, round(self.run.fraction, 2))))

    def _open(self, choice, cancel):
        self.opened.append(choice)
        return self.engine

    def asked(self, what):
        return [call for call in self.workspace.calls if call[0] == what]


@pytest.fixture
def desk():
    return Desk(Workspace(state(prompt="liver, spleen")))


class TestRun:
    def test_a_run_goes_through_its_states_and_fills_the_table(self, desk):
        desk.run.run()
        names = [state for state, _ in desk.states]
        assert names[0] == "opening" and "running" in names and names[-1] == "idle"
        assert [(row.structure, row.state, row.volume) for row in desk.run.rows] == [
            ("Liver", "found", "1500 ml"),
            ("Spleen", "found", "200 ml"),
        ]
        assert desk.run.message.level == "success"
        assert desk.run.message.text == "2 of 2 structures found in 1.5 s."

    def test_rows_come_class_by_class(self, desk):
        seen = []
        desk.workspace.during = lambda: seen.append([row.state for row in desk.run.rows])
        desk.run.run()
        assert seen == [["found", "waiting"], ["found", "found"]]

    def test_progress_says_what_which_patch_and_how_long(self, desk):
        said = []
        desk.workspace.during = lambda: said.append(desk.run.progress)
        desk.run.run()
        assert said[-1] == "Drawing their outlines · patch 1 of 4 · about 20 s left"

    def test_progress_never_goes_back(self, desk):
        desk.run.run()
        running = [fraction for state, fraction in desk.states if state == "running"]
        assert running == sorted(running) and running[-1] == 0.5

    def test_the_scene_state_becomes_the_request(self, desk):
        desk.workspace.state.overlap = "keep"
        desk.workspace.state.firstStageOnly = True
        desk.workspace.state.separateInstances = True
        desk.workspace.state.windows = {"*": "lung"}
        desk.run.run()
        _, request = desk.asked("run")[0]
        assert (request.prompts, request.modality, request.overlap) == (("Liver", "Spleen"), "CT", "keep")
        assert (request.options.stages, request.options.instances) == ("first", ("*",))
        assert request.options.windows == {"Liver": "lung", "Spleen": "lung"}

    def test_segments_chosen_as_prompts_and_as_forbidden_go_with_the_run(self, desk):
        desk.workspace.shown = [Segment("s1", "my liver", "Liver", "name"), Segment("s2", "tumour")]
        desk.spatial.refresh("CT")
        desk.spatial.use("s1", "prompt")
        desk.spatial.use("s2", "exclude")
        desk.run.run()
        _, request = desk.asked("run")[0]
        assert request.spatialPrompts == {"s1": "Liver"} and request.excludedIDs == ("s2",)

    def test_names_that_were_not_understood_are_left_out_and_said(self, desk):
        desk.prompt.text = "liver, kidney stone"
        desk.run.run()
        assert desk.asked("run")[0][1].prompts == ("Liver",)
        assert desk.run.remarks[0].startswith("Not segmented: kidney stone")

    def test_what_the_model_does_not_know_is_found_out_before_the_run(self, desk):
        desk.engine.classes = ("CT_Liver",)
        desk.engines.changed.connect(lambda: desk.prompt.useModel(model_of(desk)))
        desk.run.run()
        assert desk.asked("run")[0][1].prompts == ("Liver",)
        desk.prompt.text = "spleen"
        desk.run.run()
        assert len(desk.asked("run")) == 1
        assert "does not know Spleen" in desk.run.message.text

    def test_all_frames_are_asked_for_only_where_there_are_frames(self, desk):
        desk.workspace.state.allFrames = True
        assert not desk.run.request().allFrames
        desk.workspace.facts = replace(CT, frames=5)
        assert desk.run.request().allFrames

    def test_nothing_found_is_said_with_the_comfort_that_segments_are_kept(self, desk):
        desk.workspace.found = {}
        desk.run.run()
        assert desk.run.message.text == "Nothing was found. Your segments are as they were."
        assert {row.state for row in desk.run.rows} == {"absent"}

    def test_volumes_are_those_of_the_segments_as_they_are_now(self, desk):
        desk.workspace.measured = {"Liver": 1400.0}
        desk.run.run()
        assert [(row.structure, row.volume, row.gone) for row in desk.run.rows] == [
            ("Liver", "1400 ml", False),
            ("Spleen", "", True),
        ]
        desk.workspace.measured = {"Liver": 1300.0, "Spleen": 150.0}
        desk.run.measure()
        assert [(row.volume, row.gone) for row in desk.run.rows] == [("1300 ml", False), ("150 ml", False)]

    def test_an_organ_that_goes_on_beyond_the_scan_is_no_plain_find(self, desk):
        desk.workspace.cutOff = {"Liver": ("feet", "right")}
        desk.workspace.measured = {"Liver": 1400.0, "Spleen": 200.0}
        desk.run.run()
        desk.run.measure()
        liver, spleen = desk.run.structures
        assert (liver.state, liver.volume) == ("⚠ found, cut off below, on the right", "≥ 1400 ml")
        assert (spleen.state, spleen.volume) == ("✓ found", "200 ml")

    def test_what_was_said_of_a_result_ends_with_it(self, desk):
        desk.workspace.measured = {"Liver": 1400.0, "Spleen": 200.0}
        desk.workspace.warnings = ("The scan is short.",)
        desk.run.run()
        desk.run.measure()
        assert desk.run.message.text.startswith("2 of 2") and desk.run.remarks
        desk.workspace.measured = {}  # undone
        desk.run.measure()
        assert (desk.run.message.text, desk.run.remarks) == ("", ())

    def test_a_reason_for_a_cancelled_run_ends_when_other_names_are_typed(self, desk):
        desk.workspace.during = desk.run.cancel
        desk.run.run()
        assert desk.run.message.text
        desk.prompt.text = "liver"
        assert desk.run.message.text == ""

    def test_the_list_says_of_which_frame_a_result_is(self, desk):
        desk.run.run()
        desk.workspace.resultFrame = 3
        assert [row.state for row in desk.run.structures] == ["✓ found, in frame 3"] * 2

    def test_found_structures_come_before_absent_ones(self, desk):
        desk.workspace.found = {"Spleen": 1.0}
        desk.run.run()
        assert [row.structure for row in desk.run.rows] == ["Spleen", "Liver"]


class TestBlockers:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda desk: setattr(desk.workspace, "facts", None), "Load an image"),
            (lambda desk: setattr(desk.workspace, "facts", replace(CT, problem="It is a colour image.")), "colour"),
            (lambda desk: setattr(desk.prompt, "text", ""), "Type the name"),
            (lambda desk: setattr(desk.prompt, "text", "kidney stone"), "was not understood"),
        ],
    )
    def test_what_is_missing_is_said_and_nothing_is_opened(self, desk, change, says):
        change(desk)
        desk.run.run()
        assert says in desk.run.message.text and desk.run.message.level == "warning"
        assert not desk.opened and desk.run.state == "idle"

    def test_a_prompt_segment_without_a_name_has_to_be_named_first(self, desk):
        desk.workspace.shown = [Segment("s1", "Segment_1")]
        desk.spatial.refresh("CT")
        desk.spatial.use("s1", "prompt")
        assert "Say which structure Segment_1" in desk.run.blocker

    def test_a_segment_alone_is_enough_to_run(self, desk):
        desk.prompt.text = ""
        desk.workspace.shown = [Segment("s1", "liver", "Liver")]
        desk.spatial.refresh("CT")
        desk.spatial.use("s1", "prompt")
        assert desk.run.blocker == ""


class TestCancelAndFaults:
    def test_cancel_in_mid_run_stops_it_and_empties_the_table(self, desk):
        desk.workspace.during = desk.run.cancel
        desk.run.run()
        assert ("cancelling", 0.0) in desk.states
        assert desk.run.rows == () and desk.run.message.level == "info"
        assert desk.run.state == "idle"

    def test_run_pressed_again_in_mid_run_does_nothing(self, desk):
        desk.workspace.during = desk.run.run
        desk.run.run()
        assert len(desk.asked("run")) == 1

    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (InputError("The volume is broken.", "Load it again."), "The volume is broken. Load it again."),
            (MemoryError(), "Not enough memory"),
            (ValueError("secret of a patient"), "Something unexpected went wrong (ValueError)"),
        ],
    )
    def test_every_fault_is_said_and_leaves_the_panel_usable(self, desk, error, says):
        desk.workspace.error = error
        desk.run.run()
        assert desk.run.message.text.startswith(says) and desk.run.message.level == "error"
        desk.workspace.error = None
        desk.run.run()
        assert desk.run.message.level == "success"

    def test_an_engine_that_cannot_be_opened_is_said(self, desk):
        def fail(choice, cancel):
            raise ResourceError("PyTorch is not installed.", "See the Install page.")

        desk.engines.factories = {"isolated": fail}
        desk.run.run()
        assert desk.run.message.text == "PyTorch is not installed. See the Install page."
        assert desk.engines.badge.level == "problem"

    def test_closing_the_scene_in_mid_run_stops_it(self, desk):
        desk.workspace.during = desk.run.forget
        desk.run.run()
        assert desk.run.state == "idle" and desk.run.rows == ()


class TestNothingIsLost:
    def test_corrections_are_refined_whatever_is_typed_and_only_starting_over_replaces_them(self, desk):
        desk.run.run()
        desk.workspace.painted = ("Liver", "Heart")
        desk.run.measure()
        assert desk.run.action == "Refine (2 corrected) and segment 1 new" and desk.run.replaced == ("Liver",)
        desk.run.run()
        assert len(desk.asked("run")) == 1 and desk.asked("refine")[0][1].prompts == ("Spleen",)
        desk.run.startOver()
        assert len(desk.asked("run")) == 2 and not desk.asked("run")[1][1].refine

    def test_a_result_that_honours_corrections_is_replaced_by_starting_over_only(self, desk):
        desk.run.run()
        desk.workspace.refined = ("Liver",)
        desk.run.measure()
        assert desk.run.action == "Segment" and desk.run.replaced == ("Liver",)
        desk.run.run()
        assert desk.asked("run")[-1][1].prompts == ("Spleen",)
        desk.workspace.refined = ("Liver", "Spleen")
        desk.run.run()
        assert len(desk.asked("run")) == 2 and "as you corrected it" in desk.run.message.text
        desk.run.startOver()
        assert desk.asked("run")[-1][1].prompts == ("Liver", "Spleen")

    def test_the_most_doubtful_slice_that_is_left_is_shown(self, desk):
        desk.workspace.doubtful = {"Liver": ((0, 3), (0, 9))}
        desk.workspace.shown = [Segment("Liver", "Liver")]
        desk.run.run()
        desk.run.showDoubtful()
        desk.run.sliceIsRight()
        desk.run.showDoubtful()
        assert desk.asked("slice") == [("slice", "Liver", (0, 3)), ("slice", "Liver", (0, 9))]
        desk.workspace.right["Liver"].add((0, 9))
        desk.run.showDoubtful()
        assert "no doubtful slice left" in desk.run.message.text

    @pytest.mark.parametrize("painted", [(), ("Liver",)])
    def test_a_run_that_fails_leaves_the_table_of_the_last_good_result(self, desk, painted):
        desk.run.run()
        rows = desk.run.rows
        desk.workspace.painted = painted
        desk.workspace.error = InputError("There is nothing to refine.", "Paint first.")
        desk.run.run()
        assert rows and desk.run.rows == rows and "nothing to refine" in desk.run.message.text

    def test_a_cancelled_run_leaves_the_table_of_the_last_good_result(self, desk):
        desk.run.run()
        rows = desk.run.rows
        desk.workspace.during = desk.run.cancel
        desk.run.run()
        assert desk.run.rows == rows


class TestReview:
    def test_revert_takes_the_result_back_and_empties_the_table(self, desk):
        desk.run.run()
        desk.run.revert()
        assert desk.asked("revert") and desk.run.rows == ()

    def test_while_a_result_is_taken_back_nothing_else_starts_and_the_progress_is_shown(self, desk):
        desk.run.run()
        desk.workspace.frames, seen = 4, []

        def look():
            seen.append((desk.run.busy, desk.run.canReview, desk.run.canCancel, desk.run.fraction, desk.run.progress))
            desk.run.run()
            desk.run.revert()

        desk.workspace.during = look
        desk.run.revert()
        assert len(desk.asked("run")) == 1 and len(desk.asked("revert")) == 1
        assert {one[:3] for one in seen} == {(True, False, True)}
        assert [one[3] for one in seen] == [0, 0.25, 0.5, 0.75]
        assert seen[1][4] == "Taking the result back · patch 1 of 4"
        assert desk.run.state == "idle" and "as they were before" in desk.run.message.text

    def test_taking_back_can_be_stopped_and_gone_on_with(self, desk):
        desk.run.run()
        desk.workspace.frames = 4
        desk.workspace.during = desk.run.cancel
        desk.run.revert()
        assert desk.run.canReview and desk.run.rows
        assert "Revert again" in desk.run.message.text
        desk.workspace.during = None
        desk.run.revert()
        assert not desk.run.canReview and desk.run.rows == ()

    def test_a_result_can_be_taken_back_while_the_cost_is_worked_out(self, desk):
        desk.run.run()
        desk.workspace.during = desk.run.revert
        desk.run.updateEstimate()
        assert len(desk.asked("revert")) == 1 and desk.run.state == "idle"

    def test_before_and_after_toggles_and_ends_with_the_next_run(self, desk):
        desk.run.run()
        desk.run.compare(True)
        desk.run.compare(True)
        assert desk.asked("compare") == [("compare", True)]
        desk.run.run()
        assert desk.asked("compare")[-1] == ("compare", False) and not desk.run.comparing


class TestEstimate:
    def test_no_engine_is_opened_for_an_estimate(self, desk):
        desk.run.updateEstimate()
        assert desk.run.estimate == "" and not desk.opened

    def test_it_says_time_memory_and_device(self, desk):
        desk.engines.open()
        desk.run.updateEstimate()
        assert desk.run.estimate == "About 45 s, 2.9 GB of memory on CPU, 2 threads"

    def test_nothing_is_sent_for_an_estimate_without_consent(self):
        desk = Desk(Workspace(state(prompt="liver")), "remote", "https://seg.example")
        desk.engines.open()
        desk.run.updateEstimate()
        assert not desk.asked("estimate")

    def test_no_image_goes_to_a_server_for_an_estimate_but_one_that_is_there_is_used(self):
        desk = Desk(Workspace(state(prompt="liver")), "remote", "https://seg.example")
        desk.engines.open()
        desk.run.run()
        desk.run.answerConsent(True)
        desk.run.updateEstimate()
        assert desk.asked("estimate") and desk.run.estimate == ""
        desk.workspace.isOpen = True
        desk.run.updateEstimate()
        assert desk.run.estimate.startswith("About 45 s")

    def test_a_run_asked_for_in_the_middle_of_an_estimate_follows_it(self, desk):
        desk.engines.open()
        desk.workspace.during = lambda: desk.run.run() if not desk.asked("run") else None
        desk.run.updateEstimate()
        assert [call[0] for call in desk.workspace.calls if call[0] in ("estimate", "run")] == ["estimate", "run"]


class TestConsent:
    @pytest.fixture
    def remote(self):
        return Desk(Workspace(state(prompt="liver")), "remote", "https://seg.example")

    def test_nothing_is_sent_before_the_user_allowed_it(self, remote):
        remote.run.run()
        assert not remote.asked("run")
        assert remote.consent.question.host == "seg.example"
        assert remote.run.state == "idle"

    def test_a_yes_starts_the_run_and_is_asked_once_for_each_host(self, remote):
        remote.run.run()
        remote.run.answerConsent(True)
        assert len(remote.asked("run")) == 1
        remote.run.run()
        assert remote.consent.question is None and len(remote.asked("run")) == 2
        assert remote.settings.consentedHosts == ("seg.example",)

    def test_a_no_sends_nothing_and_is_asked_again(self, remote):
        remote.run.run()
        remote.run.answerConsent(False)
        assert not remote.asked("run") and "Nothing was sent" in remote.run.message.text
        remote.run.run()
        assert remote.consent.question is not None

    def test_consent_can_be_taken_back(self, remote):
        remote.run.run()
        remote.run.answerConsent(True)
        remote.consent.forget("seg.example")
        remote.run.run()
        assert remote.consent.question is not None

    def test_consent_to_an_encrypted_way_is_none_to_a_readable_one(self, remote):
        remote.run.run()
        upload = remote.consent.question
        remote.consent.answer(True)
        assert remote.consent.given(upload)
        assert not remote.consent.given(replace(upload, encrypted=False))

    def test_this_computer_needs_no_consent(self, desk):
        desk.run.run()
        assert not desk.asked("describe")


def model_of(desk):
    from MedalSLib.panel.chips import ModelClasses

    info = desk.engines.info
    return ModelClasses(info.title, frozenset(info.classes)) if info is not None else ModelClasses()
