"""The arithmetic of training: which type a device computes in, and what must stay in float32."""

from __future__ import annotations

import types

import torch
from torch import Tensor, nn

_DEEP_STAGES = 2


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of a precision setting on a device, None for float32."""
    if precision == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if native else None
    return {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[precision]


def keep_deep_stages_in_float32(encoder_stages: nn.Module) -> None:
    """Take the deepest stages of a U-Net's encoder out of autocast on the CPU, in place.

    On the CPU, the weight gradient of a bfloat16 convolution over a volume of a few voxels comes out wrong (measured
    with torch 2.13 on the deepest stage, 2 x 2 x 2 voxels: 90 % off, now and then 1e31), and these stages cost next to
    nothing in full precision.
    """
    for stage in list(encoder_stages.children())[-_DEEP_STAGES:]:
        # A bound method and not a closure: a deep copy (the averaged model) then computes with its own weights.
        stage.forward = types.MethodType(_forward_in_float32, stage)


def _forward_in_float32(stage: nn.Module, features: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return type(stage).forward(stage, features.float())
