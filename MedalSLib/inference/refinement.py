"""A corrected structure carried over to where the user did not paint, between the masks of a run and `correction`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.correction import propagate_correction
from MedalSLib.inference.finalize import instances_of, wants_instances
from MedalSLib.inference.results import StructureResult, VolumeResult, label_type
from MedalSLib.run import RunOptions, Source
from MedalSLib.vocabulary import Structure
from MedalSLib.volume.box import EMPTY, Box, relative, shape_of, slices, union
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

_LEAST = np.float16(0.5)
"""Confidence in what lies in a mask by the user's paint, whatever the network says."""


@dataclass(frozen=True)
class Refinement:
    """What a refinement starts from; axes (D, H, W) of the whole volume.

    Attributes:
        image: Intensities as the scanner gave them.
        spacing: In mm.
        masks: The structures as they are now, with the user's paint, by key.
        locked: By key, all that the user decided: voxels where the mask stays as it is.
        painted: By key, what of it was painted since the last result, and is to be carried over.
        by_hand: Keys of the structures that are made from paint alone.
        roi: Nothing outside it changes; None for the whole volume.
    """

    image: np.ndarray
    spacing: Sequence[float]
    masks: Mapping[str, BoxMask]
    locked: Mapping[str, BoxMask]
    painted: Mapping[str, BoxMask]
    by_hand: Collection[str] = ()
    roi: Box | None = None

    def carried(self, key: str, probability: BoxArray | None = None) -> BoxMask:
        """Return a structure's mask with its correction carried over; the mask itself where nothing was painted.

        Args:
            key: The structure.
            probability: The network's probability of it, None without one.
        """
        mask, paint = self.masks[key], self.painted.get(key)
        if paint is None or paint.box is None:
            return mask
        added, erased = paint & mask, paint - mask
        carried = propagate_correction(
            self.image,
            self.spacing,
            mask ^ paint,
            added,
            erased,
            probability=probability,
            checked=self.locked[key] - paint,
            # What was erased says where the structure ends, also of one that was begun by painting.
            by_hand=key in self.by_hand and erased.is_empty,
        ).mask
        return carried if self.roi is None else mask.replaced(carried.array(self.roi), self.roi)


def refine_volume(
    refinement: Refinement,
    structures: Sequence[Structure],
    probabilities: Mapping[str, BoxArray],
    options: RunOptions,
) -> VolumeResult:
    """Carry the corrections of several structures over.

    Args:
        refinement: What it starts from.
        structures: Structures with a mask.
        probabilities: The network's probability by key, for the structures that it knows.
        options: Which structures' instances are wanted.
    """
    masks = {item.key: refinement.carried(item.key, probabilities.get(item.key)) for item in structures}
    found: dict[str, StructureResult] = {}
    for key, mask in masks.items():
        probability = probabilities.get(key)
        mean = None
        if probability is not None and mask.box is not None:
            mean = float(probability.array(mask.box)[mask.crop()].mean(dtype=np.float64))
        source: Source = "paint" if probability is None else "mask"
        found[key] = StructureResult(not mask.is_empty, mask.count(), mean, source)
    instances = {item.key: instances_of(masks[item.key]) for item in structures if wants_instances(item, options)}
    return VolumeResult(masks, *_labels(masks, probabilities), found, instances)


def _labels(masks: Mapping[str, BoxMask], probabilities: Mapping[str, BoxArray]) -> tuple[BoxArray, BoxArray]:
    """Return the label of the most probable mask at each voxel, and its probability; paint alone counts as one half."""
    shape, box = next(iter(masks.values())).shape, union(mask.box for mask in masks.values())
    size = shape_of(box or EMPTY)
    labels, best = np.zeros(size, dtype=label_type(len(masks))), np.zeros(size, dtype=np.float16)
    for label, (key, mask) in enumerate(masks.items(), start=1):
        if mask.box is None or box is None:
            continue
        here = slices(relative(mask.box, box))
        probability = probabilities.get(key)
        sure = np.float16(_LEAST) if probability is None else np.maximum(probability.array(mask.box), _LEAST)
        wins = mask.crop() & (sure > best[here])
        labels[here][wins] = label
        best[here][wins] = np.broadcast_to(sure, wins.shape)[wins]
    return BoxArray(labels, box, shape), BoxArray(best, box, shape)
