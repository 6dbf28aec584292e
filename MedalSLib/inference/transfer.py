"""Arrays to a GPU and back, with as little waiting and as few bytes as may be."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it from pinned memory while the program goes on."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    try:
        pinned = values.pin_memory()
    except RuntimeError:  # systems limit how much of their memory may be pinned
        return values.to(device)
    return pinned.to(device, non_blocking=True)


def packed_bits(mask: Tensor) -> np.ndarray:
    """Pack a boolean (a, b, c) along its last axis, as `numpy.packbits`: on a GPU there, so that an eighth is fetched.

    Returns:
        uint8 (a, b, ceil(c / 8)).
    """
    bits: np.ndarray
    if mask.device.type == "cpu":
        bits = np.packbits(np.ascontiguousarray(mask.numpy()), axis=-1)
        return bits
    high, wide, deep = mask.shape
    eights = functional.pad(mask.to(torch.uint8), (0, -deep % 8)).view(high, wide, -1, 8)
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=mask.device)
    bits = (eights << places).sum(dim=-1, dtype=torch.uint8).cpu().numpy()
    return bits
