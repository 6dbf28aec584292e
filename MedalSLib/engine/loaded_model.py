"""A model on a device, as all sessions of an engine share it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from MedalSLib.engine.caches import CacheSettings
from MedalSLib.engine.device import Device
from MedalSLib.engine.memory_probe import free_memory_mb

if TYPE_CHECKING:
    from MedalSLib.inference.compute import Compute
    from MedalSLib.network.bundle import Model


@dataclass
class LoadedModel:
    """A model on a device, as all sessions of an engine share it.

    Attributes:
        model: The model.
        device: Where its networks run.
        memory_limit_mb: Act as if the device had no more memory than this; None for what is free.
        caches: How much each session may keep of its image.
        seconds_per_run: How long a network takes for a patch here; None before the first run.
    """

    model: Model
    device: Device
    memory_limit_mb: float | None
    caches: CacheSettings
    seconds_per_run: float | None = None

    def free_memory_mb(self) -> float | None:
        """MiB that a run may take."""
        return self.memory_limit_mb or free_memory_mb(self.device.name)

    def compute(self) -> Compute:
        """How a run computes here."""
        from MedalSLib.engine.computing import choose_compute

        free = self.free_memory_mb()
        return replace(choose_compute(self.device.name), memory_limit_mb=self.memory_limit_mb, free_memory_mb=free)
