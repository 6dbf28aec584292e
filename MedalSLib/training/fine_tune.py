"""Teach a model new structures from a folder of labelled cases, and keep the best state by held-out Dice."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from MedalSLib.atomic_files import write_json
from MedalSLib.errors import InputError
from MedalSLib.network.bundle import Model, open_model
from MedalSLib.network.manifest import StageManifest
from MedalSLib.training.augmentation import AugmentationSettings
from MedalSLib.training.best_state import BestState
from MedalSLib.training.building import FREEZE_CHOICES, Freeze, freeze, model_from
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.distributed import World, world
from MedalSLib.training.dry_run import typical_step_seconds
from MedalSLib.training.fine_tune_result import StageResult, export_fine_tuned, fine_tune_report
from MedalSLib.training.laterality import SAGITTAL_AXIS_HWD
from MedalSLib.training.losses import LossSettings
from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.prepared_folder import open_prepared
from MedalSLib.training.prompt_simulation import PromptSimulation
from MedalSLib.training.recipe import LogSettings, OptimizerSettings, Recipe, TextSettings
from MedalSLib.training.run_folder import RunFolder, data_digest
from MedalSLib.training.samples import SampleStream
from MedalSLib.training.sampling import SamplingSettings
from MedalSLib.training.schedule import Cycle
from MedalSLib.training.scoring import mean_dice
from MedalSLib.training.sources import Sources, find_sources
from MedalSLib.training.steps import Hooks, OnProgress, StepReport
from MedalSLib.training.trainer import Trainer

_NAME_ALONE, _BALANCED_UNTIL = 0.7, 0.5
MIRROR_CHOICES = ("sagittal", "off")
_EMA_DECAY = 0.98
"""Of the averaged weights, which are the ones that are checked and kept: half of them is the last 34 steps."""


@dataclass(frozen=True)
class FineTuneOptions:
    """Arguments of `medals fine-tune`.

    Attributes:
        source: Images with labels, as for `find_sources`; at least two cases.
        output: Folder of the result, whose `model/` is what `--model` takes; the work lies beside it.
        model: The model to start from: its name or folder.
        name: Name of the result; "" for one made from the folder's.
        stages: Stages to train, "1" and "2"; () for all that the model has.
        steps: Most steps for each stage.
        learning_rate: Highest learning rate.
        batch_size: Samples in a batch.
        held_out: Share of the cases that is not trained on but decides when to stop; at least one.
        patience: Checks without a better held-out Dice after which a stage stops.
        check_every: Steps between two checks.
        freeze: "nothing", "image_encoder" or "backbone": what keeps its weights.
        mirror: "sagittal" mirrors half of the samples left to right, with the sides swapped in their texts; "off" none.
        modality: Modality of the folder; "" to find out.
        names: Names by label, or a JSON file with them; None for the folder's own.
        window: Intensity window; "" for the one of the structures.
        orientation: Directions to which x, y, z of challenge files grow; LPS if None.
        workers: Processes that prepare cases.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with what is in `output`.
        seed: Seed of the split and of all draws.

    Raises:
        InputError: `held_out` is no share, or `freeze` no choice.
    """

    source: Path
    output: Path
    model: str = "starter"
    name: str = ""
    stages: tuple[str, ...] = ()
    steps: int = 150
    learning_rate: float = 5e-4
    batch_size: int = 2
    held_out: float = 0.2
    patience: int = 6
    check_every: int = 25
    freeze: Freeze = "image_encoder"
    mirror: Literal["sagittal", "off"] = "sagittal"
    modality: str = ""
    names: Mapping[int, str] | Path | None = None
    window: str = ""
    orientation: str | None = None
    workers: int = 1
    device: str = "auto"
    resume: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise InputError(f"held_out is {self.held_out}.", "Give a share between 0 and 1, such as 0.2.")
        if self.mirror not in MIRROR_CHOICES:
            raise InputError(f'There is no mirroring "{self.mirror}".', f"Use one of: {', '.join(MIRROR_CHOICES)}.")
        if self.freeze not in FREEZE_CHOICES:
            raise InputError(f'"{self.freeze}" cannot be frozen.', f"Use one of: {', '.join(FREEZE_CHOICES)}.")


def fine_tune(
    options: FineTuneOptions, on_progress: OnProgress | None = None, cancel: threading.Event | None = None
) -> dict[str, Any]:
    """Teach a model the structures of a folder of labelled cases, stage by stage, and write the model.

    Args:
        options: What to do.
        on_progress: Progress.
        cancel: Set it to stop; `resume` goes on.

    Returns:
        The model's folder, held-out Dice by structure and stage, and the cases that were held out, as JSON-ready
        values; {} in all but the leading of several processes.

    Raises:
        InputError: Fewer than two cases, or an option that is not valid.
        ModelError: The model to start from cannot be opened.
        CancelledError: `cancel` was set.
    """
    sources = find_sources(options.source, options.modality, options.names, orientation=options.orientation)
    output = options.output
    with world(options.device) as here:
        base = open_model(options.model, "cpu")
        known = [stage.stage for stage in base.manifest.stages]
        chosen = list(options.stages) or known
        if missing := [stage for stage in chosen if stage not in known]:
            raise InputError(f"The model has no stage {missing[0]}.", f"It has: {', '.join(known)}.")
        results = [_fine_tune_stage(base, stage, sources, options, here, on_progress, cancel) for stage in chosen]
        report: dict[str, Any] = {}
        if here.leads:
            windows = {} if options.window else base.manifest.windows
            model = export_fine_tuned(base, results, output / "model", options.name or output.name, windows)
            report = fine_tune_report(model, results)
            write_json(output / "report.json", report)
        here.wait()
    return report


def split_cases(
    cases: Sequence[CaseRecord], share: float, seed: int
) -> tuple[tuple[CaseRecord, ...], tuple[CaseRecord, ...]]:
    """Return cases to train on and cases to hold out; at least one of each, and the same for the same seed.

    Args:
        cases: All cases.
        share: Share that is held out.
        seed: Seed of the draw.

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


def _recipe(stage: StageManifest, options: FineTuneOptions, name: str) -> Recipe:
    """Return the recipe of a fine-tuning: a short warm-up, one cosine cycle, gentle augmentation as in training."""
    return Recipe(
        name=name,
        stage="1" if stage.stage == "1" else "2",
        spacing_hwd=stage.spacing_hwd,
        patch_hwd=stage.patch_hwd,
        resampling=stage.resampling,
        schedule=(Cycle(options.steps, options.learning_rate, min(50, options.steps // 10)),),
        network={key: value for key, value in stage.config.items() if key != "image_size"},
        text=TextSettings(encoder="base"),
        # Few cases, of which only the labelled part matters: more patches around it than in training from scratch.
        sampling=SamplingSettings(batch_size=options.batch_size, foreground_share=0.5),
        # What is checked and mostly used is a name alone, so most samples come without masks.
        prompts=PromptSimulation(no_prompt=_NAME_ALONE),
        # A body is mirrored left to right at most: no patient lies upside down, and sides are swapped in the texts.
        augmentation=AugmentationSettings(
            mirror="off" if options.mirror == "off" else "swap_sides",
            mirror_axes=(SAGITTAL_AXIS_HWD,),
            labels="nearest",
        ),
        # A structure that is new begins at "no" everywhere, from where Dice alone hardly moves it.
        loss=LossSettings(balance_until=_BALANCED_UNTIL),
        optimizer=OptimizerSettings(clip_norm=12.0, precision="auto", ema_decay=_EMA_DECAY),
        log=LogSettings(every=10, checkpoint_every=options.check_every),
        seed=options.seed,
        workers=min(options.workers, 4) if options.workers > 1 else 0,
    )


def _time_needed(stage: str, options: FineTuneOptions, step: float, check: float) -> str:
    """Say how long a stage takes at most, before it begins."""
    checks = -(-options.steps // options.check_every)
    minutes = max(1, round((options.steps * step + checks * check) / 60))
    return (
        f"stage {stage}: at most {options.steps} steps of {step:.2g} s and {checks} checks of {check:.2g} s, about "
        f"{minutes} minute{'s' if minutes > 1 else ''} in all (--steps for fewer, Ctrl-C keeps what is done)"
    )


def _fine_tune_stage(
    base: Model,
    stage: str,
    sources: Sources,
    options: FineTuneOptions,
    here: World,
    on_progress: OnProgress | None,
    cancel: threading.Event | None,
) -> StageResult:
    network = base.network(stage)
    grid = base.manifest.stage(stage).used_for(sources.cases[0].dataset.modality if sources.cases else "")
    described = replace(grid, config=replace(network.config, deep_supervision=False).to_dict())
    recipe = _recipe(described, options, f"fine-tune-stage{stage}")
    root = options.output / f"prepared-stage{stage}"
    if here.leads:
        preparing = partial(on_progress, f"preparing stage {stage}") if on_progress else None
        chosen = PrepareOptions(
            recipe.stage_spec(), options.window, base.manifest.windows.get("CT", ""), options.workers
        )
        prepare_cases(sources, root, chosen, preparing, cancel)
    here.wait()
    prepared = open_prepared(root)  # the same cases in the same order in every process
    training, held_out = split_cases(prepared.cases, options.held_out, options.seed)
    names = tuple(case.identifier for case in held_out)
    model = model_from(network, lambda *lists: base.encode(list(zip(*lists, strict=True))), described.patch_hwd)
    freeze(model, options.freeze)

    folder = RunFolder(options.output / f"run-stage{stage}")
    best = BestState(folder, prepared, held_out, here, options.patience, cancel)

    def on_step(report: StepReport) -> None:
        if on_progress:
            details = f"loss {report.loss:.4f}, best held-out Dice {mean_dice(best.scores):.3f} at step {best.step}"
            on_progress(f"training stage {stage}", report.step, report.total_steps, details)

    facts = {
        "options": {
            key: value if isinstance(value, int | float) else str(value) for key, value in vars(options).items()
        },
        "data_digest": data_digest(prepared),
        "held_out": list(names),
    }
    hooks = Hooks(on_step, lambda step: best.check(trainer.trained, step), options.check_every, cancel)
    source = SampleStream(prepared, recipe, training)
    trainer = Trainer(model, source, recipe, here, folder, hooks)
    trainer.start(facts, options.resume)
    if trainer.step:
        best.load()
    else:  # the model to start from is the state that training must beat
        begun = time.monotonic()
        best.check(trainer.trained, 0)
        checking = time.monotonic() - begun
        trainer.model.train()
        if on_progress and here.size == 1:
            trial = Trainer(copy.deepcopy(model), source, recipe, here, RunFolder(Path()))
            on_progress(_time_needed(stage, options, typical_step_seconds(trial), checking), 0, 0, "")
    result = trainer.run()
    folder.close()
    here.wait()
    trained = trainer.trained.network
    best.load_into(trained)
    return StageResult(stage, trained.cpu(), prepared, names, best, result.step)
