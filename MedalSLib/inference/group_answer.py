"""What one group of structures came to, before it is finished: on the whole image, axes (D, H, W)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.packed import Box, PackedMask
from MedalSLib.inference.regions import slices
from MedalSLib.inference.results import Source, label_type
from MedalSLib.inference.sinks import StageResult


@dataclass(frozen=True)
class GroupAnswer:
    """Masks, labels and probabilities of a group.

    Attributes:
        masks: One for each structure of the group.
        labelmap: 0, or 1 + position in the group.
        probability: float16: of the structure in `labelmap`.
        mean_probability: Of each structure, over what the network found of it.
        sources: Where each structure's prompt came from.
        box: Region of the last stage.
    """

    masks: tuple[PackedMask, ...]
    labelmap: np.ndarray
    probability: np.ndarray
    mean_probability: tuple[float, ...]
    sources: tuple[Source, ...]
    box: Box


def placed(result: StageResult, box: Box, shape_dhw: Sequence[int], sources: Sequence[Source]) -> GroupAnswer:
    """Put a stage's answer for a region (axes H, W, D) into the whole image."""
    inside = slices(box)
    labelmap = np.zeros(shape_dhw, dtype=label_type(len(result.masks)))
    labelmap[inside] = result.labelmap.transpose(2, 0, 1)
    probability = np.zeros(shape_dhw, dtype=np.float16)
    probability[inside] = result.max_probability.transpose(2, 0, 1)
    masks = []
    for packed in result.masks:
        mask = np.zeros(shape_dhw, dtype=bool)
        if not packed.empty:
            mask[inside] = packed.unpack().transpose(2, 0, 1)
        masks.append(PackedMask.pack(mask))
    return GroupAnswer(tuple(masks), labelmap, probability, result.mean_probability, tuple(sources), box)
