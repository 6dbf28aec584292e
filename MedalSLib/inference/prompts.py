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

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.resampling import labelmap_to_plan, mask_to_plan
from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.tensor_ops import tensor_box, to_device
from MedalSLib.inference.tiling import Tile
from MedalSLib.volume.box import Slices, intersection, shape_of, shifted, slices
from MedalSLib.volume.mask import BoxMask

PROMPT_BLOCK = 8
REFINEMENT_BLOCK = 4

Permutation = Callable[[int, Tile, int], np.ndarray]
"""`(count, tile, iteration) -> order`: the first `max(1, count // 2)` entries are the blocks shown in pass one."""


def seeded_permutation(seed: int) -> Permutation:
    """Return a permutation of blocks that depends on the seed, the tile and the iteration alone."""

    def order(count: int, tile: Tile, iteration: int) -> np.ndarray:
        return np.random.Generator(np.random.PCG64([abs(int(seed)), *tile, iteration])).permutation(count)

    return order


def shown_first(shape_hwd: Sequence[int], block: int, order: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """Return the voxels whose block is shown in pass one.

    Args:
        shape_hwd: Patch in voxels; blocks at its end may be cut.
        block: Edge of a block in voxels.
        order: Permutation of the blocks, D running fastest.
        device: Where the voxels are wanted.

    Returns:
        Boolean (H, W, D).
    """
    counts = [-(-size // block) for size in shape_hwd]
    chosen = np.zeros(prod(counts), dtype=bool)
    chosen[order[: max(1, chosen.size // 2)]] = True
    blocks = torch.from_numpy(chosen.reshape(counts)).to(device, non_blocking=True)
    high, wide, deep = counts
    spread = blocks[:, None, :, None, :, None].expand(high, block, wide, block, deep, block)
    return spread.reshape(*(count * block for count in counts))[tuple(map(slice, shape_hwd))]


@dataclass(frozen=True)
class ClassPrompt:
    """The prompt of one class in one patch, as its bounding box.

    Attributes:
        index: Position of the class among the queries.
        box: Where the prompt lies within the patch.
        mask: Boolean, of the size of `box`; some voxel is set.
    """

    index: int
    box: Slices
    mask: Tensor


@dataclass(frozen=True)
class PatchPrompts:
    """The prompts of one patch.

    Attributes:
        union: Boolean (H, W, D): where any class is prompted, asked for or not.
        parts: What is prompted of the classes asked for, in the order of the queries; classes may overlap.
        origin: The same in main memory, if it was sent from there.
    """

    union: Tensor
    parts: tuple[ClassPrompt, ...]
    origin: PatchPrompts | None = None

    @classmethod
    def of(cls, masks: Tensor) -> PatchPrompts:
        """Return the prompts that one mask for each class, boolean (N, H, W, D), makes."""
        parts = (_class_prompt(index, mask) for index, mask in enumerate(masks))
        return cls(masks.any(dim=0), tuple(part for part in parts if part is not None))

    def to(self, device: torch.device) -> PatchPrompts:
        """Return the same on a device."""
        if device == self.union.device:
            return self
        parts = tuple(ClassPrompt(part.index, part.box, to_device(part.mask, device)) for part in self.parts)
        return PatchPrompts(to_device(self.union, device), parts, self if self.union.device.type == "cpu" else None)


def _class_prompt(index: int, mask: Tensor, at: Sequence[int] = (0, 0, 0)) -> ClassPrompt | None:
    """Return the bounding box of a mask that begins at `at`, None if it is empty."""
    box = tensor_box(mask)
    if box is None:
        return None
    inside = mask[slices(box)]
    own = inside if inside.shape == mask.shape else inside.clone()  # not a view that keeps all of it
    return ClassPrompt(index, slices(shifted(box, at)), own)


class LabelmapVolume:
    """Prompts that do not overlap, as published: stage 1's labelmap.

    Args:
        labels_hwd: Integers (H, W, D) on the volume's own grid.
        count: Number of classes; class k has label k + 1.
        plan: Plan of the stage that is prompted.
        device: Where the labelmap is brought to the plan's grid, and stays.
    """

    def __init__(
        self,
        labels_hwd: np.ndarray,
        count: int,
        plan: ResamplingPlan,
        device: torch.device | str = "cpu",
    ) -> None:
        self._labels = labelmap_to_plan(labels_hwd, plan, device)
        self._count = count

    def patch(self, tile: Tile, device: torch.device) -> PatchPrompts | None:
        """Return the prompts of a tile, None where there is none."""
        labels = self._labels[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]]
        if not bool(labels.any()):
            return None
        found = set(torch.unique(labels).tolist())
        parts = (_class_prompt(index, labels == index + 1) for index in range(self._count) if index + 1 in found)
        return PatchPrompts(labels > 0, tuple(part for part in parts if part is not None)).to(device)


class MaskVolume:
    """Prompts that may overlap: one mask for each class that has one, kept as the bits of its bounding box.

    Args:
        masks_hwd: Masks (H, W, D) on the volume's own grid, boolean or packed, by position of the class among the
            queries.
        plan: Plan of the stage that is prompted.
        device: Where they are brought to the plan's grid; they are kept in main memory.
    """

    def __init__(
        self,
        masks_hwd: Mapping[int, np.ndarray | BoxMask],
        plan: ResamplingPlan,
        device: torch.device | str = "cpu",
    ) -> None:
        self._masks: dict[int, BoxMask] = {}
        for index in sorted(masks_hwd):
            packed = mask_to_plan(BoxMask.of(masks_hwd[index]), plan, device)
            if not packed.is_empty:
                self._masks[index] = packed

    def patch(self, tile: Tile, device: torch.device) -> PatchPrompts | None:
        """Return the prompts of a tile, None where there is none."""
        place = ((tile[0], tile[1]), (tile[2], tile[3]), (tile[4], tile[5]))
        union = torch.zeros(shape_of(place), dtype=torch.bool)
        parts = []
        for index, packed in self._masks.items():
            shared = None if packed.box is None else intersection(place, packed.box)
            if shared is None:
                continue
            mask = torch.from_numpy(packed.array(shared))
            part = _class_prompt(
                index, mask, [start - begin for (start, _), (begin, _) in zip(shared, place, strict=True)]
            )
            if part is not None:
                union[part.box] |= part.mask
                parts.append(part)
        return PatchPrompts(union, tuple(parts)).to(device) if parts else None
