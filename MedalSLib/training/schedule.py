"""The learning rate: cosine cycles, each with a linear warm-up and its own peak."""

from __future__ import annotations

import math
from dataclasses import dataclass

from MedalSLib.errors import InputError


@dataclass(frozen=True)
class Cycle:
    """One cosine cycle.

    Attributes:
        steps: Length in optimiser steps, warm-up included.
        peak: Learning rate at the end of the warm-up.
        warmup: Steps of the linear warm-up from 0.
    """

    steps: int
    peak: float
    warmup: int


@dataclass(frozen=True)
class CosineRestarts:
    """Learning rate as a function of the step, 1-based, so that a resumed run needs no state.

    Attributes:
        cycles: Cycles one after the other.
    """

    cycles: tuple[Cycle, ...]

    def __post_init__(self) -> None:
        if not self.cycles or any(cycle.steps < 1 or not 0 <= cycle.warmup < cycle.steps for cycle in self.cycles):
            raise InputError(
                "A schedule needs at least one cycle, each longer than its warm-up.",
                "Give `steps` and `warmup` of each cycle with 0 <= warmup < steps.",
            )

    @property
    def total_steps(self) -> int:
        """Steps of all cycles together."""
        return sum(cycle.steps for cycle in self.cycles)

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, 1 being the first.

        The last step of a cycle counts as one short of a cycle one step longer, so that its rate is not zero
        (reference behaviour).  Steps after the last cycle keep that last rate.
        """
        start = 0
        for cycle in self.cycles:
            if step <= start + cycle.steps:
                break
            start += cycle.steps
        else:
            start -= cycle.steps
        inside = min(step - start, cycle.steps)
        if inside <= cycle.warmup:
            return cycle.peak * inside / cycle.warmup if cycle.warmup else cycle.peak
        done = inside - cycle.warmup
        length = max(cycle.steps - cycle.warmup, done + 1)
        return 0.5 * (1.0 + math.cos(math.pi * done / length)) * cycle.peak
