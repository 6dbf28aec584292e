"""The arithmetic of training: which type a device computes in, and what must stay in float32."""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

_DEEP_STAGES = 2


@lru_cache(maxsize=1)
def processor_has_bfloat16() -> bool:
    """Say whether the processor itself multiplies in bfloat16; others emulate it, fifty times slower than float32."""
    capabilities: Callable[[], dict[str, Any]] | None = getattr(torch.cpu, "get_capabilities", None)  # since 2.10
    found = capabilities() if capabilities is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast type of a precision setting on a device, None for float32.

    A CPU computes in whichever of bfloat16 and float32 is quicker there, unless the setting is "float32".
    """
    if device.type == "cpu":
        return torch.bfloat16 if precision != "float32" and processor_has_bfloat16() else None
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
