"""What one group of structures came to, before it is finished: on the whole image, axes (D, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.boxed import Boxed
from MedalSLib.inference.boxes import Box, joined, shifted, slices
from MedalSLib.inference.packed import PackedMask, Shape
from MedalSLib.inference.results import Source
from MedalSLib.inference.sinks import StageResult


@dataclass(frozen=True)
class GroupAnswer:
    """Masks, labels and probabilities of a group.

    Attributes:
        masks: One for each structure of the group.
        labels: 0, or 1 + position in the group.
        probability: float16: of the structure in `labels`.
        mean_probability: Of each structure, over what the network found of it.
        sources: Where each structure's prompt came from.
        box: Region of the last stage.
        agreeing: Whether there is a label exactly where there is a mask, each within the mask of its structure.
    """

    masks: tuple[PackedMask, ...]
    labels: Boxed
    probability: Boxed
    mean_probability: tuple[float, ...]
    sources: tuple[Source, ...]
    box: Box
    agreeing: bool = True


def placed(result: StageResult, box: Box, shape_dhw: Shape, sources: Sequence[Source]) -> GroupAnswer:
    """Put a stage's answer for a region (axes H, W, D) into the whole image."""
    found = joined(mask.bounds for mask in result.masks)
    masks = tuple(placed_mask(mask, box, shape_dhw) for mask in result.masks)
    labels, probability = (_boxed(array, found, box, shape_dhw) for array in (result.labelmap, result.max_probability))
    return GroupAnswer(masks, labels, probability, result.mean_probability, tuple(sources), box)


def _boxed(array_hwd: np.ndarray, found: Box | None, box: Box, shape_dhw: Shape) -> Boxed:
    """Put an array of a region, of which only the part `found` is not zero, into the whole image."""
    if found is None:
        return Boxed(np.zeros((0, 0, 0), dtype=array_hwd.dtype), None, shape_dhw)
    part = array_hwd[slices(found)].transpose(2, 0, 1)
    return Boxed(part, shifted(_dhw(found), [start for start, _ in box]), shape_dhw)


def placed_mask(mask_hwd: PackedMask, box: Box, shape_dhw: Shape) -> PackedMask:
    """Put a mask of a region (axes H, W, D) into the whole image."""
    return mask_hwd.transposed((2, 0, 1)).moved([start for start, _ in box], shape_dhw)


def _dhw(box_hwd: Box) -> Box:
    return box_hwd[2], box_hwd[0], box_hwd[1]
