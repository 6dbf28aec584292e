"""Train a network on a prepared folder: what `medals train` does."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from MedalSLib.training.building import new_model
from MedalSLib.training.distributed import World, world
from MedalSLib.training.export import export_run
from MedalSLib.training.prepared_folder import open_prepared
from MedalSLib.training.recipe import Recipe, load_recipe
from MedalSLib.training.run_folder import RunFolder, data_digest
from MedalSLib.training.samples import SampleStream
from MedalSLib.training.steps import Hooks, OnProgress, StepReport, TrainResult
from MedalSLib.training.trainer import Trainer

_LAST_LOSSES = 20


@dataclass(frozen=True)
class TrainOptions:
    """Arguments of `medals train`.

    Attributes:
        prepared: Prepared folder.
        folder: The run's folder.
        recipe: A recipe that ships with Medal S, or a JSON file.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that is in the folder.
        steps: Last step of this call; None for the whole schedule.
        text_encoder: Folder of the published text encoder, for recipes that use it.
    """

    prepared: Path
    folder: Path
    recipe: str | Path = "small_stage1"
    device: str = "auto"
    resume: bool = False
    steps: int | None = None
    text_encoder: Path | None = None


def train(
    options: TrainOptions, on_progress: OnProgress | None = None, cancel: threading.Event | None = None
) -> dict[str, Any]:
    """Train a network; under `torchrun` all its processes call this.

    Args:
        options: What to train.
        on_progress: Progress, in the leading process.
        cancel: Set it to stop after the step that runs, with a checkpoint.

    Returns:
        Steps, last losses, seconds and the exported model, as JSON-ready values.

    Raises:
        InputError: The data, the recipe or the run's checkpoint cannot be used.
        OutputError: The run's folder holds something else.
        ResourceError: The device is missing or has not enough memory.
        CancelledError: `cancel` was set.
    """
    recipe = load_recipe(options.recipe)
    if options.text_encoder is not None:
        recipe = replace(recipe, text=replace(recipe.text, folder=str(options.text_encoder)))
    prepared = open_prepared(options.prepared)
    with world(options.device) as here:
        source, model = SampleStream(prepared, recipe), new_model(recipe)
        folder = RunFolder(options.folder)
        facts = {"data": str(prepared.root), "data_digest": data_digest(prepared)}

        def on_step(report: StepReport) -> None:
            if on_progress:
                details = f"loss {report.loss:.4f}, {report.seconds:.2f} s"
                on_progress("training", report.step, report.total_steps, details)

        hooks = Hooks(on_step, cancel=cancel)
        trainer = Trainer(model, source, recipe, here, folder, hooks)
        trainer.start(facts, options.resume)
        result = trainer.run(options.steps)
        exported = export_run(folder.root / "model", trainer, prepared) if here.leads else None
        folder.close()
        here.wait()
    return _report(result, recipe, folder, here, exported)


def _report(result: TrainResult, recipe: Recipe, folder: RunFolder, here: World, model: Path | None) -> dict[str, Any]:
    losses, last = result.losses, result.losses[-_LAST_LOSSES:]
    return {
        "run": str(folder.root),
        "model": str(model) if model else None,
        "step": result.step,
        "total_steps": recipe.learning_rate().total_steps,
        "first_loss": losses[0] if losses else None,
        "last_loss": sum(last) / len(last) if losses else None,
        "seconds": round(result.seconds, 2),
        "steps_per_second": round(len(losses) / result.seconds, 4) if losses and result.seconds else None,
        "processes": here.size,
        "device": str(here.device),
    }
