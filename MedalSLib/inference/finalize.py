"""From a group's result to the result for the whole volume: what is dropped, clipped and kept.

Drops low-confidence and small components (product policy), clips to the region of interest, and keeps what the user
locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.class_rules import policy_of
from MedalSLib.inference.group_result import GroupResult
from MedalSLib.inference.grouping import Group
from MedalSLib.inference.postprocessing import (
    MIN_COMPONENT,
    best_components,
    filter_applies,
    remove_small_components,
    split_instances,
)
from MedalSLib.inference.results import StructureResult, VolumeResult, label_type
from MedalSLib.run import RunOptions
from MedalSLib.vocabulary import Structure
from MedalSLib.volume.box import EMPTY, Box, Shape, box_of, corner_of, relative, shifted, slices, union
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

LEAST_MEAN_PROBABILITY = 0.6
"""A structure whose mean probability over its whole mask is lower is reported absent (product policy).

The network returns a mask for every query, also for absent structures: then specks, or a region of low confidence.
Over what the networks are sure of the mean is above 0.8, at chance just above 0.5.  A structure that the user gave a
mask for is never called absent for this reason.
"""


@dataclass(frozen=True)
class Limits:
    """What the answer must respect, axes (D, H, W) of the whole volume.

    Attributes:
        shape: The whole volume.
        part: Box of it that was segmented.
        roi: Hard limits of the answer, None for none.
        masks: The user's masks by key.
        locked: By key, where the answer is what the user's mask says.
    """

    shape: Shape
    part: Box
    roi: Box | None
    masks: Mapping[str, BoxMask]
    locked: Mapping[str, BoxMask]


def finalize(group: Group, result: GroupResult, limits: Limits) -> VolumeResult:
    """Finish a group's result and put it into the whole volume.

    Args:
        group: The structures.
        result: What the networks found, on the part of the volume that was segmented.
        limits: What the answer must respect.
    """
    corner = corner_of(limits.part)
    masks: dict[str, BoxMask] = {}
    structures: dict[str, StructureResult] = {}
    instances: dict[str, BoxArray] = {}
    for index, item in enumerate(group.members):
        mask = _limited(_cleaned(result, index, item, limits, group.options), item.key, limits)
        voxels = mask.count()
        mean = result.mean_probability[index]
        structures[item.key] = StructureResult(voxels > 0, voxels, mean or None, result.sources[index])
        masks[item.key] = mask
        if wants_instances(item, group.options):
            instances[item.key] = instances_of(mask)
    labels, probability = _labels(result, masks, limits)
    return VolumeResult(masks, labels, probability, structures, instances, boxes=(shifted(result.box, corner),))


def wants_instances(item: Structure, options: RunOptions) -> bool:
    """Whether the components of a structure are wanted as separate instances."""
    return item.name in options.instances or ("*" in options.instances and item.kind == "instance")


def instances_of(mask: BoxMask) -> BoxArray:
    """Return the separate pieces of a mask, numbered 1..n."""
    pieces = split_instances(mask.crop()) if mask.box is not None else np.zeros((0, 0, 0), dtype=np.uint16)
    return BoxArray(pieces, mask.box, mask.shape)


def _cleaned(result: GroupResult, index: int, item: Structure, limits: Limits, options: RunOptions) -> BoxMask:
    """Return a structure's mask in the whole volume without low-confidence and small components.

    That is for the product's policy; the published one has dropped them already.
    """
    mask = result.masks[index].placed(corner_of(limits.part), limits.shape)
    own_box = result.masks[index].box
    if own_box is None or options.policy == "published":
        return mask
    crop = mask.crop()
    doubtful = result.mean_probability[index] < LEAST_MEAN_PROBABILITY
    if doubtful and item.key not in limits.masks:
        return BoxMask.empty(limits.shape)
    filtered = options.postprocess and item.kind == "semantic" and policy_of(item.key).postprocess
    if filtered and filter_applies(limits.shape):
        kept = best_components(crop, result.probability.array(own_box), MIN_COMPONENT)
    else:
        kept = remove_small_components(crop, MIN_COMPONENT)
    if kept is crop or np.array_equal(kept, crop):
        return mask
    return BoxMask.from_crop(kept, corner_of(mask.box or EMPTY), limits.shape)


def _labels(result: GroupResult, masks: Mapping[str, BoxMask], limits: Limits) -> tuple[BoxArray, BoxArray]:
    """Return labels and probabilities in the whole volume that agree with the finished masks."""
    corner = corner_of(limits.part)
    labels, probability = (array.placed(corner, limits.shape) for array in (result.labels, result.probability))
    box = union([labels.box, *(mask.box for mask in masks.values())])
    if box is None:
        return labels, probability
    kind = label_type(len(masks))
    untouched = all(mask.bits is own.bits for mask, own in zip(masks.values(), result.masks, strict=True))
    if result.agreeing and untouched:  # probabilities are then zero where there is no mask
        return (
            BoxArray(labels.view(box).astype(kind, copy=False), box, limits.shape),
            BoxArray(probability.view(box), box, limits.shape),
        )
    fitted, sure = labels.array(box).astype(kind, copy=False), probability.array(box)
    _fit_labels(fitted, box, masks, limits)
    sure[fitted == 0] = 0
    return BoxArray(fitted, box, limits.shape), BoxArray(sure, box, limits.shape)


def _limited(mask: BoxMask, key: str, limits: Limits) -> BoxMask:
    """Clip a mask to the region of interest and keep what is locked."""
    if limits.roi is not None:
        mask = mask.limited(limits.roi)
    locked = limits.locked.get(key)
    if locked is None or locked.box is None:
        return mask
    given = limits.masks.get(key, BoxMask.empty(limits.shape))
    return mask.replaced(given.array(locked.box), locked.box, where=locked.crop())


def _fit_labels(labels: np.ndarray, box: Box, masks: Mapping[str, BoxMask], limits: Limits) -> None:
    """Make the labels agree with the masks: none outside its mask, some wherever there is a mask.

    A voxel that the user locked into a structure has that structure's label.  The labels are those of the box, which
    holds all masks, and are changed.
    """
    corner = corner_of(box)
    for label, (mask, place) in enumerate(zip(masks.values(), find_objects(labels, len(masks)), strict=True), start=1):
        if place is not None:
            part = labels[place]
            part[(part == label) & ~mask.array(shifted(box_of(place), corner))] = 0
    for label, mask in enumerate(masks.values(), start=1):
        if mask.box is not None:
            part = labels[slices(relative(mask.box, box))]
            part[mask.crop() & (part == 0)] = label
    for label, (key, mask) in enumerate(masks.items(), start=1):
        if key in limits.locked and mask.box is not None:
            part = labels[slices(relative(mask.box, box))]
            part[mask.crop() & limits.locked[key].array(mask.box)] = label
