"""The two orders of a volume's axes inside the engine, and the only functions that turn one into the other.

Everything outside the networks is (D, H, W) = (z, y, x).  The networks were trained on (H, W, D), so patches, plans and
tiles are in that order, as the published figures are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

T = TypeVar("T")

_TO_HWD = (1, 2, 0)
_TO_DHW = (2, 0, 1)


def hwd(values_dhw: Sequence[T]) -> tuple[T, T, T]:
    """Return three values, one an axis (a shape, a spacing, a box), in the networks' order."""
    deep, high, wide = values_dhw
    return high, wide, deep


def dhw(values_hwd: Sequence[T]) -> tuple[T, T, T]:
    """Return three values, one an axis, in the order of the volume."""
    high, wide, deep = values_hwd
    return deep, high, wide


def array_to_hwd(array_dhw: np.ndarray) -> np.ndarray:
    """Return a view (H, W, D) of an array (D, H, W)."""
    return array_dhw.transpose(_TO_HWD)


def array_to_dhw(array_hwd: np.ndarray) -> np.ndarray:
    """Return a view (D, H, W) of an array (H, W, D)."""
    return array_hwd.transpose(_TO_DHW)


def mask_to_hwd(mask_dhw: BoxMask) -> BoxMask:
    """Return a mask with axes (H, W, D)."""
    return mask_dhw.turned(_TO_HWD)


def mask_to_dhw(mask_hwd: BoxMask) -> BoxMask:
    """Return a mask with axes (D, H, W)."""
    return mask_hwd.turned(_TO_DHW)


def boxed_to_dhw(array_hwd: BoxArray) -> BoxArray:
    """Return probabilities with axes (D, H, W), as a view."""
    return array_hwd.turned(_TO_DHW)
