"""Masks as prompts: their patches, and the random halves in which a prompted patch is shown.

A prompted patch runs twice.  A random half of its blocks (8x8x8 voxels) shows the prompt in pass one, the other half in
pass two, and each voxel takes the pass in which its own block was hidden, so that the network cannot copy the prompt
(paper, self-recurrent prediction).  The published blocks differ from run to run; these depend on the seed, the tile
and the iteration alone, so neither the order of tiles nor what ran before matters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.resampling import labelmap_to_plan, mask_to_plan
from MedalSLib.inference.resampling_policy import Hwd, ResamplingPlan
from MedalSLib.inference.tiling import Tile

PROMPT_BLOCK = 8
REFINEMENT_BLOCK = 4

Permutation = Callable[[int, Tile, int], np.ndarray]
"""`(count, tile, iteration) -> order`: the first `max(1, count // 2)` entries are the blocks shown in pass one."""


def seeded_permutation(seed: int) -> Permutation:
    """Return a permutation of blocks that depends on the seed, the tile and the iteration alone."""

    def order(count: int, tile: Tile, iteration: int) -> np.ndarray:
        return np.random.Generator(np.random.PCG64([abs(int(seed)), *tile, iteration])).permutation(count)

    return order


def shown_first(shape_hwd: Sequence[int], block: int, order: np.ndarray) -> Tensor:
    """Return the voxels whose block is shown in pass one.

    Args:
        shape_hwd: Patch in voxels; blocks at its end may be cut.
        block: Edge of a block in voxels.
        order: Permutation of the blocks, D running fastest.

    Returns:
        Boolean (H, W, D) on the CPU.
    """
    counts = [-(-size // block) for size in shape_hwd]
    chosen = np.zeros(prod(counts), dtype=bool)
    chosen[order[: max(1, chosen.size // 2)]] = True
    mask = torch.from_numpy(chosen.reshape(counts))
    for axis in range(3):
        mask = mask.repeat_interleave(block, dim=axis)
    high, wide, deep = shape_hwd
    return mask[:high, :wide, :deep]


class PatchPrompts(Protocol):
    """The prompts of one patch."""

    @property
    def union(self) -> Tensor:
        """Boolean (H, W, D): where any class is prompted."""
        ...

    def classes(self, start: int, stop: int) -> Tensor:
        """Return boolean (stop - start, H, W, D): the prompts of a chunk of classes."""
        ...


class PromptVolume(Protocol):
    """The prompts of a whole volume on a plan's padded grid."""

    def patch(self, tile: Tile, device: torch.device) -> PatchPrompts | None:
        """Return the prompts of a tile on a device, None where there is none."""
        ...


@dataclass(frozen=True)
class StackedPrompts:
    """Prompts as one mask for each class, boolean (N, H, W, D)."""

    masks: Tensor

    @property
    def union(self) -> Tensor:
        """Boolean (H, W, D): where any class is prompted."""
        return self.masks.any(dim=0)

    def classes(self, start: int, stop: int) -> Tensor:
        """Return the masks of a chunk of classes."""
        return self.masks[start:stop]


@dataclass(frozen=True)
class LabelledPrompts:
    """Prompts as a labelmap (H, W, D) and the label of each class; other labels prompt nobody but count as union."""

    labels: Tensor
    values: tuple[int, ...]

    @property
    def union(self) -> Tensor:
        """Boolean (H, W, D): where any class is prompted."""
        return self.labels > 0

    def classes(self, start: int, stop: int) -> Tensor:
        """Return the masks of a chunk of classes."""
        values = torch.tensor(self.values[start:stop], dtype=self.labels.dtype, device=self.labels.device)
        return self.labels[None] == values[:, None, None, None]


class LabelmapVolume:
    """Prompts that do not overlap, as published: stage 1's labelmap.

    Args:
        labels_hwd: Integers (H, W, D) on the volume's own grid.
        values: Label of each class, in the order of the queries.
        plan: Plan of the stage that is prompted.
    """

    def __init__(self, labels_hwd: np.ndarray, values: Sequence[int], plan: ResamplingPlan) -> None:
        self._labels = labelmap_to_plan(labels_hwd, plan)
        self._values = tuple(int(value) for value in values)

    def patch(self, tile: Tile, device: torch.device) -> PatchPrompts | None:
        """Return the prompts of a tile, None where there is none."""
        labels = _cut(self._labels, tile)
        return LabelledPrompts(labels.to(device), self._values) if bool(labels.any()) else None


class MaskVolume:
    """Prompts that may overlap: one mask for each class that has one, kept as its bounding box.

    Args:
        masks_hwd: Boolean (H, W, D) on the volume's own grid, by position of the class among the queries.
        count: Number of queries.
        plan: Plan of the stage that is prompted.
    """

    def __init__(self, masks_hwd: Mapping[int, np.ndarray], count: int, plan: ResamplingPlan) -> None:
        self._count = count
        self._parts: dict[int, tuple[tuple[slice, slice, slice], Tensor]] = {}
        for index, mask in masks_hwd.items():
            resampled = mask_to_plan(mask, plan)
            box = bounding_slices(resampled)
            if box is not None:
                self._parts[index] = box, resampled[box].clone()

    def patch(self, tile: Tile, device: torch.device) -> PatchPrompts | None:
        """Return the prompts of a tile, None where there is none."""
        size = patch_size(tile)
        masks: Tensor | None = None
        for index, (box, part) in self._parts.items():
            here, there = _overlap(box, tile)
            if any(span.start >= span.stop for span in here) or not bool(part[here].any()):
                continue
            if masks is None:
                masks = torch.zeros((self._count, *size), dtype=torch.bool)
            masks[index][there] = part[here]
        return None if masks is None else StackedPrompts(masks.to(device))


def bounding_slices(mask: Tensor) -> tuple[slice, slice, slice] | None:
    """Return the bounding box of a boolean (H, W, D) tensor, None if it is empty."""
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = torch.nonzero(mask.any(dim=others[1]).any(dim=others[0])).flatten()
        if not len(inside):
            return None
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return spans[0], spans[1], spans[2]


def _cut(volume: Tensor, tile: Tile) -> Tensor:
    return volume[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]]


def _overlap(box: Sequence[slice], tile: Tile) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a box and a tile meet, in the box's own indices and in the tile's."""
    here, there = [], []
    for axis, span in enumerate(box):
        start, stop = max(span.start, tile[2 * axis]), min(span.stop, tile[2 * axis + 1])
        here.append(slice(start - span.start, max(stop, start) - span.start))
        there.append(slice(start - tile[2 * axis], max(stop, start) - tile[2 * axis]))
    return tuple(here), tuple(there)


def patch_size(tile: Tile) -> Hwd:
    """Return the size (H, W, D) of a tile."""
    return tile[1] - tile[0], tile[3] - tile[2], tile[5] - tile[4]
