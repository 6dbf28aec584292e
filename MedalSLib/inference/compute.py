"""How a run computes: device, precision and what is held at once.  The memory ladder turns one into the next."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Compute:
    """Where and in which precision the networks run, and how much is held at once.

    Only `autocast` and half-precision accumulators change the figures; `fast` adds up in another order, which moves a
    voxel in some ten thousand; all else gives the same masks.

    Attributes:
        device: Torch device of the networks.
        autocast: Precision of the networks, None for float32.
        accumulator_device: Where probabilities are blended; None for `device`.
        accumulator_dtype: float32, or float16 (blended probabilities are then exact to about 0.001).
        class_chunk: Classes blended in one sweep over the patches, None for all.  Further sweeps run the networks
            again, unless the voxel features of patches without prompts are cached.
        batch_voxels: Prompted patches of up to so many voxels run both of their passes as one batch.  Which patches
            those are does not depend on the memory that is free, so that the same run gives the same figures.
        fast: Whether networks run in the form made for the device (see `backends`): channels last in half precision on
            a GPU with `autocast`, OpenVINO on a CPU where it is installed.
        memory_limit_mb: MiB that a run may take: steps down the memory ladder are taken beforehand until the estimate
            fits; None to take them only when memory runs out.
        free_memory_mb: MiB free on the device: classes run in as many sweeps as their sums need to fit there, which
            changes no answer; None if that is not known.
    """

    device: str = "cpu"
    autocast: torch.dtype | None = None
    accumulator_device: str | None = None
    accumulator_dtype: torch.dtype = torch.float32
    class_chunk: int | None = None
    batch_voxels: int = 0
    fast: bool = False
    memory_limit_mb: float | None = None
    free_memory_mb: float | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device of the networks."""
        return torch.device(self.device)

    @property
    def blending_device(self) -> torch.device:
        """The device of the accumulators."""
        return torch.device(self.accumulator_device or self.device)

    def precision(self) -> AbstractContextManager[object]:
        """Return the autocast context of the networks."""
        if self.autocast is None or (self.fast and self.torch_device.type == "cpu"):
            return nullcontext()  # OpenVINO was told its precision when it compiled
        return torch.autocast(self.torch_device.type, dtype=self.autocast)
