"""Takes an engine's result apart on the worker thread: masks that share no voxel, and a mask of each instance."""

from __future__ import annotations

import numpy as np

from MedalSLib.run import RunResult
from MedalSLib.volume.box import box_of, corner_of, shifted, slices
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask


def disjoint(result: RunResult) -> dict[str, BoxMask]:
    """Return a result's masks so that they share no voxel: where several overlap, the most probable one keeps it.

    Voxels in which the most probable structure is none of those that overlap go to the first of them.
    """
    count = np.zeros(result.labels.shape, np.uint8)
    for mask in result.box_masks.values():
        if mask.box is not None:
            count[slices(mask.box)] += mask.crop()
    free = count > 1  # voxels that several claim and none has got yet
    labels = {name: number for number, name in enumerate(result.names, 1)}
    for name, mask in result.box_masks.items():
        if mask.box is not None:
            free[slices(mask.box)] &= ~(mask.crop() & (result.labels.array(mask.box) == labels.get(name, -1)))
    found = {}
    for name, mask in result.box_masks.items():
        if mask.box is None:
            found[name] = mask
            continue
        place, best = slices(mask.box), result.labels.array(mask.box) == labels.get(name, -1)
        kept = mask.crop() & ((count[place] <= 1) | best | free[place])
        free[place] &= ~kept
        found[name] = BoxMask.from_crop(kept, corner_of(mask.box), mask.shape)
    return found


def instanceMasks(labels: BoxArray) -> list[BoxMask]:
    """Return the mask of each instance 1..n of a labelmap; a number that no voxel has is an empty one."""
    from scipy.ndimage import find_objects

    found = []
    for number, place in enumerate(find_objects(labels.crop), 1):
        if place is None or labels.box is None:
            found.append(BoxMask.empty(labels.shape))
        else:
            corner = corner_of(shifted(box_of(place), corner_of(labels.box)))
            found.append(BoxMask.from_crop(labels.crop[place] == number, corner, labels.shape))
    return found
