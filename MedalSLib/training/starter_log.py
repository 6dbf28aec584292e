"""What a starter's training says of itself."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from MedalSLib.training.starter_batches import Batch


class Log:
    """Running means that stay on the device until they are shown.

    Args:
        plans: Number of kinds of batches.
        classes: Number of structures.
        device: The training device.
    """

    def __init__(self, plans: int, classes: int, device: torch.device) -> None:
        self.loss = torch.zeros((plans, 2), device=device)
        self.dice = torch.zeros((plans, classes, 2), device=device)
        self.begin, self.steps = time.perf_counter(), 0

    def add(self, plan: int, loss: Tensor, dice: Tensor, batch: Batch) -> None:
        """Count one step."""
        self.steps += 1
        self.loss[plan, 0] += loss
        self.loss[plan, 1] += 1
        counts = (batch.real & batch.target.flatten(2).any(2)).float()
        self.dice[plan, :, 0].index_add_(0, batch.classes.flatten(), (dice * counts).flatten())
        self.dice[plan, :, 1].index_add_(0, batch.classes.flatten(), counts.flatten())

    def flush(self, names: list[str]) -> tuple[str, bool]:
        """Return a line about the steps since the last call, and whether the losses were finite."""
        seconds, self.begin = time.perf_counter() - self.begin, time.perf_counter()
        loss = (self.loss[:, 0] / self.loss[:, 1].clamp_min(1)).tolist()
        sums = self.dice.cpu()
        asked = [index for index in range(len(names)) if sums[:, index, 1].any()]
        dice = " | ".join(
            " ".join(f"{_short(names[index])}:{float(table[index, 0] / table[index, 1]):.2f}" for index in asked
                     if table[index, 1] > 0)
            for table in sums[:2]
        )  # fmt: skip
        text = f"{self.steps / max(seconds, 1e-9):.2f} steps/s loss {' '.join(f'{v:.3f}' for v in loss)} dice {dice}"
        self.loss.zero_()
        self.dice.zero_()
        self.steps = 0
        return text, all(math.isfinite(value) for value in loss)


def _short(name: str) -> str:
    """Return the first letters of the first and the last word."""
    first, *others = name.split()
    return first[:4] + (others[-1][:2] if others else "")
