"""Arrays to a GPU and back, with as little waiting and as few bytes as may be."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.inference.packed import packed_bits


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it from pinned memory while the program goes on."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    try:
        pinned = values.pin_memory()
    except RuntimeError:  # systems limit how much of their memory may be pinned
        return values.to(device)
    return pinned.to(device, non_blocking=True)


def fetched_bits(mask: Tensor) -> np.ndarray:
    """Pack a boolean (a, b, c) as `packed_bits` does: on a GPU there, so that an eighth is fetched.

    Returns:
        uint8 (a, b, ceil(c / 8)).
    """
    if mask.device.type == "cpu":
        return packed_bits(mask.numpy())
    high, wide, deep = mask.shape
    eights = functional.pad(mask.to(torch.uint8), (0, -deep % 8)).view(high, wide, -1, 8)
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=mask.device)
    bits: np.ndarray = (eights << places).sum(dim=-1, dtype=torch.uint8).cpu().numpy()
    return bits
