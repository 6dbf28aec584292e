"""How much memory a run took, as the report states it."""

from __future__ import annotations

import sys


class MemoryProbe:
    """Peak memory since its creation: allocated on a GPU, resident on the CPU (where only the process's peak is known).

    Args:
        device: Torch device name.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        if device.startswith("cuda"):
            import torch

            torch.cuda.reset_peak_memory_stats(device)

    def peak_mb(self) -> float | None:
        """Peak in MiB, None where it cannot be read."""
        if self._device.startswith("cuda"):
            import torch

            return torch.cuda.max_memory_allocated(self._device) / 2**20
        try:
            import resource
        except ImportError:  # Windows has no getrusage
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def free_memory_mb(device: str) -> float | None:
    """Memory free now on a device, in MiB; None where it cannot be read."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0] / 2**20
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.virtual_memory().available) / 2**20
