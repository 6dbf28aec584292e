"""What `medals prepare`, `medals train` and `medals fine-tune` do, with plain arguments and JSON-ready reports."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from MedalSLib.errors import InputError
from MedalSLib.training.building import new_model
from MedalSLib.training.distributed import World, world
from MedalSLib.training.dry_run import dry_run
from MedalSLib.training.export import export_run
from MedalSLib.training.fine_tune import FineTuneOptions, fine_tune_model
from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.prepared_folder import PreparedFolder, open_prepared
from MedalSLib.training.recipe import Recipe, load_recipe
from MedalSLib.training.run_folder import RunFolder, data_digest
from MedalSLib.training.samples import SampleStream
from MedalSLib.training.sources import find_sources
from MedalSLib.training.trainer import Hooks, StepReport, Trainer, TrainResult

OnProgress = Callable[[str, int, int, str], None]
"""Called as `(what is being done, done, in all, details)`."""


def prepare(
    source: str | Path,
    output: str | Path,
    recipe: str | Path = "small_stage1",
    *,
    modality: str = "",
    names: Mapping[int, str] | str | Path | None = None,
    prompts: str | Path | None = None,
    window: str = "",
    workers: int = 1,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Prepare a folder of cases for training; running it again goes on where it stopped.

    Args:
        source: Challenge npz files, or images with labels (see `find_sources`).
        output: The prepared folder.
        recipe: Recipe whose grid is prepared: a name that ships with Medal S, or a JSON file.
        modality: Modality of a plain folder; "" to find out.
        names: Names by label of a plain folder, or a JSON file with them.
        prompts: The challenge's prompt file.
        window: Intensity window of a plain folder ("40/400", "lung"); "" for the one of its structures.
        workers: Processes.
        on_progress: Progress.
        cancel: Set it to stop; what is done stays.

    Returns:
        Cases, rejected cases with reasons, notes, structures, and the folder.
    """
    chosen = load_recipe(recipe)
    table = Path(names) if isinstance(names, str | Path) else names
    sources = find_sources(Path(source), modality, table, Path(prompts) if prompts else None)
    folder = prepare_cases(
        sources,
        Path(output),
        PrepareOptions(chosen.stage_spec(), window, workers),
        (lambda done, total, name: on_progress("preparing", done, total, name)) if on_progress else None,
        cancel,
    )
    return prepare_report(folder)


def prepare_report(folder: PreparedFolder) -> dict[str, Any]:
    """Return what was prepared as JSON-ready values."""
    return {
        "folder": str(folder.root),
        "cases": len(folder.cases),
        "datasets": {name: sum(case.dataset == name for case in folder.cases) for name in sorted(folder.datasets)},
        "structures": list(folder.classes()),
        "spacing_hwd": list(folder.spec.spacing_hwd),
        "patch_hwd": list(folder.spec.patch_hwd),
        "rejected": [{"case": case, "reason": reason} for case, reason in folder.rejected],
        "notes": {case.identifier: list(case.notes) for case in folder.cases if case.notes},
    }


def train(
    prepared: str | Path,
    run: str | Path,
    recipe: str | Path = "small_stage1",
    *,
    device: str = "auto",
    resume: bool = False,
    steps: int | None = None,
    text_encoder: str | Path | None = None,
    measure_only: bool = False,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Train a network; under `torchrun` all its processes call this.

    Args:
        prepared: Prepared folder.
        run: The run's folder.
        recipe: A recipe that ships with Medal S, or a JSON file.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with the run that is in the folder.
        steps: Last step of this call; None for the whole schedule.
        text_encoder: Folder of the published text encoder, for recipes that use it.
        measure_only: Train nothing: say how much memory and time the run would take (`--dry-run`).
        on_progress: Progress, in the leading process.
        cancel: Set it to stop after the step that runs, with a checkpoint.

    Returns:
        Steps, last losses, seconds and the exported model; of a dry run, what it measured.
    """
    chosen = with_text_encoder(load_recipe(recipe), text_encoder)
    if measure_only:
        return dry_run(chosen, device, on_progress, cancel)
    folder = open_prepared(Path(prepared))
    with world(device) as here:
        stream, model_to_train = SampleStream(folder, chosen), new_model(chosen)
        files = RunFolder(Path(run))
        if here.leads:
            files.start(chosen, {"data": str(folder.root), "data_digest": data_digest(folder)}, resume)
        here.wait()
        trainer = Trainer(model_to_train, stream, chosen, here, files, _hooks(on_progress, cancel))
        if resume:
            trainer.resume()
        result = trainer.run(steps)
        model = export_run(files.root / "model", trainer, folder) if here.leads else None
        files.close()
        here.wait()
    return _train_report(result, chosen, files, here, model)


def with_text_encoder(recipe: Recipe, folder: str | Path | None) -> Recipe:
    """Return a recipe with the folder of the published text encoder filled in."""
    if folder is None:
        return recipe
    return replace(recipe, text=replace(recipe.text, folder=str(folder)))


def _hooks(on_progress: OnProgress | None, cancel: threading.Event | None) -> Hooks:
    def on_step(report: StepReport) -> None:
        if on_progress:
            details = f"loss {report.loss:.4f}, {report.seconds:.2f} s"
            on_progress("training", report.step, report.total_steps, details)

    return Hooks(on_step=on_step, cancel=cancel)


def _train_report(
    result: TrainResult, recipe: Recipe, files: RunFolder, here: World, model: Path | None
) -> dict[str, Any]:
    done = len(result.losses)
    return {
        "run": str(files.root),
        "model": str(model) if model else None,
        "step": result.step,
        "total_steps": recipe.learning_rate().total_steps,
        "first_loss": result.losses[0] if done else None,
        "last_loss": sum(result.losses[-20:]) / len(result.losses[-20:]) if done else None,
        "seconds": round(result.seconds, 2),
        "steps_per_second": round(done / result.seconds, 4) if done and result.seconds else None,
        "processes": here.size,
        "device": str(here.device),
    }


def fine_tune(
    source: str | Path,
    output: str | Path,
    model: str | Path = "starter",
    *,
    name: str = "",
    stages: tuple[str, ...] = (),
    steps: int = 1000,
    learning_rate: float = 2e-4,
    batch_size: int = 2,
    held_out: float = 0.2,
    patience: int = 5,
    check_every: int = 100,
    freeze: str = "nothing",
    modality: str = "",
    names: Mapping[int, str] | str | Path | None = None,
    window: str = "",
    workers: int = 1,
    device: str = "auto",
    resume: bool = False,
    seed: int = 0,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Teach a model the structures of a folder of labelled cases.

    Args:
        source: Images with labels, as for `prepare`; at least two cases.
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
        modality: Modality of the folder; "" to find out.
        names: Names by label, or a JSON file with them.
        window: Intensity window; "" for the one of the structures.
        workers: Processes that prepare cases.
        device: "auto", "cpu", "cuda" or "mps".
        resume: Go on with what is in `output`.
        seed: Seed of the split and of all draws.
        on_progress: Progress.
        cancel: Set it to stop; `resume` goes on.

    Returns:
        The model's folder, its name, held-out Dice by structure and stage, and the cases that were held out.
    """
    if not 0 < held_out < 1:
        raise InputError(f"held_out is {held_out}.", "Give a share between 0 and 1, such as 0.2.")
    table = Path(names) if isinstance(names, str | Path) else names
    options = FineTuneOptions(
        model=str(model),
        name=name,
        stages=tuple(stages),
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
        held_out=held_out,
        patience=patience,
        check_every=check_every,
        freeze=freeze,
        modality=modality,
        window=window,
        workers=workers,
        device=device,
        resume=resume,
        seed=seed,
    )
    report = fine_tune_model(find_sources(Path(source), modality, table), Path(output), options, on_progress, cancel)
    return json.loads(json.dumps(report))
