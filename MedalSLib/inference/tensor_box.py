"""The box around the large values of a tensor, on whatever device it is (`volume.bounding_box` is for arrays)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.boxes import Box


def tensor_box(values: Tensor, least: float = 1.0) -> Box | None:
    """Return the half-open bounds of the values of at least `least`, None if there are none.

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
