"""How a device computes by default: half precision on a GPU, OpenVINO on a CPU where it is installed."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedalSLib.inference.compute import Compute

_TORCH, _EXACT, _HALF = "torch", "openvino", "openvino-bf16"
_SMALL_PATCH = 1 << 20
"""Voxels of a patch on which a GPU has too little to do, so that two passes take hardly longer than one."""
_CPU_INFO = Path("/proc/cpuinfo")


def choose_compute(device: str) -> Compute:
    """Return device, precision and form of the networks for a run.

    On a CPU, OpenVINO computes in bf16 where the processor has matrix units for it (AMX, which only Linux tells of),
    else in float32.  `MEDALS_CPU_ENGINE` in the environment says otherwise: "torch" keeps OpenVINO out, "openvino"
    keeps it in float32, and "openvino-bf16" lets it compute in bf16 without AMX, which is up to twice as fast on
    processors with other units for it.

    Args:
        device: Torch device name.
    """
    import torch

    from MedalSLib.inference.compute import Compute

    if device.startswith("cuda"):
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return Compute(device, autocast=half, batch_voxels=_SMALL_PATCH, fast=True)
    engine = os.environ.get("MEDALS_CPU_ENGINE", "").strip().lower()
    if device != "cpu" or engine == _TORCH:
        return Compute(device)
    in_half = engine == _HALF or (engine != _EXACT and has_matrix_units())
    return Compute(device, autocast=torch.bfloat16 if in_half else None, fast=True)


@lru_cache(maxsize=1)
def has_matrix_units(cpu_info: Path = _CPU_INFO) -> bool:
    """Say whether the processor multiplies matrices of bf16 (AMX), as far as the system tells.

    Args:
        cpu_info: Where Linux describes the processor.
    """
    try:
        flags = next((line for line in cpu_info.read_text().splitlines() if line.startswith("flags")), "")
    except OSError:
        return False
    return "amx_bf16" in flags.split()
