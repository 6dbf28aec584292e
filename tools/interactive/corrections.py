"""What a simulated user corrects: the largest region of error, by a click, a stroke or a whole slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume import bounding_box

Kind = Literal["click", "stroke", "slice"]


@dataclass(frozen=True, eq=False)
class Correction:
    """What a user would do about the largest error.

    Attributes:
        add: True to paint what was missed, False to erase what is too much.
        center_dhw: The click: the voxel of the error that lies deepest inside it.
        painted: Boolean (D, H, W): the voxels of the brush, all of them inside the error.
    """

    add: bool
    center_dhw: tuple[int, int, int]
    painted: np.ndarray

    def apply(self, mask: np.ndarray) -> np.ndarray:
        """Return the mask with the brush applied, as the prompt and the lock of the next round."""
        return mask | self.painted if self.add else mask & ~self.painted


def next_correction(
    truth: np.ndarray,
    found: np.ndarray,
    spacing_dhw: Sequence[float] = (1.0, 1.0, 1.0),
    kind: Kind = "click",
    radius_mm: float = 4.0,
) -> Correction | None:
    """Return the correction of the largest 6-connected region of error, None if there is no error.

    Args:
        truth: Boolean (D, H, W).
        found: Boolean (D, H, W).
        spacing_dhw: Spacing in mm.
        kind: "click" paints a ball around the deepest voxel; "stroke" paints a line through it, within its slice and
            along the error's longest direction there; "slice" paints all of the error in its slice.
        radius_mm: Radius of the brush of a click or stroke.

    Raises:
        InputError: The arrays are of different shapes, or the kind is unknown.
    """
    import cc3d
    from scipy.ndimage import distance_transform_edt

    if truth.shape != found.shape or truth.ndim != 3:
        raise InputError("The truth and the result are on different grids.", "Bring them onto one grid first.")
    if kind not in get_args(Kind):
        raise InputError(f"The correction '{kind}' is unknown.", f"Use one of: {', '.join(get_args(Kind))}.")
    truth, found = truth.astype(bool), found.astype(bool)
    bounds = bounding_box(truth ^ found)
    if bounds is None:
        return None
    box = tuple(slice(*axis) for axis in bounds)
    # Missed and surplus voxels are different errors even where they touch.
    errors = (truth[box] & ~found[box]).astype(np.uint8) + 2 * (found[box] & ~truth[box]).astype(np.uint8)
    regions = cc3d.connected_components(errors, connectivity=6)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0
    inside = regions == int(sizes.argmax())
    depth = distance_transform_edt(np.pad(inside, 1), sampling=spacing_dhw)[1:-1, 1:-1, 1:-1]
    center = np.array(np.unravel_index(int(depth.argmax()), depth.shape))
    painted = np.zeros(truth.shape, bool)
    painted[box] = _brush(inside, center, np.asarray(spacing_dhw, float), kind, radius_mm)
    d, h, w = (int(value) + low for value, (low, _) in zip(center, bounds, strict=True))
    return Correction(bool(truth[d, h, w]), (d, h, w), painted)


def _brush(inside: np.ndarray, center: np.ndarray, spacing: np.ndarray, kind: Kind, radius_mm: float) -> np.ndarray:
    """Return what is painted of an error, boolean (D, H, W) like `inside`."""
    from scipy.ndimage import distance_transform_edt

    core = np.zeros(inside.shape, bool)
    if kind == "slice":
        core[center[0]] = inside[center[0]]
        return core
    if kind == "click":
        core[tuple(center)] = True
    else:
        _draw_line(core, inside, center, spacing)
    return inside & ((distance_transform_edt(~core, sampling=spacing) <= radius_mm) | core)


def _draw_line(core: np.ndarray, inside: np.ndarray, center: np.ndarray, spacing: np.ndarray) -> None:
    """Set in `core` the voxels of a straight line through `center`, in its slice, until it leaves `inside`."""
    plane = np.argwhere(inside[center[0]])
    spread = (plane - center[1:]) * spacing[1:]
    directions = np.linalg.eigh(spread.T @ spread)[1]
    step = directions[:, -1] / spacing[1:]
    step = step / np.abs(step).max()
    core[tuple(center)] = True
    for sign in (1.0, -1.0):
        length = 1
        while True:
            h, w = np.rint(center[1:] + sign * length * step).astype(int)
            if not (0 <= h < inside.shape[1] and 0 <= w < inside.shape[2]) or not inside[center[0], h, w]:
                break
            core[center[0], h, w] = True
            length += 1
