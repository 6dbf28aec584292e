"""Teach a model new structures from a folder of labelled cases, and keep the best state by held-out Dice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedalSLib.errors import InputError
from MedalSLib.network.bundle import Model, open_model
from MedalSLib.network.manifest import StageManifest
from MedalSLib.training.best_state import BestState, mean_dice
from MedalSLib.training.building import FREEZE_CHOICES, freeze, model_from
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.distributed import World, world
from MedalSLib.training.fine_tune_result import StageResult, export_fine_tuned, fine_tune_report
from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.recipe import LogSettings, OptimizerSettings, Recipe, TextSettings
from MedalSLib.training.run_folder import RunFolder, data_digest
from MedalSLib.training.samples import SampleStream
from MedalSLib.training.sampling import SamplingSettings
from MedalSLib.training.schedule import Cycle
from MedalSLib.training.sources import Sources
from MedalSLib.training.trainer import Hooks, StepReport, Trainer
from MedalSLib.training.whole_files import write_json

OnProgress = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class FineTuneOptions:
    """Choices of a fine-tuning; `commands.fine_tune` explains them."""

    model: str = "starter"
    name: str = ""
    stages: tuple[str, ...] = ()
    steps: int = 1000
    learning_rate: float = 2e-4
    batch_size: int = 2
    held_out: float = 0.2
    patience: int = 5
    check_every: int = 100
    freeze: str = "nothing"
    modality: str = ""
    window: str = ""
    workers: int = 1
    device: str = "auto"
    resume: bool = False
    seed: int = 0


def fine_tune_model(
    sources: Sources,
    output: Path,
    options: FineTuneOptions,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Fine-tune every chosen stage and write the model.

    Args:
        sources: The user's cases.
        output: Folder of the result.
        options: Choices.
        on_progress: Progress.
        cancel: Set it to stop.

    Raises:
        InputError: Fewer than two cases, or an option that is not valid.
        ModelError: The model to start from cannot be opened.
        CancelledError: `cancel` was set.
    """
    if options.freeze not in FREEZE_CHOICES:
        raise InputError(f'"{options.freeze}" cannot be frozen.', f"Use one of: {', '.join(FREEZE_CHOICES)}.")
    with world(options.device) as here:
        base = open_model(options.model, "cpu")
        known = [stage.stage for stage in base.manifest.stages]
        chosen = list(options.stages) or known
        if missing := [stage for stage in chosen if stage not in known]:
            raise InputError(f"The model has no stage {missing[0]}.", f"It has: {', '.join(known)}.")
        results = [
            _fine_tune_stage(base, stage, sources, output, options, here, on_progress, cancel) for stage in chosen
        ]
        report: dict[str, Any] = {}
        if here.leads:
            model = export_fine_tuned(base, results, output / "model", options.name or output.name)
            report = fine_tune_report(model, results)
            write_json(output / "report.json", report)
        here.wait()
    return report


def split_cases(
    cases: Sequence[CaseRecord], share: float, seed: int
) -> tuple[tuple[CaseRecord, ...], tuple[CaseRecord, ...]]:
    """Return cases to train on and cases to hold out; at least one of each, and the same for the same seed.

    Raises:
        InputError: There are fewer than two cases.
    """
    if len(cases) < 2:
        raise InputError(
            f"There is {len(cases)} usable case; one is needed to train on and one to decide when to stop.",
            "Add labelled cases.",
        )
    ordered = sorted(cases, key=lambda case: (case.dataset, case.identifier))
    count = min(max(1, round(share * len(ordered))), len(ordered) - 1)
    held = set(np.random.default_rng(seed).permutation(len(ordered))[:count].tolist())
    return (
        tuple(case for index, case in enumerate(ordered) if index not in held),
        tuple(case for index, case in enumerate(ordered) if index in held),
    )


def recipe_for(stage: StageManifest, options: FineTuneOptions, name: str) -> Recipe:
    """Return the recipe of a fine-tuning: a short warm-up, one cosine cycle, gentle augmentation as in training."""
    return Recipe(
        name=name,
        stage="1" if stage.stage == "1" else "2",
        spacing_hwd=stage.spacing_hwd,
        patch_hwd=stage.patch_hwd,
        resampling=stage.resampling,
        schedule=(Cycle(options.steps, options.learning_rate, min(50, options.steps // 10)),),
        network={key: value for key, value in stage.config.items() if key not in ("image_size", "deep_supervision")},
        text=TextSettings(encoder="base"),
        # Few cases, of which only the labelled part matters: more patches around it than in training from scratch.
        sampling=SamplingSettings(batch_size=options.batch_size, foreground_share=0.5),
        optimizer=OptimizerSettings(),
        log=LogSettings(every=10, checkpoint_every=options.check_every),
        seed=options.seed,
        workers=min(options.workers, 4) if options.workers > 1 else 0,
    )


def _fine_tune_stage(
    base: Model,
    stage: str,
    sources: Sources,
    output: Path,
    options: FineTuneOptions,
    here: World,
    on_progress: OnProgress | None,
    cancel: threading.Event | None,
) -> StageResult:
    described = base.stage(stage)
    network = base.network(stage)
    described = replace(described, config=network.config.to_dict())
    recipe = recipe_for(described, options, f"fine-tune-stage{stage}")
    prepared_root = output / f"prepared-stage{stage}"

    def on_case(done: int, total: int, name: str) -> None:
        if on_progress and here.leads:
            on_progress(f"preparing stage {stage}", done, total, name)

    prepare_options = PrepareOptions(recipe.stage_spec(), options.window, options.workers)
    if here.leads:
        prepare_cases(sources, prepared_root, prepare_options, on_case, cancel)
    here.wait()
    # The other processes find every case prepared; the index is then the same in all of them.
    prepared = prepare_cases(sources, prepared_root, replace(prepare_options, workers=0), None, cancel)
    training, held_out = split_cases(prepared.cases, options.held_out, options.seed)

    model = model_from(network, base_encoder(base), described.patch_hwd)
    freeze(model, options.freeze)  # type: ignore[arg-type]  # checked at the start
    files = RunFolder(output / f"run-stage{stage}")
    if here.leads:
        facts = {"options": asdict(options), "data_digest": data_digest(prepared)}
        files.start(recipe, facts | {"held_out": [case.identifier for case in held_out]}, options.resume)
    here.wait()
    best = BestState(files.root / "best.pt", prepared, held_out, here, options.patience, files, cancel)

    def on_step(report: StepReport) -> None:
        if on_progress:
            details = f"loss {report.loss:.4f}, best held-out Dice {mean_dice(best.scores):.3f} at step {best.step}"
            on_progress(f"training stage {stage}", report.step, report.total_steps, details)

    hooks = Hooks(on_step, lambda step: best.check(trainer.trained, step), options.check_every, cancel)
    trainer = Trainer(model, SampleStream(prepared, recipe, training), recipe, here, files, hooks)
    resumed = options.resume and trainer.resume()
    if not resumed:
        best.check(trainer.trained, 0)
        trainer.model.train()
    result = trainer.run()
    files.close()
    here.wait()
    trained = trainer.trained.network
    best.load_into(trained)
    return StageResult(
        stage=stage,
        network=trained.cpu(),
        spec=recipe.stage_spec(),
        classes=prepared.classes(),
        before=best.before,
        after=best.scores,
        best_step=best.step,
        steps=result.step,
        held_out=tuple(case.identifier for case in held_out),
        cases=len(prepared.cases),
        rejected=prepared.rejected,
    )


def base_encoder(base: Model) -> Callable[[Sequence[str], Sequence[str]], torch.Tensor]:
    """Return the text encoder of an opened model as a function of texts and modalities."""
    return lambda texts, modalities: base.encode(list(zip(texts, modalities, strict=True)))
