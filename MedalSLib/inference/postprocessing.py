"""Connected components: the published filters, speckle removal, and instances."""

from __future__ import annotations

from collections.abc import Iterable

import cc3d
import numpy as np

MIN_COMPONENT = 10
"""Voxels; smaller components are dropped from instance targets and from what sizes stage 2's region (published)."""
_CONSIDERED = 3
_CLOSE = 0.1
_SURE = 0.86
_LARGEST_VOLUME = 650 * 650 * 100
_COUNTED = 1 << 16
"""Voxels counted together."""


def remove_small_components(mask: np.ndarray, min_voxels: int = MIN_COMPONENT) -> np.ndarray:
    """Return a boolean mask without 6-connected components of fewer than `min_voxels` voxels: itself if it has none."""
    components, sizes = _components(mask)
    keep = sizes >= min_voxels
    if keep[1:].all():
        return mask
    keep[0] = False
    return keep[components]


def best_components(mask: np.ndarray, probability: np.ndarray, min_voxels: int = 1) -> np.ndarray:
    """Keep what the published filter keeps of a class's mask.

    Of the three largest 6-connected components: all whose mean probability is within 0.1 of the best and above 0.86 if
    there are at least two such; else the best one if it is among the two largest; else the largest.

    Args:
        mask: Boolean volume.
        probability: Probabilities on the same grid.
        min_voxels: Smaller components do not count, as if `remove_small_components` had come before.
    """
    components, sizes = _components(mask)
    # A stable sort: of components of the same size, the one met first counts as the larger.
    order = np.argsort(-sizes[1:], kind="stable")[:_CONSIDERED] + 1
    order = order[sizes[order] >= min_voxels]
    if len(order) < 2:
        return components == order[0] if len(order) else np.zeros(mask.shape, dtype=bool)
    # In the precision of the probabilities, as the published comparison has it.
    means = np.array([np.mean(probability[components == label]) for label in order])
    close = (means.max() - means <= _CLOSE) & (means > _SURE)
    best = int(np.argmax(means))
    keep = order[close] if int(close.sum()) >= 2 else order[[best if best < 2 else 0]]
    return np.isin(components, keep)


def keep_best_components(labelmap: np.ndarray, probability: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """Return a labelmap in which `best_components` is applied to some labels; voxels dropped become 0.

    Volumes of 650 x 650 x 100 voxels and more are returned as they are, as published.

    Args:
        labelmap: Integers.
        probability: Probabilities on the same grid.
        labels: The labels it is applied to.
    """
    if not filter_applies(labelmap.shape):
        return labelmap
    result = labelmap.copy()
    for label in sorted(set(labels)):
        mask = labelmap == label
        result[mask & ~best_components(mask, probability)] = 0
    return result


def filter_applies(shape: tuple[int, ...]) -> bool:
    """Whether a volume is small enough for the published component filter."""
    return int(np.prod(shape, dtype=np.int64)) < _LARGEST_VOLUME


def split_instances(mask: np.ndarray) -> np.ndarray:
    """Return the 6-connected components of a boolean mask, 1 for the largest and so on; small ones are left out."""
    components, sizes = _components(mask)
    order = np.argsort(-sizes[1:], kind="stable") + 1
    order = order[sizes[order] >= MIN_COMPONENT]
    lookup = np.zeros(len(sizes), dtype=np.uint16 if len(order) < 2**16 else np.uint32)
    lookup[order] = np.arange(1, len(order) + 1)
    return lookup[components]


def _components(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 6-connected components, and their sizes by label (0 is the background)."""
    filled = np.ascontiguousarray(mask, dtype=bool)
    components, count = cc3d.connected_components(filled, connectivity=6, return_N=True)
    if count < 2:
        voxels = int(np.count_nonzero(filled))
        return components, np.array([filled.size - voxels, voxels][: int(count) + 1])
    return components, _sizes(components.reshape(-1), int(count) + 1)


def _sizes(labels: np.ndarray, count: int) -> np.ndarray:
    """Count labels, a part at a time: counting widens them to 64 bits, which is quick where it stays in the caches."""
    sizes = np.zeros(count, dtype=np.int64)
    step = max(_COUNTED, count)
    for start in range(0, labels.size, step):
        sizes += np.bincount(labels[start : start + step], minlength=count)
    return sizes
