"""Stage 2's region, and the spacing of the challenge's files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from MedalSLib.inference.class_rules import rules_of
from MedalSLib.inference.resampling_policy import StageSpec, region_spacing
from MedalSLib.network.axes import dhw, hwd
from MedalSLib.volume.box import Box


def stage_2_region(
    box: Box,
    shape_dhw: Sequence[int],
    spacing_dhw: Sequence[float],
    classes: Iterable[str],
    spec: StageSpec,
    *,
    magnify_single: bool = True,
) -> Box:
    """Grow the box of stage 1's labels to the region stage 2 sees (published rule).

    The box grows by a tenth (the airway tree's by half) around its middle and to at least the patch, in the spacing
    the resampling policy gives the whole volume.

    Args:
        box: Half-open bounding box (D, H, W) of the labels.
        shape_dhw: Whole volume in voxels.
        spacing_dhw: Its spacing in mm.
        classes: Classes of the run.
        spec: What stage 2's network was trained on.
        magnify_single: As in `resampling_policy.plan`.

    Returns:
        Half-open bounds (D, H, W) within the volume.
    """
    keys = frozenset(classes)
    growth = rules_of(keys).region_growth
    spacing = region_spacing(shape_dhw, spacing_dhw, keys, spec, magnify_single and len(keys) == 1)
    patch, target = dhw(spec.patch_hwd), dhw(spec.spacing_hwd)
    bounds = []
    for axis, (start, stop) in enumerate(box):
        middle = (start + stop - 1) / 2
        reach = (stop - start) * growth / 2
        # One voxel less than half a patch, as published; in single precision like the spacing it is divided by.
        least = float(np.float32(np.float32(patch[axis] / 2 * target[axis]) / spacing[axis]) - np.float32(1))
        reach = max(least, reach)
        low = max(0, int(middle - reach))
        high = min(shape_dhw[axis] - 1, int(middle + reach))
        bounds.append((low, high + 1))
    return bounds[0], bounds[1], bounds[2]


def challenge_spacing(spacing_npz: Sequence[float], shape_dhw: Sequence[int]) -> tuple[float, float, float]:
    """Guess the spacing (H, W, D) of a challenge file, as published.

    The files do not say reliably which axis a spacing belongs to.  The published code takes the stored order for
    H, W, D, a spacing under 0.1 mm for 1 mm, and if the axis with the fewest slices is not the one with the largest
    spacing, and that spacing exceeds 0.5 mm, swaps the two.  Only the challenge's files need this: elsewhere the
    geometry is known and trusted.

    Args:
        spacing_npz: The file's "spacing".
        shape_dhw: Shape (D, H, W) of its image.

    Returns:
        Spacing (H, W, D) in mm, in single precision.
    """
    high, wide, deep = (float(value) for value in spacing_npz)
    spacing = [1.0 if value < 0.1 else value for value in (deep, high, wide)]
    fewest, largest = int(np.argmin(shape_dhw)), int(np.argmax(spacing))
    if fewest != largest and spacing[largest] > 0.5:
        spacing[fewest], spacing[largest] = spacing[largest], spacing[fewest]
    return hwd([float(np.float32(value)) for value in spacing])
