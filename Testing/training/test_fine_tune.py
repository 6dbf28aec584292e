"""From a folder of labelled cases to a model that opens, and the whole way from preparing to evaluating."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import write_tiny_model
from training_inputs import SPACING_DHW, body, plain_folder, prepared_folder, toy_recipe

from MedalSLib.engine import open_engine
from MedalSLib.errors import CancelledError, InputError, PromptError
from MedalSLib.evaluation.folder import evaluate_folder
from MedalSLib.inference.resampling_policy import StageSpec, plan
from MedalSLib.inference.stage import run_stage
from MedalSLib.network.bundle import open_model
from MedalSLib.network.manifest import read_manifest, write_manifest
from MedalSLib.training.best_state import BestState
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.fine_tune import FineTuneOptions, fine_tune, split_cases
from MedalSLib.training.fine_tune_result import StageResult, export_fine_tuned
from MedalSLib.training.recipe import load_recipe
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.scoring import ValidateOptions, validate
from MedalSLib.training.train import TrainOptions, train
from MedalSLib.volume import apply_window, parse_window
from MedalSLib.volume.challenge import write_challenge_result

pytestmark = pytest.mark.slow

Tuning = dict[str, Any]
QUICK: Tuning = {"steps": 6, "check_every": 3, "learning_rate": 5e-3, "modality": "CT", "device": "cpu"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "toy.json"
    path.write_text(json.dumps(toy_recipe(augmentation={"rotation_share": 0.0, "scale_share": 0.0})))
    return path


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, recipe: Path) -> Path:
    """A model trained for 20 steps on three bodies; its report is beside it."""
    root = tmp_path_factory.mktemp("base")
    prepared = prepared_folder(plain_folder(root / "cases"), root / "prepared", recipe, modality="CT")
    assert prepared["cases"] == 3
    assert prepared["structures"] == ["CT_Left kidney", "CT_Right kidney"]
    report = train(TrainOptions(root / "prepared", root / "run", recipe, device="cpu"))
    (root / "report.json").write_text(json.dumps(report))
    return root / "run" / "model"


@pytest.mark.slow
def test_training_ends_with_a_model_that_opens_and_gives_the_trained_networks_logits(base: Path, recipe: Path) -> None:
    report = json.loads((base.parents[1] / "report.json").read_text())
    assert report["step"] == report["total_steps"] == 20
    assert report["last_loss"] < report["first_loss"]
    model = open_model(base)
    assert model.manifest.classes == ("CT_Left kidney", "CT_Right kidney")
    network = model.network("2")
    assert not network.config.deep_supervision
    state = torch.load(base.parent / "checkpoints" / "last.pt", weights_only=True)["model"]
    for key, value in network.state_dict().items():
        assert torch.equal(state[f"network.{key}"], value)
    queries = model.encode([("Left kidney", "CT"), ("Right kidney", "CT")])
    with torch.no_grad():
        logits = network(queries[None], torch.rand(1, 1, 32, 32, 16) * 255, torch.zeros(1, 1, 32, 32, 16), None)
    assert logits[0].shape == (1, 2, 32, 32, 16)


def test_the_trained_model_segments_cases_whose_results_can_be_evaluated(base: Path, tmp_path: Path) -> None:
    """Prepare, train, segment, evaluate: the whole way on bodies the model has not seen."""
    model, stage = open_model(base), open_model(base).manifest.stage("2")
    spec = StageSpec(2, stage.spacing_hwd, stage.patch_hwd)
    classes = model.manifest.classes
    queries = model.encode([("Left kidney", "CT"), ("Right kidney", "CT")])
    for name in ("gts", "segs"):
        (tmp_path / name).mkdir()
    for index in (50, 51):
        image, labels = body(index)
        spacing_hwd = (SPACING_DHW[1], SPACING_DHW[2], SPACING_DHW[0])
        shown = apply_window(image.astype(np.float32) - 100, parse_window("soft tissue"))
        volume = np.ascontiguousarray(shown.transpose(1, 2, 0))
        there = plan(volume.shape, spacing_hwd, classes, spec)
        found = run_stage(model.network("2"), queries, volume, there).labelmap.transpose(2, 0, 1)
        np.savez(tmp_path / "gts" / f"CT_Toy_{index}.npz", gts=labels, spacing=SPACING_DHW[::-1])
        write_challenge_result(tmp_path / "segs" / f"CT_Toy_{index}.npz", found, SPACING_DHW[::-1])
    report = evaluate_folder(tmp_path / "gts", tmp_path / "segs", out=tmp_path / "scores")
    assert len(report["cases"]) == 4
    assert not report["failed"]
    assert report["mean"]["dsc"] > 0.05
    assert (tmp_path / "scores" / "figure.png").is_file()


@pytest.mark.slow
def test_fine_tuning_makes_a_model_folder_that_opens_and_says_what_it_knows(base: Path, tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "mine", cases=4)
    (source / "names.json").write_text(json.dumps({"1": "odd bright lump", "2": "odd dark lump"}))
    seen: list[str] = []
    options = FineTuneOptions(source, tmp_path / "out", str(base), name="My Lumps", **QUICK)
    report = fine_tune(options, on_progress=lambda what, *_: seen.append(what))
    assert seen[0] == "preparing stage 2"
    (told,) = [what for what in seen if "minute" in what]  # how long it takes is said before it begins
    assert "6 steps" in told and seen.index(told) < seen.index("training stage 2")
    assert seen[-1] == "training stage 2"
    assert len(report["held_out_cases"]) == 1
    model = open_model(report["model"])
    assert model.manifest.name == "my-lumps"
    assert model.manifest.classes == ("CT_odd bright lump", "CT_odd dark lump") == tuple(report["classes"])
    stage = report["stages"]["2"]
    assert set(stage["held_out_dice"]) == set(report["classes"])
    assert "held-out" in model.manifest.card
    before, after = open_model(base), model
    assert torch.equal(before.encode([("Liver", "CT")]), after.encode([("Liver", "CT")]))
    if stage["best_step"]:
        assert np.mean(list(stage["held_out_dice"].values())) > np.mean(list(stage["held_out_dice_before"].values()))


def test_the_first_state_is_the_model_that_was_begun_from(base: Path, tmp_path: Path) -> None:
    """Nothing is at random at the start: without a step, scores and weights are those of before."""
    source = plain_folder(tmp_path / "mine", cases=2)
    still = QUICK | {"steps": 1, "learning_rate": 0.0}
    report = fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), **still))
    stage = report["stages"]["2"]
    assert stage["held_out_dice"] == stage["held_out_dice_before"]
    before, after = (open_model(one).network("2").state_dict() for one in (base, report["model"]))
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (tmp_path / "out" / "run-stage2" / "curve.png").is_file()
    recipe = load_recipe(tmp_path / "out" / "run-stage2" / "recipe.json")
    assert recipe.augmentation.mirror_axes == (1,) and recipe.augmentation.mirror == "swap_sides"
    assert not recipe.network_config().deep_supervision


def test_a_state_in_which_a_structure_is_lost_is_not_taken_whatever_the_mean(tmp_path: Path) -> None:
    scores = iter([{"a": 0.5, "b": 0.2}, {"a": 0.4, "b": 0.9}, {"a": 0.49, "b": 0.4}])
    folder = RunFolder(tmp_path)
    model: Any = SimpleNamespace(network=torch.nn.Linear(1, 1))
    here: Any = SimpleNamespace(leads=True)
    best = BestState(folder, SimpleNamespace(), (), here, 5, None)  # type: ignore[arg-type]
    best._held_out_dice = lambda _: next(scores)  # type: ignore[method-assign]
    for step in (0, 10, 20):
        best.check(model, step)
    assert (best.step, best.scores) == (20, {"a": 0.49, "b": 0.4})


def test_validating_gives_the_dice_that_fine_tuning_gave(base: Path, tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "mine", cases=2)
    report = fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), **(QUICK | {"steps": 2})))
    prepared = tmp_path / "out" / "prepared-stage2"
    found = validate(ValidateOptions(prepared, report["model"], "cpu"))
    (held_out,) = report["held_out_cases"]
    dice = {score["structure"]: score["dice"] for score in found["by_case"] if score["case"] == held_out}
    assert dice == pytest.approx(report["stages"]["2"]["held_out_dice"], abs=1e-3)
    assert found["cases"] == 2 and found["mean_dice"] == pytest.approx(np.mean(list(found["dice"].values())))
    with pytest.raises(InputError, match="prepared for"):
        validate(ValidateOptions(prepared, "starter", "cpu"))


def test_the_engine_answers_to_the_new_names_and_says_what_it_does_not_know(base: Path, tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "mine", cases=2)
    (source / "names.json").write_text(json.dumps({"1": "odd bright lump", "2": "left kidney"}))
    report = fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), **(QUICK | {"steps": 2})))
    image, _ = body(60)
    array = image.astype(np.float32) - 100
    affine = np.diag([-SPACING_DHW[2], -SPACING_DHW[1], SPACING_DHW[0], 1.0])
    with open_engine(report["model"], device="cpu") as engine, engine.open_session(array, affine, "CT") as session:
        result = session.segment(["Odd bright lump, lt kidney"])
        assert set(result.names) == {"odd bright lump", "Left kidney"}
        assert result.masks["odd bright lump"].shape == image.shape
        with pytest.raises(PromptError, match="odd bright lump"):
            session.segment(["spleen"])


@pytest.mark.slow
def test_an_interrupted_fine_tuning_goes_on(base: Path, tmp_path: Path) -> None:
    source, stop = plain_folder(tmp_path / "mine", cases=2), threading.Event()

    def watch(what: str, done: int, total: int, details: str) -> None:
        if what.startswith("training") and done == 4:
            stop.set()

    with pytest.raises(CancelledError):
        fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), **QUICK), watch, stop)
    report = fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), resume=True, **QUICK))
    whole = fine_tune(FineTuneOptions(source, tmp_path / "whole", str(base), **QUICK))
    assert report["stages"] == whole["stages"]
    one, other = (open_model(entry["model"]).network("2").state_dict() for entry in (report, whole))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_it_stops_early_when_held_out_cases_no_longer_gain(base: Path, tmp_path: Path) -> None:
    source = plain_folder(tmp_path / "mine", cases=2)
    barely = QUICK | {"learning_rate": 1e-12, "steps": 40, "check_every": 2, "patience": 1}
    report = fine_tune(FineTuneOptions(source, tmp_path / "out", str(base), **barely))
    assert report["stages"]["2"]["steps"] <= 4


def test_a_single_case_cannot_be_both_trained_on_and_held_out(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="1 usable case"):
        fine_tune(FineTuneOptions(plain_folder(tmp_path / "mine", cases=1), tmp_path / "out", str(base), **QUICK))


@pytest.mark.parametrize(
    "wrong", [{"freeze": "everything"}, {"mirror": "axial"}, {"stages": ("1",)}, {"held_out": 1.5}]
)
def test_wrong_choices_are_refused_before_anything_is_done(base: Path, tmp_path: Path, wrong: Tuning) -> None:
    with pytest.raises(InputError):
        fine_tune(
            FineTuneOptions(plain_folder(tmp_path / "mine", cases=2), tmp_path / "out", str(base), **(QUICK | wrong))
        )
    assert not (tmp_path / "out").exists()


def test_the_split_is_the_same_for_the_same_seed_and_leaves_some_on_both_sides() -> None:
    cases = [
        CaseRecord(f"c{i}", "d", "CT", f"cases/d/c{i}", (1, 1, 1), (1, 1, 1), (1, 1, 1), {1: 1}, (1,), "", "")
        for i in range(10)
    ]
    training, held_out = split_cases(cases, 0.2, seed=3)
    assert len(held_out) == 2
    assert not {case.identifier for case in held_out} & {case.identifier for case in training}
    assert split_cases(list(reversed(cases)), 0.2, seed=3) == (training, held_out)
    assert len(split_cases(cases[:2], 0.01, seed=0)[1]) == 1
    assert len(split_cases(cases[:2], 0.99, seed=0)[0]) == 1


def test_manifest_of_an_exported_model_carries_checksums(base: Path) -> None:
    assert all(read_manifest(base).checksums().values())


@pytest.mark.parametrize(("stage", "answers"), [("1", "first"), ("2", "both")])
def test_a_fine_network_that_was_for_masks_stays_so_unless_it_is_trained(
    tmp_path: Path, stage: str, answers: str
) -> None:
    write_tiny_model(tmp_path / "base")
    write_manifest(tmp_path / "base", replace(read_manifest(tmp_path / "base"), text_stages="first"))
    model = open_model(tmp_path / "base")
    described = model.manifest.stage(stage)
    prepared: Any = SimpleNamespace(
        spec=StageSpec(int(stage), described.spacing_hwd, described.patch_hwd),
        classes=lambda: ("CT_odd lump",),
        cases=("case1", "case2", "case3"),
        rejected=(),
    )
    best: Any = SimpleNamespace(before={"CT_odd lump": 0.1}, scores={"CT_odd lump": 0.6}, step=3)
    trained = StageResult(stage, model.network(stage), prepared, ("case1",), best, steps=4)
    manifest = read_manifest(export_fine_tuned(model, [trained], tmp_path / "model", "Odd Lumps"))
    assert manifest.text_stages == answers
    assert manifest.name == "odd-lumps"
    assert [entry.stage for entry in manifest.stages] == ["1", "2"]
    assert "CT_odd lump: 0.600" in manifest.card
