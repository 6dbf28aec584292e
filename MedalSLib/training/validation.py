"""Held-out Dice on prepared cases, by the same inference that users run."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from MedalSLib.errors import CancelledError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.inference.tiling import tiles
from MedalSLib.network import MedalS
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
    assert isinstance(model.network, MedalS)
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
        result = run_stage(
            model.network, queries, image, plan_as_it_is(case.shape_hwd, prepared.spec), compute=compute, hooks=hooks
        )
        for position, (label, lines) in enumerate(zip(present, texts, strict=True)):
            mask = result.masks[position].unpack()
            truth = labels == label
            overlap = 2.0 * np.count_nonzero(mask & truth) / (np.count_nonzero(mask) + np.count_nonzero(truth))
            found.setdefault(canonical_key(lines, case.modality), []).append(float(overlap))
    return {key: float(np.mean(values)) for key, values in sorted(found.items())}


def plan_as_it_is(shape_hwd: tuple[int, int, int], spec: StageSpec) -> ResamplingPlan:
    """Return the plan of a volume that is on the network's grid already."""
    high, wide, deep = (max(0, patch - size) for patch, size in zip(spec.patch_hwd, shape_hwd, strict=True))
    padded = (shape_hwd[0] + high, shape_hwd[1] + wide, shape_hwd[2] + deep)
    return ResamplingPlan(
        original_shape=shape_hwd,
        spacing=spec.spacing_hwd,
        target_spacing=spec.spacing_hwd,
        resampled_shape=shape_hwd,
        padding=(high, wide, deep),
        shape=padded,
        tiles=tiles(padded, spec.patch_hwd),
        patch=spec.patch_hwd,
        refinement_iterations=0,
        separate_axis=None,
    )
