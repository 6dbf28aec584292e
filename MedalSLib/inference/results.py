"""The answer for a volume, and how the answers of several groups of structures become one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from MedalSLib.inference.packed import Box, PackedMask, PackedMasks

Source = Literal["stage 1", "mask", "none"]


class StructureLike(Protocol):
    """What inference needs to know of a structure (`MedalSLib.vocabulary.Structure` has it)."""

    @property
    def key(self) -> str:
        """Modality and published name, as "CT_Liver"."""
        ...

    @property
    def kind(self) -> Literal["semantic", "instance"]:
        """Whether its pieces are separate objects."""
        ...


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
        masks: A boolean mask for each structure, by key; they may overlap.  Unpacked each time one is asked for.
        labelmap: uint8 or uint16: 0, or 1 + position of the most probable structure.
        probability: float16: the probability of that structure, 0 where none reaches 0.5.
        structures: What was found, by key.
        instances: Labelmaps 1..n of separate instances, by key, where they were asked for.
        boxes: Region (D, H, W) of the last stage, one for each group of structures that ran together.
        seconds: Seconds by stage ("stage 1", "stage 2", "finishing").
        steps: Steps taken down the memory ladder, in words.
        cached: What came from caches, in words.
        runs: Runs of the networks.
    """

    masks: PackedMasks
    labelmap: np.ndarray
    probability: np.ndarray
    structures: Mapping[str, StructureResult]
    instances: Mapping[str, np.ndarray] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    runs: int = 0


def label_type(count: int) -> type[np.unsignedinteger]:
    """Return the smallest unsigned type that holds the labels 0..count."""
    return np.uint8 if count < 2**8 else np.uint16


def merge_results(results: Sequence[VolumeResult], structures: Sequence[StructureLike]) -> VolumeResult:
    """Join answers for different structures of one volume; each voxel of the labelmap takes the more probable one.

    Args:
        results: Answers that share no structure.
        structures: All structures, in the order of the labels of the joined labelmap.

    Raises:
        ValueError: There is no answer at all.
    """
    if not results:
        raise ValueError("there is no result to merge")
    if len(results) == 1 and list(results[0].masks) == [item.key for item in structures]:
        return results[0]
    position = {item.key: number for number, item in enumerate(structures, start=1)}
    labelmap = np.zeros(results[0].labelmap.shape, dtype=label_type(len(structures)))
    best = np.zeros(labelmap.shape, dtype=np.float16)
    masks: dict[str, PackedMask] = {}
    for result in results:
        lookup = np.array([0, *(position[key] for key in result.masks)], dtype=labelmap.dtype)
        better = (result.labelmap > 0) & ((result.probability > best) | (labelmap == 0))
        labelmap[better] = lookup[result.labelmap[better]]
        best[better] = result.probability[better]
        masks |= {key: result.masks.packed(key) for key in result.masks}
    seconds: dict[str, float] = {}
    for result in results:
        for stage, value in result.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + value
    return VolumeResult(
        masks=PackedMasks({item.key: masks[item.key] for item in structures if item.key in masks}),
        labelmap=labelmap,
        probability=best,
        structures={key: found for result in results for key, found in result.structures.items()},
        instances={key: labels for result in results for key, labels in result.instances.items()},
        boxes=tuple(box for result in results for box in result.boxes),
        seconds=seconds,
        steps=_distinct(step for result in results for step in result.steps),
        cached=_distinct(part for result in results for part in result.cached),
        runs=sum(result.runs for result in results),
    )


def _distinct(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(words))
