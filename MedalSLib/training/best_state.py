"""The best state of a fine-tuning by held-out Dice, found by the same inference that users run.

A state in which a structure is found worse than before training is never the best one, however good the mean is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from MedalSLib.network.medals import MedalS
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.curve import CURVE, draw_curve
from MedalSLib.training.distributed import World
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.run_folder import RunFolder, load_checkpoint, save_checkpoint
from MedalSLib.training.scoring import by_structure, case_dice, mean_dice

_TOLERATED = 0.02
"""How much Dice a structure may lose to the others."""


@dataclass(eq=False)
class BestState:
    """Scores the model on held-out cases and keeps its best state in the run's folder.

    Attributes:
        folder: The run's folder.
        prepared: The prepared cases.
        held_out: Those to score.
        here: This process among those of the run.
        patience: Checks without a better mean Dice after which training stops.
        cancel: Set it to stop a check.
        before: Dice by structure before training.
        scores: Dice by structure of the best state.
        step: Step of the best state.
    """

    folder: RunFolder
    prepared: PreparedFolder
    held_out: Sequence[CaseRecord]
    here: World
    patience: int
    cancel: threading.Event | None
    before: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    step: int = 0
    _waited: int = 0

    @property
    def _path(self) -> Path:
        return self.folder.root / "best.pt"

    def load(self) -> None:
        """Go on with the best state of an interrupted run, if there is one."""
        if self._path.is_file():
            stored = load_checkpoint(self._path)
            self.before, self.scores = dict(stored["before"]), dict(stored["scores"])
            self.step, self._waited = int(stored["step"]), int(stored["waited"])

    def check(self, model: PromptedModel, step: int) -> bool:
        """Score the model; returns whether it has not become better for `patience` checks.

        Raises:
            CancelledError: `cancel` was set.
        """
        scores = self._held_out_dice(model)
        if step == 0:
            self.before = scores
        better = not self.scores or (mean_dice(scores) > mean_dice(self.scores) and not self._lost(scores))
        self._waited = 0 if better else self._waited + 1
        if better:
            self.scores, self.step = scores, step
        if self.here.leads:
            weights = model.network.state_dict() if better else load_checkpoint(self._path)["network"]
            facts = {"before": self.before, "scores": self.scores, "step": self.step, "waited": self._waited}
            save_checkpoint(facts | {"network": weights}, self._path)
            self.folder.log(
                {"step": step, "held_out_dice": mean_dice(scores)} | {f"dice/{k}": v for k, v in scores.items()}
            )
            draw_curve(self.folder.entries(), self.folder.root / CURVE)
        return self._waited >= self.patience

    def _lost(self, scores: dict[str, float]) -> list[str]:
        """Return the structures that were found better before training."""
        return [key for key, before in self.before.items() if scores.get(key, 0.0) < before - _TOLERATED]

    def _held_out_dice(self, model: PromptedModel) -> dict[str, float]:
        """Return the mean Dice of each structure over the cases that contain it, found from its name alone."""
        scores = [
            score
            for case in self.held_out
            for score in case_dice(model, self.prepared, case, self.here.device, self.cancel)
        ]
        return by_structure(scores)

    def load_into(self, network: MedalS) -> None:
        """Put the best state into a network."""
        network.load_state_dict(load_checkpoint(self._path)["network"])
