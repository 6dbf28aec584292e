"""Put overlapping masks into as few labelmaps as possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from MedalSLib.volume.box import Shape, slices
from MedalSLib.volume.mask import BoxMask

_SMALL = np.iinfo(np.uint8).max


def assign_layers(masks: Sequence[BoxMask]) -> list[int]:
    """Return the layer of each mask such that no two masks of a layer overlap.

    This is a colouring of the graph of overlaps, taken in the order of saturation (DSATUR): the fewest layers where
    that is easy to tell (no overlaps, chains, one thing inside many), close to it elsewhere.
    """
    neighbors: list[set[int]] = [set() for _ in masks]
    for a in range(len(masks)):
        for b in range(a):
            if not (masks[a] & masks[b]).is_empty:
                neighbors[a].add(b)
                neighbors[b].add(a)
    layers = [-1] * len(masks)
    for _ in masks:
        free = [index for index, layer in enumerate(layers) if layer < 0]
        chosen = max(free, key=lambda i: (len({layers[n] for n in neighbors[i]} - {-1}), len(neighbors[i]), -i))
        taken = {layers[n] for n in neighbors[chosen]}
        layers[chosen] = next(layer for layer in range(len(masks)) if layer not in taken)
    return layers


def stack_layers(masks: Sequence[BoxMask], shape_kji: Shape) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Return labelmaps (K, J, I, layers) and, for each mask, its (layer, label value).

    Label values count from 1 within a layer, in the order of the masks; bytes where they suffice.
    """
    layers = assign_layers(masks)
    count = max(layers, default=0) + 1
    values: list[tuple[int, int]] = []
    used = [0] * count
    for layer in layers:
        used[layer] += 1
        values.append((layer, used[layer]))
    labels = np.zeros((*shape_kji, count), dtype=np.uint8 if max(used) <= _SMALL else np.uint16)
    for mask, (layer, value) in zip(masks, values, strict=True):
        _write(labels[..., layer], mask, value)
    return labels, values


def labelmap_of(masks: Sequence[BoxMask], shape_kji: Shape) -> tuple[np.ndarray, int]:
    """Return one labelmap (K, J, I), in which later masks win, and the number of voxels that lost their mask to it."""
    labels = np.zeros(shape_kji, dtype=np.uint8 if len(masks) <= _SMALL else np.uint16)
    lost = sum(_write(labels, mask, value) for value, mask in enumerate(masks, 1))
    return labels, lost


def _write(labels: np.ndarray, mask: BoxMask, value: int) -> int:
    """Give the voxels of a mask a label, in place; return how many had another one."""
    if mask.box is None:
        return 0
    inside, crop = labels[slices(mask.box)], mask.crop()
    replaced = int(np.count_nonzero(inside[crop]))
    inside[crop] = value
    return replaced
