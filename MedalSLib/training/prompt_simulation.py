"""Spatial prompts for training: the target seen through dropped and added blocks, as a coarse first stage errs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptSimulation:
    """Probabilities of the simulation; the defaults are the published ones.

    Attributes:
        no_prompt: Share of samples that get no prompt at all.
        class_drop: Share of classes whose prompt is left out.
        block_drop: Range of the share of blocks that are hidden in a sample.
        block_add: Range of the share of blocks that are prompted whatever the target says.
        block_sizes: Edge of the blocks, in voxels; one is drawn a sample.
        withhold_class_prompts: Share of steps that give the union prompt but no class prompts.
    """

    no_prompt: float = 0.35
    class_drop: float = 0.1
    block_drop: tuple[float, float] = (0.3, 0.9)
    block_add: tuple[float, float] = (0.0, 0.02)
    block_sizes: tuple[int, ...] = (4, 8, 16, 32)
    withhold_class_prompts: float = 0.1


@dataclass(frozen=True)
class SimulatedPrompts:
    """Prompts of one sample.

    Attributes:
        union: (1, H, W, D) float 0/1, 1 where any class is prompted: the network's second input channel.
        classes: (N, H, W, D) float 0/1.
    """

    union: Tensor
    classes: Tensor


def _enlarge(blocks: np.ndarray, edge: int, shape: tuple[int, ...]) -> Tensor:
    """Repeat a (..., h, w, d) block map to `shape` voxels (H, W, D), cropping the last blocks."""
    for axis in (-3, -2, -1):
        blocks = blocks.repeat(edge, axis)
    return torch.from_numpy(blocks[..., : shape[0], : shape[1], : shape[2]])


def _some_classes(active: np.ndarray, classes: int, rng: np.random.Generator) -> np.ndarray:
    """Give each active block to a random, non-empty set of classes: (h, w, d) bool -> (N, h, w, d) bool.

    The size of the set is uniform in 1..N, the set itself uniform among those of its size (reference behaviour).
    """
    count = int(active.sum())
    chosen = np.zeros((classes, *active.shape), dtype=bool)
    if count:
        sizes = rng.integers(1, classes + 1, size=count)
        ranks = rng.random((classes, count)).argsort(axis=0).argsort(axis=0)
        chosen[:, active] = ranks < sizes
    return chosen


def simulate_prompts(
    target: Tensor, rng: np.random.Generator, settings: PromptSimulation | None = None
) -> SimulatedPrompts:
    """Return random prompts for a target.

    Args:
        target: (N, H, W, D), 0 or 1.
        rng: Source of all randomness: the same generator state gives the same prompts.
        settings: Probabilities; None for the published ones.
    """
    settings = settings or PromptSimulation()
    classes, *shape_list = target.shape
    shape = tuple(shape_list)
    if rng.random() < settings.no_prompt:
        return SimulatedPrompts(target.new_zeros((1, *shape)).float(), torch.zeros_like(target, dtype=torch.float32))
    kept = torch.from_numpy(rng.random(classes) >= settings.class_drop)
    seen = (target > 0) & kept.to(target.device)[:, None, None, None]
    edge = int(rng.choice(settings.block_sizes))
    blocks = tuple(-(-size // edge) for size in shape)
    hidden = rng.random(blocks) < rng.uniform(*settings.block_drop)
    added = (rng.random(blocks) < rng.uniform(*settings.block_add)) & ~hidden
    shown_by_class = _enlarge(_some_classes(~hidden, classes, rng), edge, shape).to(target.device)
    added_by_class = _enlarge(_some_classes(added, classes, rng), edge, shape).to(target.device)
    union = (seen.any(0) & ~_enlarge(hidden, edge, shape).to(target.device)) | _enlarge(added, edge, shape).to(
        target.device
    )
    return SimulatedPrompts(union[None].float(), ((seen & shown_by_class) | added_by_class).float())
