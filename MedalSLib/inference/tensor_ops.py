"""Small operations on the tensors of a volume: boxes, choices voxel by voxel, to a GPU and back.

On CPUs `torch.where` and `masked_fill` take 4 ns for each voxel; sums and products are vectorized and take a tenth.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from MedalSLib.volume.box import Box
from MedalSLib.volume.mask import pack_bits


def tensor_box(values: Tensor, least: float = 1.0) -> Box | None:
    """Return the half-open bounds of the values of at least `least`, None if there are none.

    For tensors on any device; `volume.box.bounding_box` is for arrays.

    Args:
        values: Three axes (A, B, C); booleans count as 0 and 1.
        least: What a value has to reach.
    """
    if not values.numel():
        return None
    if values.dtype == torch.bool:
        values = values.view(torch.uint8)
    lines = values.amax(dim=2)
    found = torch.cat((lines.amax(dim=1), lines.amax(dim=0), values.amax(dim=0).amax(dim=0))) >= least
    first, second, third = np.split(found.cpu().numpy(), np.cumsum(values.shape[:2]))  # from a GPU in one piece
    if not first.any():
        return None
    return _span(first), _span(second), _span(third)


def _span(line: np.ndarray) -> tuple[int, int]:
    return int(line.argmax()), len(line) - int(line[::-1].argmax())


def relabel(labels: Tensor, where: Tensor, value: int) -> None:
    """Give voxels another label, in place.

    Args:
        labels: Integers.
        where: Boolean, of the same shape.
        value: A label that the integers can hold.
    """
    labels.add_((value - labels).mul_(where))  # wraps around and back again


def select(where: Tensor, values: Tensor, others: Tensor) -> Tensor:
    """Choose between values voxel by voxel.

    Args:
        where: Boolean that broadcasts to the values: set for `values`, else `others`.
        values: Values, finite on a CPU.
        others: Values, finite on a CPU.
    """
    if where.device.type != "cpu":
        return torch.where(where, values, others)
    return torch.lerp(others, values, where.to(values.dtype))  # exact at the weights 0 and 1


def threshold_to_zero(values: Tensor, least: float) -> Tensor:
    """Return float32 values, with zeros for what is less than `least`."""
    return functional.threshold(values, float(np.nextafter(np.float32(least), np.float32(-np.inf))), 0.0)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device; a GPU fetches it from pinned memory while the program goes on."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    try:
        pinned = values.pin_memory()
    except RuntimeError:  # systems limit how much of their memory may be pinned
        return values.to(device)
    return pinned.to(device, non_blocking=True)


def bits_of(mask: Tensor) -> np.ndarray:
    """Pack a boolean (a, b, c) as `BoxMask.bits`: on a GPU there, so that an eighth is fetched.

    Returns:
        uint8 (a, b, ceil(c / 8)).
    """
    if mask.device.type == "cpu":
        return pack_bits(mask.numpy())
    high, wide, deep = mask.shape
    eights = functional.pad(mask.to(torch.uint8), (0, -deep % 8)).view(high, wide, -1, 8)
    places = torch.arange(7, -1, -1, dtype=torch.uint8, device=mask.device)
    bits: np.ndarray = (eights << places).sum(dim=-1, dtype=torch.uint8).cpu().numpy()
    return bits
