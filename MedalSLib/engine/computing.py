"""How a device computes by default: half precision on a GPU, OpenVINO on a CPU where it is installed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedalSLib.inference.compute import Compute

_TORCH_ONLY = "torch"
_SMALL_PATCH = 1 << 20
"""Voxels of a patch on which a GPU has too little to do, so that two passes take hardly longer than one."""


def choose_compute(device: str) -> Compute:
    """Return device, precision and form of the networks for a run.

    `MEDALS_CPU_ENGINE=torch` in the environment keeps OpenVINO out, and `MEDALS_CPU_ENGINE=openvino-bf16` lets it
    compute in bf16, which is several times as fast on processors that have units for it, and not quite as exact.

    Args:
        device: Torch device name.
    """
    import torch

    from MedalSLib.inference.compute import Compute

    if device.startswith("cuda"):
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return Compute(device, autocast=half, batch_voxels=_SMALL_PATCH, fast=True)
    engine = os.environ.get("MEDALS_CPU_ENGINE", "").strip().lower()
    if device != "cpu" or engine == _TORCH_ONLY:
        return Compute(device)
    return Compute(device, autocast=torch.bfloat16 if engine == "openvino-bf16" else None, fast=True)
