"""Dice of a model on prepared cases, found by the same inference that users run."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedalSLib.errors import InputError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import plain_plan
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.network.bundle import Model, open_model
from MedalSLib.training.building import model_from
from MedalSLib.training.case_store import CaseReader, CaseRecord
from MedalSLib.training.distributed import choose_device
from MedalSLib.training.precision import autocast_type
from MedalSLib.training.prepared_folder import PreparedFolder, open_prepared
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.steps import OnProgress
from MedalSLib.training.texts import canonical_key


@dataclass(frozen=True)
class CaseDice:
    """Dice of one structure in one case.

    Attributes:
        case: The case.
        structure: "MODALITY_Name".
        dice: Dice.
        voxels: Voxels of the truth.
    """

    case: str
    structure: str
    dice: float
    voxels: int


def case_dice(
    model: PromptedModel,
    prepared: PreparedFolder,
    case: CaseRecord,
    device: torch.device,
    cancel: threading.Event | None = None,
) -> list[CaseDice]:
    """Return the Dice of each structure that a case contains, found from its name alone.

    Args:
        model: The model, on the device; put into evaluation mode.
        prepared: The folder the case is in.
        case: The case.
        device: Where to compute.
        cancel: Set it to stop within one patch.

    Raises:
        CancelledError: `cancel` was set.
    """
    model.eval()
    image, labels = CaseReader(prepared.root).whole(case)
    present = sorted(case.voxels)
    texts = [prepared.datasets[case.dataset].texts[label] for label in present]
    with torch.no_grad():
        queries = model.queries([[lines[0] for lines in texts]], [case.modality], device)[0]
    # Prepared cases are on the network's grid already.
    as_it_is = plain_plan(case.shape_hwd, prepared.spec.spacing_hwd, prepared.spec)
    compute = Compute(device=str(device), autocast=autocast_type("auto", device))
    hooks = StageHooks(should_cancel=None if cancel is None else cancel.is_set)
    result = run_stage(model.network, queries, image, as_it_is, compute=compute, hooks=hooks)
    found = []
    for mask, label, lines in zip(result.masks, present, texts, strict=True):
        here, truth = mask.array(), labels == label
        size = int(np.count_nonzero(truth))
        overlap = 2.0 * np.count_nonzero(here & truth) / (np.count_nonzero(here) + size)
        found.append(CaseDice(case.identifier, canonical_key(lines, case.modality), float(overlap), size))
    return found


def by_structure(scores: Sequence[CaseDice]) -> dict[str, float]:
    """Return the mean Dice of each structure over the cases that contain it."""
    found: dict[str, list[float]] = {}
    for score in scores:
        found.setdefault(score.structure, []).append(score.dice)
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}


def mean_dice(scores: dict[str, float]) -> float:
    """Return the mean over the structures, 0 if there are none."""
    return float(np.mean(list(scores.values()))) if scores else 0.0


@dataclass(frozen=True)
class ValidateOptions:
    """Arguments of `medals validate`.

    Attributes:
        prepared: Prepared folder.
        model: Name or folder of the model.
        device: "auto", "cpu", "cuda" or "mps".
    """

    prepared: Path
    model: str = "starter"
    device: str = "auto"


def validate(
    options: ValidateOptions, on_progress: OnProgress | None = None, cancel: threading.Event | None = None
) -> dict[str, Any]:
    """Score a model on a prepared folder, by the stage whose grid it was prepared for.

    Args:
        options: What to score.
        on_progress: Progress.
        cancel: Set it to stop.

    Returns:
        Mean Dice, Dice by structure and of every case, as JSON-ready values.

    Raises:
        InputError: The folder is none, or none of the model's stages has its grid.
        ModelError: The model cannot be opened.
        CancelledError: `cancel` was set.
    """
    prepared, device = open_prepared(options.prepared), choose_device(options.device)
    base = open_model(options.model, "cpu")
    stage = _stage_for(base, prepared)
    model = model_from(
        base.network(stage), lambda *lists: base.encode(list(zip(*lists, strict=True))), prepared.spec.patch_hwd
    ).to(device)
    scores: list[CaseDice] = []
    for done, case in enumerate(prepared.cases, 1):
        scores += case_dice(model, prepared, case, device, cancel)
        if on_progress:
            on_progress("validating", done, len(prepared.cases), case.identifier)
    means = by_structure(scores)
    return {
        "model": f"{base.manifest.name} {base.manifest.version}",
        "stage": stage,
        "cases": len(prepared.cases),
        "mean_dice": mean_dice(means),
        "dice": means,
        "by_case": [asdict(score) for score in scores],
    }


def _stage_for(base: Model, prepared: PreparedFolder) -> str:
    """Return the stage that sees what the folder holds; the first one that does."""
    modality = prepared.cases[0].modality if prepared.cases else ""
    grids = []
    for stage in base.manifest.stages:
        used = stage.used_for(modality)
        if used.spacing_hwd == prepared.spec.spacing_hwd and used.resampling == prepared.spec.resampling:
            return stage.stage
        grids.append(f"{' x '.join(f'{size:g}' for size in used.spacing_hwd)} mm ({used.resampling})")
    wanted = f"{' x '.join(f'{size:g}' for size in prepared.spec.spacing_hwd)} mm ({prepared.spec.resampling})"
    raise InputError(
        f"{prepared.root} was prepared for {wanted}, the model sees {', '.join(grids)}.",
        "Prepare the cases with a recipe of the model's grid.",
    )
