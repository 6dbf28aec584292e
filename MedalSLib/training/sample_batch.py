"""What every data source gives the trainer: batches by number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from MedalSLib.training.distributed import World

_TENSORS = ("image", "target", "union", "prompts", "real")


@dataclass(frozen=True)
class Batch:
    """Samples side by side; those with fewer queries are padded with empty ones.

    Attributes:
        image: (B, 1, H, W, D) float32, 0..255.
        target: (B, N, H, W, D) uint8 or bool.
        union: (B, 1, H, W, D), 0 or 1: where any class is prompted.
        prompts: (B, N, H, W, D), 0 or 1.
        real: (B, N) float32, 1 for a query and 0 for padding.
        texts: Texts of each sample.
        modalities: Modality of each sample.
        datasets: Data set of each sample, for the log.
    """

    image: Tensor
    target: Tensor
    union: Tensor
    prompts: Tensor
    real: Tensor
    texts: tuple[tuple[str, ...], ...]
    modalities: tuple[str, ...]
    datasets: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in _TENSORS})

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; `DataLoader` calls this."""
        return replace(self, **{name: getattr(self, name).pin_memory() for name in _TENSORS})


class DataSource(Protocol):
    """Where the trainer's batches come from.

    A batch must depend on the recipe and on its number alone: this is what makes a resumed run the same, bit for bit,
    as one that was never interrupted, without any random state in the checkpoint.
    """

    def batches(self, first_step: int, last_step: int, world: World) -> Iterable[Batch]:
        """Return this process's batches of some steps, in the order of `batch_numbers`.

        Args:
            first_step: First step, from 1.
            last_step: Last step.
            world: This process among those of the run.
        """


def batch_numbers(first_step: int, last_step: int, accumulate: int, world: World) -> Iterator[int]:
    """Yield the numbers of one process's batches.

    A step has `accumulate * processes` batches, dealt to the processes in turn.  So two processes see in one step what
    one process sees that accumulates twice as many batches.

    Args:
        first_step: First step, from 1.
        last_step: Last step.
        accumulate: Batches of a step in each process.
        world: This process among those of the run.
    """
    for step in range(first_step, last_step + 1):
        for turn in range(accumulate):
            yield (step * accumulate + turn) * world.size + world.rank
