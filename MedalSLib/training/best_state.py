"""The best state of a fine-tuning by held-out Dice, found by the same inference that users run."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import torch

from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import plain_plan
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.network.medals import MedalS
from MedalSLib.training.case_store import CaseReader, CaseRecord
from MedalSLib.training.distributed import World
from MedalSLib.training.precision import autocast_type
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from MedalSLib.training.texts import canonical_key


class BestState:
    """Scores the model on held-out cases and keeps its best state in the run's folder.

    Args:
        folder: The run's folder.
        prepared: The prepared cases.
        held_out: Those to score.
        here: This process among those of the run.
        patience: Checks without a better mean Dice after which training stops.
        cancel: Set it to stop a check.

    Attributes:
        before: Dice by structure before training.
        scores: Dice by structure of the best state.
        step: Step of the best state.
    """

    def __init__(
        self,
        folder: RunFolder,
        prepared: PreparedFolder,
        held_out: Sequence[CaseRecord],
        here: World,
        patience: int,
        cancel: threading.Event | None,
    ) -> None:
        self._path, self._prepared, self._held_out = folder.root / "best.pt", prepared, held_out
        self._here, self._patience, self._folder, self._cancel = here, patience, folder, cancel
        self.before: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.step = 0
        self._waited = 0

    def load(self) -> None:
        """Go on with the best state of an interrupted run, if there is one."""
        if self._path.is_file():
            stored = load_checkpoint(self._path)
            self.before, self.scores = dict(stored["before"]), dict(stored["scores"])
            self.step, self._waited = int(stored["step"]), int(stored["waited"])

    def check(self, model: PromptedModel, step: int) -> bool:
        """Score the model; returns whether it has not become better for `patience` checks."""
        dtype = autocast_type("auto", self._here.device)
        scores = held_out_dice(model, self._prepared, self._held_out, self._here.device, dtype, self._cancel)
        if step == 0:
            self.before = scores
        better = not self.scores or mean_dice(scores) > mean_dice(self.scores)
        self._waited = 0 if better else self._waited + 1
        if better:
            self.scores, self.step = scores, step
        if self._here.leads:
            weights = model.network.state_dict() if better else load_checkpoint(self._path)["network"]
            facts = {"before": self.before, "scores": self.scores, "step": self.step, "waited": self._waited}
            save_checkpoint(facts | {"network": weights}, self._path)
            self._folder.log(
                {"step": step, "held_out_dice": mean_dice(scores)} | {f"dice/{k}": v for k, v in scores.items()}
            )
        return self._waited >= self._patience

    def load_into(self, network: MedalS) -> None:
        """Put the best state into a network."""
        network.load_state_dict(load_checkpoint(self._path)["network"])


def mean_dice(scores: dict[str, float]) -> float:
    """Return the mean over the structures, 0 if there are none."""
    return float(np.mean(list(scores.values()))) if scores else 0.0


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
