"""Put overlapping masks into as few labelmaps as possible."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from MedalSLib.volume.box import Box, bounding_box, intersection, slices

_SMALL = np.iinfo(np.uint8).max


def assign_layers(masks: Sequence[np.ndarray]) -> list[int]:
    """Return the layer of each mask such that no two masks of a layer overlap.

    This is a colouring of the graph of overlaps, taken in the order of saturation (DSATUR): the fewest layers where
    that is easy to tell (no overlaps, chains, one thing inside many), close to it elsewhere.
    """
    boxes = [bounding_box(mask) for mask in masks]
    neighbors: list[set[int]] = [set() for _ in masks]
    for a in range(len(masks)):
        for b in range(a):
            if _overlap(masks[a], masks[b], boxes[a], boxes[b]):
                neighbors[a].add(b)
                neighbors[b].add(a)
    layers = [-1] * len(masks)
    for _ in masks:
        free = [index for index, layer in enumerate(layers) if layer < 0]
        chosen = max(free, key=lambda i: (len({layers[n] for n in neighbors[i]} - {-1}), len(neighbors[i]), -i))
        taken = {layers[n] for n in neighbors[chosen]}
        layers[chosen] = next(layer for layer in range(len(masks)) if layer not in taken)
    return layers


def stack_layers(
    masks: Sequence[np.ndarray], shape_kji: tuple[int, int, int]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
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
        labels[..., layer][mask] = value
    return labels, values


def labelmap_of(masks: Sequence[np.ndarray], shape_kji: tuple[int, int, int]) -> tuple[np.ndarray, int]:
    """Return one labelmap (K, J, I), in which later masks win, and the number of voxels that lost their mask to it."""
    labels = np.zeros(shape_kji, dtype=np.uint8 if len(masks) <= _SMALL else np.uint16)
    lost = 0
    for value, mask in enumerate(masks, 1):
        lost += int(np.count_nonzero(labels[mask]))
        labels[mask] = value
    return labels, lost


def _overlap(a: np.ndarray, b: np.ndarray, box_a: Box | None, box_b: Box | None) -> bool:
    common = None if box_a is None or box_b is None else intersection(box_a, box_b)
    return common is not None and bool(np.any(a[slices(common)] & b[slices(common)]))
