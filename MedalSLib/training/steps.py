"""What a training run tells while it goes on, and what it asks: steps, results and hooks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StepReport:
    """One step.

    Attributes:
        step: Its number, from 1.
        total_steps: Steps of the whole run.
        loss: Mean loss of its batches.
        dice: Mean Dice part.
        bce: Mean cross-entropy part.
        learning_rate: Learning rate.
        gradient_norm: Norm of the gradient before clipping; 0 if it was not clipped.
        seconds: Seconds it took, loading included.
    """

    step: int
    total_steps: int
    loss: float
    dice: float
    bce: float
    learning_rate: float
    gradient_norm: float
    seconds: float

    def to_log(self) -> dict[str, float]:
        """Return what a line of the log says."""
        return {
            "step": self.step,
            "loss": self.loss,
            "dice_loss": self.dice,
            "bce_loss": self.bce,
            "learning_rate": self.learning_rate,
            "gradient_norm": self.gradient_norm,
            "seconds": round(self.seconds, 4),
        }


OnStep = Callable[[StepReport], None]
OnProgress = Callable[[str, int, int, str], None]
"""Called as `(what is being done, done, in all, details)`; for a sentence that stays, with zeros."""


@dataclass
class Hooks:
    """What is called while training runs.

    Attributes:
        on_step: After every step, in the leading process.
        check: Every `check_every` steps and at the end, in every process: returns True to stop early.
        check_every: Steps between two checks; 0 for none.
        cancel: Set it to stop after the step that runs; a checkpoint is written first.
    """

    on_step: OnStep | None = None
    check: Callable[[int], bool] | None = None
    check_every: int = 0
    cancel: threading.Event | None = None


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Last step done.
        losses: Loss of every step of this call.
        seconds: Seconds of this call.
    """

    step: int
    losses: tuple[float, ...]
    seconds: float
