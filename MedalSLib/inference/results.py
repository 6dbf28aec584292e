"""The result for a volume, and how the results of several groups of structures become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from MedalSLib.run import Source
from MedalSLib.vocabulary import Structure
from MedalSLib.volume.box import EMPTY, Box, relative, shape_of, slices, union
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask, DenseMasks

_WORTH_CHECKING = 5
"""Slices that are named as worth checking."""


@dataclass(frozen=True)
class StructureResult:
    """What was found of one structure.

    Attributes:
        found: False if it is absent: its mask is empty.
        voxels: Size of its mask.
        mean_probability: Mean probability over what the network found of it, None if that is nothing.
        source: Where its prompt in the last stage came from.
    """

    found: bool
    voxels: int
    mean_probability: float | None
    source: Source


@dataclass(frozen=True)
class VolumeResult:
    """Segmentation of a volume, on its own grid (D, H, W).

    Attributes:
        box_masks: A mask for each structure, by key; they may overlap.
        labels: uint8 or uint16: 0, or 1 + position of the most probable structure.
        confidence: float16: the probability of that structure, 0 where none reaches 0.5.
        structures: What was found, by key.
        instances: Labelmaps 1..n of separate instances, by key, where they were asked for.
        boxes: Region (D, H, W) of the last stage, one for each group of structures that ran together.
        seconds: Seconds by stage ("stage 1", "stage 2", "finishing").
        steps: Steps taken down the memory ladder, in words.
        cached: What came from caches, in words.
        runs: Runs of the networks.
    """

    box_masks: Mapping[str, BoxMask]
    labels: BoxArray
    confidence: BoxArray
    structures: Mapping[str, StructureResult]
    instances: Mapping[str, BoxArray] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    runs: int = 0

    @cached_property
    def masks(self) -> DenseMasks:
        """`box_masks` as boolean arrays of the whole volume, each newly made."""
        return DenseMasks(self.box_masks)

    def doubtful_slices(self, key: str, decided: BoxMask | None = None) -> tuple[int, ...]:
        """Return the slices along D of a structure's mask of which the network is least sure, the worst first.

        The sum over each slice of what is missing to certainty; neighbours of a slice tell nothing new.

        Args:
            key: The structure.
            decided: Voxels that the user decided: they are certain.
        """
        mask = self.box_masks[key] if decided is None else self.box_masks[key] - decided
        if mask.box is None:
            return ()
        doubt = np.where(mask.crop(), 1 - self.confidence.array(mask.box).astype(np.float32), 0).sum(axis=(1, 2))
        chosen: list[int] = []
        for place in np.argsort(-doubt, kind="stable"):
            if doubt[place] > 0 and all(abs(place - other) > 1 for other in chosen):
                chosen.append(int(place))
        return tuple(mask.box[0][0] + place for place in chosen[:_WORTH_CHECKING])

    @property
    def labelmap(self) -> np.ndarray:
        """`labels` of the whole volume, newly made."""
        return self.labels.array()


def label_type(count: int) -> type[np.unsignedinteger]:
    """Return the smallest unsigned type that holds the labels 0..count."""
    return np.uint8 if count < 2**8 else np.uint16


def merge_results(results: Sequence[VolumeResult], structures: Sequence[Structure]) -> VolumeResult:
    """Join answers for different structures of one volume; each voxel of the labelmap takes the more probable one.

    Args:
        results: Results that share no structure.
        structures: All structures, in the order of the labels of the joined labelmap.

    Raises:
        ValueError: There is no answer at all.
    """
    if not results:
        raise ValueError("there is no result to merge")
    if len(results) == 1 and list(results[0].box_masks) == [item.key for item in structures]:
        return results[0]
    position = {item.key: number for number, item in enumerate(structures, start=1)}
    shape, box = results[0].labels.shape, union(result.labels.box for result in results)
    labelmap = np.zeros(shape_of(box or EMPTY), dtype=label_type(len(structures)))
    best = np.zeros(labelmap.shape, dtype=np.float16)
    masks: dict[str, BoxMask] = {}
    for result in results:
        masks |= result.box_masks
        if box is None or result.labels.box is None:
            continue
        here = slices(relative(result.labels.box, box))
        lookup = np.array([0, *(position[key] for key in result.box_masks)], dtype=labelmap.dtype)
        _merge(labelmap[here], best[here], lookup[np.ascontiguousarray(result.labels.crop)], result.confidence.crop)
    seconds: dict[str, float] = {}
    for result in results:
        for stage, value in result.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return VolumeResult(
        box_masks={item.key: masks[item.key] for item in structures if item.key in masks},
        labels=BoxArray(labelmap, box, shape),
        confidence=BoxArray(best, box, shape),
        structures={key: found for result in results for key, found in result.structures.items()},
        instances={key: labels for result in results for key, labels in result.instances.items()},
        boxes=tuple(box for result in results for box in result.boxes),
        seconds=seconds,
        steps=tuple(dict.fromkeys(step for result in results for step in result.steps)),
        cached=tuple(dict.fromkeys(part for result in results for part in result.cached)),
        runs=sum(result.runs for result in results),
    )


def _merge(labelmap: np.ndarray, best: np.ndarray, labels: np.ndarray, probability: np.ndarray) -> None:
    """Take over the labels of another answer where they are more probable or nothing is yet, in place.

    Probabilities in half precision are compared and moved as the integers that their bits are, in whose order they
    are, and chosen by arithmetic: numpy has no quick way to do either with them as they are.
    """
    sure, others = best.view(np.int16), np.ascontiguousarray(probability).view(np.int16)
    better = (labels > 0) & ((others > sure) | (labelmap == 0))
    labelmap += (labels - labelmap) * better
    sure += (others - sure) * better
