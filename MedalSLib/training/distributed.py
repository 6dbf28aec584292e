"""Several processes of one run, as `torchrun` starts them, on GPUs (nccl) or CPUs (gloo)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed

from MedalSLib.errors import ResourceError


@dataclass(frozen=True)
class World:
    """This process among those of a run.

    Attributes:
        rank: Its number; 0 writes logs and checkpoints.
        size: Number of processes.
        device: Its device.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def agree(self, value: bool) -> bool:
        """Return whether any process says yes."""
        if self.size == 1:
            return value
        flag = torch.tensor([float(value)], device=self.device)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return bool(flag.item() > 0)

    def mean(self, values: list[float]) -> list[float]:
        """Return the mean of each number over the processes."""
        if self.size == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return (total / self.size).tolist()


@contextmanager
def world(device: str = "auto") -> Iterator[World]:
    """Join the processes that `torchrun` started; alone if it did not.

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        ResourceError: There is no such device.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(rank, size, chosen)
    finally:
        distributed.destroy_process_group()


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """Return a device by name; "auto" takes a CUDA GPU if there is one, the one of this process.

    Raises:
        ResourceError: There is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ResourceError(f'"{name}" is no device.', "Use auto, cpu, cuda, cuda:1 or mps.") from error
    missing = (
        device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count())
    ) or (device.type == "mps" and not torch.backends.mps.is_available())
    if missing or device.type not in ("cpu", "cuda", "mps"):
        raise ResourceError(f'This computer has no device "{name}".', "Use --device cpu, or another one.")
    return device
