"""The best state of a fine-tuning by held-out Dice, kept on disk over interruptions."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from MedalSLib.network import MedalS
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.distributed import World
from MedalSLib.training.precision import autocast_type
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from MedalSLib.training.validation import held_out_dice


class BestState:
    """Scores the model on held-out cases and remembers its best state, also over an interruption."""

    def __init__(
        self,
        path: Path,
        prepared: PreparedFolder,
        held_out: Sequence[CaseRecord],
        here: World,
        patience: int,
        files: RunFolder,
        cancel: threading.Event | None,
    ) -> None:
        self._path, self._prepared, self._held_out = path, prepared, held_out
        self._here, self._patience, self._files, self._cancel = here, patience, files, cancel
        self.before: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.step = 0
        self._waited = 0
        if path.is_file():
            stored = load_checkpoint(path)
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
            self._files.log(
                {"step": step, "held_out_dice": mean_dice(scores)} | {f"dice/{k}": v for k, v in scores.items()}
            )
        return self._waited >= self._patience

    def load_into(self, network: MedalS) -> None:
        """Put the best state into a network."""
        network.load_state_dict(load_checkpoint(self._path)["network"])


def mean_dice(scores: dict[str, float]) -> float:
    """Return the mean over the structures, 0 if there are none."""
    return float(np.mean(list(scores.values()))) if scores else 0.0
