"""From a group's raw answer to what is handed out: components, absence, locks, region, labels that fit the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.class_policy import policy_of
from MedalSLib.inference.group_answer import GroupAnswer
from MedalSLib.inference.options import RunOptions
from MedalSLib.inference.packed import Box, PackedMask, PackedMasks
from MedalSLib.inference.postprocessing import (
    best_components,
    filter_applies,
    remove_small_components,
    split_instances,
)
from MedalSLib.inference.regions import slices
from MedalSLib.inference.results import StructureLike, StructureResult, VolumeResult, label_type
from MedalSLib.volume import bounding_box


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
    masks: Mapping[str, np.ndarray]
    locked: Mapping[str, np.ndarray]


def finished(
    answer: GroupAnswer, members: Sequence[StructureLike], limits: Limits, options: RunOptions
) -> VolumeResult:
    """Finish a group's answer and put it into the whole volume."""
    labelmap = np.zeros(limits.shape, dtype=label_type(len(members)))
    probability = np.zeros(limits.shape, dtype=np.float16)
    labelmap[slices(limits.window)] = answer.labelmap
    probability[slices(limits.window)] = answer.probability
    masks: dict[str, PackedMask] = {}
    structures: dict[str, StructureResult] = {}
    instances: dict[str, np.ndarray] = {}
    for index, item in enumerate(members):
        mask = np.zeros(limits.shape, dtype=bool)
        mask[slices(limits.window)] = _cleaned(answer, index, item, limits, options)
        mask = _limited(mask, item.key, limits)
        voxels = int(np.count_nonzero(mask))
        mean = answer.mean_probability[index]
        structures[item.key] = StructureResult(voxels > 0, voxels, mean or None, answer.sources[index])
        masks[item.key] = PackedMask.pack(mask)
        if item.key in options.instances:
            instances[item.key], _ = split_instances(mask)
    packed = PackedMasks(masks)
    if options.policy == "product" or limits.locked or limits.roi is not None:
        _fit_labels(labelmap, packed, limits)
    probability[labelmap == 0] = 0
    return VolumeResult(packed, labelmap, probability, structures, instances, boxes=(_shifted(answer.box, limits),))


def _cleaned(answer: GroupAnswer, index: int, item: StructureLike, limits: Limits, options: RunOptions) -> np.ndarray:
    """Return a structure's mask without what is not believed (product policy; the published one is done already)."""
    mask = answer.masks[index].unpack()
    if options.policy == "published":
        return mask
    doubtful = answer.mean_probability[index] < options.absence.min_mean_probability
    if doubtful and item.key not in limits.masks:
        return np.zeros_like(mask)
    box = bounding_box(mask)
    if box is None:
        return mask
    inside = slices(box)
    part = remove_small_components(mask[inside], options.absence.min_voxels)
    filtered = options.postprocess and item.kind == "semantic" and policy_of(item.key).postprocess
    if filtered and filter_applies(limits.shape):
        part = best_components(part, answer.probability[inside])
    mask[inside] = part
    return mask


def _limited(mask: np.ndarray, key: str, limits: Limits) -> np.ndarray:
    """Clip a mask to the region of interest and keep what is locked."""
    if limits.roi is not None:
        clipped = np.zeros_like(mask)
        clipped[slices(limits.roi)] = mask[slices(limits.roi)]
        mask = clipped
    locked = limits.locked.get(key)
    if locked is not None:
        given = limits.masks.get(key)
        mask = np.where(locked, False if given is None else given, mask)
    return mask


def _fit_labels(labelmap: np.ndarray, masks: PackedMasks, limits: Limits) -> None:
    """Make the labelmap agree with the masks: no label outside its mask, some label wherever there is a mask.

    A voxel that the user locked into a structure has that structure's label.
    """
    for label, (key, box) in enumerate(zip(masks, find_objects(labelmap, max_label=len(masks)), strict=True), start=1):
        if box is not None:
            part = labelmap[box]
            part[(part == label) & ~masks.packed(key).unpack(box)] = 0
    for label, key in enumerate(masks, start=1):
        box = masks.packed(key).box()
        if box is not None:
            part = labelmap[box]
            part[masks.packed(key).unpack(box) & (part == 0)] = label
    for label, key in enumerate(masks, start=1):
        if key in limits.locked:
            labelmap[limits.locked[key] & masks[key]] = label


def _shifted(box: Box, limits: Limits) -> Box:
    first, second, third = (
        (start + offset, stop + offset) for (start, stop), (offset, _) in zip(box, limits.window, strict=True)
    )
    return first, second, third
