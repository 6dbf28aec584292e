"""What one group of structures came to, before it is finished: on the whole image, axes (D, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.outputs import StageResult
from MedalSLib.run import Source
from MedalSLib.volume.box import Box, Shape, corner_of, slices, union
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True)
class GroupResult:
    """Masks, labels and probabilities of a group.

    Attributes:
        masks: One for each structure of the group.
        labels: 0, or 1 + position in the group.
        probability: float16: of the structure in `labels`.
        mean_probability: Of each structure, over what the network found of it.
        sources: Where each structure's prompt came from.
        box: Region of the last stage.
        probabilities: Of each structure by itself, where it is wanted.
        agreeing: Whether there is a label exactly where there is a mask, each within the mask of its structure.
    """

    masks: tuple[BoxMask, ...]
    labels: BoxArray
    probability: BoxArray
    mean_probability: tuple[float, ...]
    sources: tuple[Source, ...]
    box: Box
    agreeing: bool = True
    probabilities: tuple[BoxArray, ...] = ()


def placed_result(result: StageResult, box: Box, shape_dhw: Shape, sources: Sequence[Source]) -> GroupResult:
    """Put a stage's result into the whole image.

    Args:
        result: The result (D, H, W) for a region.
        box: The region.
        shape_dhw: The image.
        sources: Where each structure's prompt came from.
    """
    corner = corner_of(box)
    found = union(mask.box for mask in result.masks)
    masks = tuple(mask.placed(corner, shape_dhw) for mask in result.masks)
    labels, probability = (
        _cut(array, found).placed(corner, shape_dhw) for array in (result.labelmap, result.max_probability)
    )
    each = tuple(values.placed(corner, shape_dhw) for values in result.probabilities)
    return GroupResult(masks, labels, probability, result.mean_probability, tuple(sources), box, probabilities=each)


def _cut(array: np.ndarray, box: Box | None) -> BoxArray:
    """Return the box of an array of a region, outside which it is zero."""
    shape = array.shape[0], array.shape[1], array.shape[2]
    if box is None:
        return BoxArray(np.zeros((0, 0, 0), dtype=array.dtype), None, shape)
    return BoxArray(array[slices(box)], box, shape)
