"""What a fine-tuning ends in: the model folder with its card, and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedalSLib.network.bundle import Model
from MedalSLib.network.medals import MedalS
from MedalSLib.training.best_state import BestState
from MedalSLib.training.export import ModelFacts, model_name, write_model
from MedalSLib.training.prepared_folder import PreparedFolder


@dataclass(frozen=True)
class StageResult:
    """One fine-tuned stage.

    Attributes:
        stage: "1" or "2".
        network: Its best network.
        prepared: The user's cases on its grid.
        held_out: Cases that were held out.
        best: Held-out Dice by structure before training and of the best state.
        steps: Steps that were run.
    """

    stage: str
    network: MedalS
    prepared: PreparedFolder
    held_out: tuple[str, ...]
    best: BestState
    steps: int


def export_fine_tuned(
    base: Model, results: Sequence[StageResult], target: Path, title: str, windows: Mapping[str, str] | None = None
) -> Path:
    """Write the model folder.

    Args:
        base: The model that was begun from; its text encoder and the stages that were not trained are taken over.
        results: The trained stages.
        target: The model folder.
        title: What the user calls the model.
        windows: As of `Manifest`.

    Raises:
        OutputError: It cannot be written.
    """
    tuned = {result.stage for result in results}
    others = [(base.folder, stage) for stage in base.manifest.stages if stage.stage not in tuned]
    classes = _classes(results)
    scores = {f"held-out Dice, stage {result.stage}": result.best.scores for result in results}
    first = results[0]
    data = f"{len(first.prepared.cases) - len(first.held_out)} cases of the user's own, after {base.manifest.name}"
    lines = [f"- {key}: {value:.3f}" for key, value in results[-1].best.scores.items()]
    card = (
        f"# {title}\n\nFine-tuned from {base.manifest.name} {base.manifest.version} on {data}. "
        f"Dice on {len(first.held_out)} held-out case(s), stage {results[-1].stage}, text alone:\n\n"
        + "\n".join(lines)
        + "\n\nWhat the model it began from knew besides may have been forgotten and is not listed. Research use, not "
        "a medical device.\n"
    )
    facts = ModelFacts(
        name=model_name(title),
        title=f"{title} (fine-tuned from {base.manifest.title})",
        classes=classes,
        training_data=data,
        scores=scores,
        card=card,
        licence=base.manifest.licence,
        windows=windows or {},
        # A fine network that was not trained answers to masks alone if it did before.
        text_stages="both" if "2" in tuned else base.manifest.text_stages,
    )
    networks = {result.stage: (result.network, result.prepared.spec) for result in results}
    return write_model(target, facts, networks, None, (base.folder, base.manifest.text_encoder), others)


def fine_tune_report(model: Path, results: Sequence[StageResult]) -> dict[str, Any]:
    """Return what a fine-tuning did as JSON-ready values."""
    return {
        "model": str(model),
        "classes": list(_classes(results)),
        "stages": {
            result.stage: {
                "held_out_dice_before": result.best.before,
                "held_out_dice": result.best.scores,
                "best_step": result.best.step,
                "steps": result.steps,
            }
            for result in results
        },
        "held_out_cases": list(results[0].held_out),
        "cases": len(results[0].prepared.cases),
        **{key: results[0].prepared.report()[key] for key in ("rejected", "notes")},
    }


def _classes(results: Sequence[StageResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key for result in results for key in result.prepared.classes()))
