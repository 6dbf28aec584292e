"""The published policy as one way to run a group of structures: `two_stage` with the networks behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.boxed import Boxed
from MedalSLib.inference.boxes import Box, slices, whole
from MedalSLib.inference.class_policy import policy_of
from MedalSLib.inference.group_answer import GroupAnswer
from MedalSLib.inference.options import RunOptions
from MedalSLib.inference.packed import PackedMask
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.results import Source, label_type
from MedalSLib.inference.stage_runs import StageRuns
from MedalSLib.inference.two_stage import StageCall, segment_published


def run_published(
    runs: StageRuns,
    specs: Mapping[int, StageSpec],
    masks: Mapping[int, PackedMask],
    options: RunOptions,
) -> GroupAnswer:
    """Segment a group of structures of one kind as published: one label a voxel.

    Masks, which the published code does not take, replace stage 1's labels of their structures.

    Args:
        runs: Runs stages on the image.
        specs: The model's stages.
        masks: Masks (D, H, W) the user gave, by position in the group.
        options: Choices of the run.
    """
    if options.stages == "first" and 1 in specs:
        specs = {1: specs[1]}
    values = range(1, len(runs.keys) + 1)
    given = {} if options.mode == "text" else {index: mask.unpack() for index, mask in masks.items()}
    best = np.zeros(runs.image.shape, dtype=np.float16)
    last: list[Box] = [whole(runs.image.shape)]

    def run(call: StageCall) -> tuple[np.ndarray, np.ndarray | None]:
        if call.spec.stage == 1 and len(given) == len(values):
            return _painted(np.zeros(call.image_dhw.shape, dtype=np.int16), given), None
        result = runs.run(call.spec, call.region, prompts=call.labels_dhw, label_values=values)
        labels = result.labelmap.transpose(2, 0, 1)
        probability = result.max_probability.transpose(2, 0, 1)
        last[0] = call.region
        best.fill(0)
        np.multiply(probability, labels > 0, out=best[slices(call.region)], casting="same_kind")
        return (_painted(labels, given) if call.spec.stage == 1 else labels), probability

    deep, high, wide = runs.spacing_dhw
    filtered = [key for key in runs.keys if policy_of(key).postprocess] if options.postprocess else []
    result = segment_published(
        runs.image,
        (high, wide, deep),
        runs.keys,
        values,
        run,
        instance=runs.instance,
        filtered=filtered,
        specs=specs,
    )
    best *= result.labelmap > 0
    found, means = _by_class(result.class_labels, values, best)
    sources: list[Source] = [
        ("mask" if index in given else "stage 1") if result.prompted else "none" for index in range(len(values))
    ]
    return GroupAnswer(
        masks=found,
        labels=Boxed.of(result.labelmap.astype(label_type(len(values)))),
        probability=Boxed.of(best),
        mean_probability=means,
        sources=tuple(sources),
        box=last[0],
    )


def _by_class(
    labels: np.ndarray, values: Sequence[int], probability: np.ndarray
) -> tuple[tuple[PackedMask, ...], tuple[float, ...]]:
    """Return the mask of each label and the mean probability over it, 0 where there is none."""
    places = find_objects(labels, max(values))
    masks, means = [], []
    for value in values:
        place = places[value - 1]
        if place is None:
            masks.append(PackedMask.without_voxels(labels.shape))
            means.append(0.0)
            continue
        part = labels[place] == value
        masks.append(PackedMask.at([span.start for span in place], part, labels.shape))
        means.append(float(probability[place][part].mean(dtype=np.float64)))
    return tuple(masks), tuple(means)


def _painted(labels: np.ndarray, masks: Mapping[int, np.ndarray]) -> np.ndarray:
    """Return stage 1's labels with the given masks in place of what it found of their structures."""
    if not masks:
        return labels
    painted = np.where(np.isin(labels, [index + 1 for index in masks]), 0, labels).astype(labels.dtype)
    for index, mask in masks.items():
        painted[mask] = index + 1
    return painted
