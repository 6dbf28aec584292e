"""From a group's raw answer to what is handed out: components, absence, locks, region, labels that fit the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.boxed import Boxed
from MedalSLib.inference.boxes import Box, bounds, joined, shifted, slices
from MedalSLib.inference.class_policy import policy_of
from MedalSLib.inference.group_answer import GroupAnswer
from MedalSLib.inference.options import RunOptions
from MedalSLib.inference.packed import PackedMask, PackedMasks
from MedalSLib.inference.postprocessing import (
    best_components,
    filter_applies,
    remove_small_components,
    split_instances,
)
from MedalSLib.inference.results import StructureLike, StructureResult, VolumeResult, label_type


@dataclass(frozen=True)
class Limits:
    """What the answer must respect, axes (D, H, W) of the whole volume.

    Attributes:
        shape: The whole volume.
        window: Part of it that was segmented.
        roi: Hard limits of the answer, None for none.
        masks: The user's masks by key.
        locked: By key, where the answer is what the user's mask says.
    """

    shape: tuple[int, int, int]
    window: Box
    roi: Box | None
    masks: Mapping[str, PackedMask]
    locked: Mapping[str, PackedMask]


def finished(
    answer: GroupAnswer, members: Sequence[StructureLike], limits: Limits, options: RunOptions
) -> VolumeResult:
    """Finish a group's answer and put it into the whole volume."""
    corner = [start for start, _ in limits.window]
    masks: dict[str, PackedMask] = {}
    structures: dict[str, StructureResult] = {}
    instances: dict[str, np.ndarray] = {}
    for index, item in enumerate(members):
        mask = _limited(_cleaned(answer, index, item, limits, options), item.key, limits)
        part = mask.inside()
        voxels = int(np.count_nonzero(part))
        mean = answer.mean_probability[index]
        structures[item.key] = StructureResult(voxels > 0, voxels, mean or None, answer.sources[index])
        masks[item.key] = mask
        if item.key in options.instances:
            instances[item.key] = _instances(mask, part)
    found = answer.labels.moved(corner, limits.shape)
    box = joined([found.bounds, *(mask.bounds for mask in masks.values())])
    sureness = answer.probability.moved(corner, limits.shape)
    untouched = all(mask.bits is own.bits for mask, own in zip(masks.values(), answer.masks, strict=True))
    fitting = answer.agreeing and untouched  # probabilities are then zero where there is no mask
    take = Boxed.within if fitting else Boxed.cut
    labels, probability = take(found, box).astype(label_type(len(members)), copy=False), take(sureness, box)
    if box is not None and not fitting:
        _fit_labels(labels, box, masks, limits)
        probability[labels == 0] = 0
    return VolumeResult(
        PackedMasks(masks),
        Boxed(labels, box, limits.shape),
        Boxed(probability, box, limits.shape),
        structures,
        instances,
        boxes=(shifted(answer.box, corner),),
    )


def _cleaned(answer: GroupAnswer, index: int, item: StructureLike, limits: Limits, options: RunOptions) -> PackedMask:
    """Return a structure's mask in the whole volume without what is not believed.

    That is for the product's policy; the published one has dropped it already.
    """
    mask = answer.masks[index].moved([start for start, _ in limits.window], limits.shape)
    if mask.bounds is None or options.policy == "published":
        return mask
    part = mask.inside()
    doubtful = answer.mean_probability[index] < options.absence.min_mean_probability
    if doubtful and item.key not in limits.masks:
        return PackedMask.without_voxels(limits.shape)
    filtered = options.postprocess and item.kind == "semantic" and policy_of(item.key).postprocess
    if filtered and filter_applies(limits.shape):
        kept = best_components(part, answer.probability.cut(answer.masks[index].bounds), options.absence.min_voxels)
    else:
        kept = remove_small_components(part, options.absence.min_voxels)
    if kept is part or np.array_equal(kept, part):
        return mask
    return PackedMask.at([start for start, _ in mask.bounds], kept, limits.shape)


def _limited(mask: PackedMask, key: str, limits: Limits) -> PackedMask:
    """Clip a mask to the region of interest and keep what is locked."""
    if limits.roi is not None:
        mask = mask.within(limits.roi).moved([start for start, _ in limits.roi], limits.shape)
    locked = limits.locked.get(key)
    if locked is None or locked.bounds is None:
        return mask
    given = limits.masks.get(key, PackedMask.without_voxels(limits.shape))
    return mask.replaced(given.unpack(locked.bounds), locked.bounds, where=locked.inside())


def _instances(mask: PackedMask, part: np.ndarray) -> np.ndarray:
    """Return a labelmap of the whole volume with the separate pieces of a mask, of which `part` is the inside."""
    if mask.bounds is None:
        return np.zeros(mask.shape, dtype=np.uint16)
    labels, _ = split_instances(part)
    return Boxed(labels, mask.bounds, mask.shape).dense()


def _fit_labels(labels: np.ndarray, box: Box, masks: Mapping[str, PackedMask], limits: Limits) -> None:
    """Make the labels agree with the masks: none outside its mask, some wherever there is a mask.

    A voxel that the user locked into a structure has that structure's label.

    Args:
        labels: Of the box; changed.
        box: Bounds within the whole volume, which hold all masks.
        masks: Of the whole volume, in the order of the labels.
        limits: What is locked.
    """
    corner, back = [start for start, _ in box], [-start for start, _ in box]
    for label, (mask, place) in enumerate(zip(masks.values(), find_objects(labels, len(masks)), strict=True), start=1):
        if place is not None:
            part = labels[place]
            part[(part == label) & ~mask.unpack(shifted(bounds(place), corner))] = 0
    for label, mask in enumerate(masks.values(), start=1):
        if mask.bounds is not None:
            part = labels[slices(shifted(mask.bounds, back))]
            part[mask.inside() & (part == 0)] = label
    for label, (key, mask) in enumerate(masks.items(), start=1):
        if key in limits.locked and mask.bounds is not None:
            part = labels[slices(shifted(mask.bounds, back))]
            part[mask.inside() & limits.locked[key].unpack(mask.bounds)] = label
