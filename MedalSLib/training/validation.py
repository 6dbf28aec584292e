"""Held-out Dice on prepared cases, by the same inference that users run."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from MedalSLib.errors import CancelledError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import plain_plan
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.training.case_store import CaseReader, CaseRecord
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.texts import canonical_key


def held_out_dice(
    model: PromptedModel,
    prepared: PreparedFolder,
    cases: Sequence[CaseRecord],
    device: torch.device,
    autocast: torch.dtype | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, float]:
    """Return the mean Dice of each structure over the cases that contain it, found from its name alone.

    Args:
        model: The model; it is put into evaluation mode.
        prepared: The folder of the cases.
        cases: Cases to score.
        device: Where the model is.
        autocast: Precision; None for float32.
        cancel: Set it to stop.

    Raises:
        CancelledError: `cancel` was set.
    """
    model.eval()
    reader = CaseReader(prepared.root)
    compute = Compute(device=str(device), autocast=autocast)
    hooks = StageHooks(should_cancel=cancel.is_set if cancel is not None else None)
    found: dict[str, list[float]] = {}
    for case in cases:
        if cancel is not None and cancel.is_set():
            raise CancelledError
        image, labels = reader.whole(case)
        present = sorted(case.voxels)
        texts = [prepared.datasets[case.dataset].texts[label] for label in present]
        with torch.no_grad():
            queries = model.queries([[lines[0] for lines in texts]], [case.modality], device)[0]
        # Prepared cases are on the network's grid already.
        as_it_is = plain_plan(case.shape_hwd, prepared.spec.spacing_hwd, prepared.spec)
        result = run_stage(model.network, queries, image, as_it_is, compute=compute, hooks=hooks)
        for position, (label, lines) in enumerate(zip(present, texts, strict=True)):
            mask = result.masks[position].array()
            truth = labels == label
            overlap = 2.0 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))
            found.setdefault(canonical_key(lines, case.modality), []).append(float(overlap))
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}
