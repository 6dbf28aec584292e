"""Both stages joined exactly as published: one label a voxel, stage 2 in the box of stage 1's labels.

`segment_published` is the published order of work, with the stages behind a function; `run_published` runs it with the
networks for a group of structures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.class_rules import policy_of, rules_of
from MedalSLib.inference.group_result import GroupResult
from MedalSLib.inference.postprocessing import filter_applies, keep_best_components, remove_small_components
from MedalSLib.inference.regions import stage_2_region
from MedalSLib.inference.resampling_policy import PUBLISHED_STAGES, StageSpec
from MedalSLib.inference.stage_runner import StageRunner
from MedalSLib.network.axes import dhw, hwd
from MedalSLib.run import Source
from MedalSLib.volume.box import Box, bounding_box, slices, whole
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True)
class StageCall:
    """What a stage is asked.

    Attributes:
        spec: Stage, spacing and patch.
        region: Bounds (D, H, W) of the region within the volume.
        image_dhw: Intensities (D, H, W) of the region.
        spacing_hwd: Its spacing in mm.
        labels_dhw: Prompts: a labelmap of the region, None for none.
        want_probability: Whether the largest probability will be needed.
    """

    spec: StageSpec
    region: Box
    image_dhw: np.ndarray
    spacing_hwd: tuple[float, float, float]
    labels_dhw: np.ndarray | None
    want_probability: bool


RunStage = Callable[[StageCall], tuple[np.ndarray, np.ndarray | None]]
"""Returns the labelmap and the largest probability (D, H, W) of the region; None where that is not wanted."""


@dataclass(frozen=True)
class PublishedResult:
    """The published answer.

    Attributes:
        labelmap: int16 (D, H, W); of instance targets, 1 where there is any (whatever the class).
        class_labels: The same with the labels of the classes, for instance targets too.
        region: Bounds (D, H, W) of stage 2's region, None if stage 2 did not run.
        prompted: Whether stage 2 was given prompts.
    """

    labelmap: np.ndarray
    class_labels: np.ndarray
    region: Box | None
    prompted: bool


def segment_published(
    image_dhw: np.ndarray,
    spacing_hwd: tuple[float, float, float],
    classes: Sequence[str],
    label_values: Sequence[int],
    run: RunStage,
    *,
    instance: bool,
    filtered: Sequence[str],
    specs: Mapping[int, StageSpec] = PUBLISHED_STAGES,
) -> PublishedResult:
    """Run both stages as published.

    The published code crashes where the filter of small components leaves nothing of stage 1; here that counts as
    nothing found, like an empty stage 1.

    Args:
        image_dhw: Intensities (D, H, W), 0..255.
        spacing_hwd: Spacing in mm; for the challenge's files what `regions.challenge_spacing` says.
        classes: Class of each query ("CT_Liver").
        label_values: Label of each query.
        run: Runs a stage.
        instance: Whether these are instance targets.
        filtered: Those of `classes` to whose labels the published component filter is applied.
        specs: What the networks were trained on, by stage; a model of one stage runs that alone.
    """
    rules = rules_of(classes)
    want_probability = bool(filtered)
    coarse_spec, fine_spec = specs.get(1), specs.get(2)
    coarse: np.ndarray | None = None
    probability: np.ndarray | None = None
    if coarse_spec is not None and not (rules.second_stage_only and fine_spec is not None):
        everything = whole(image_dhw.shape)
        coarse, probability = run(StageCall(coarse_spec, everything, image_dhw, spacing_hwd, None, want_probability))
    region: Box | None = None
    prompts: np.ndarray | None = None
    if coarse is not None and (rules.first_stage_only or fine_spec is None):
        labels = coarse.astype(np.int16)
    else:
        assert fine_spec is not None
        prompts = None if coarse is None else _prompts(coarse, instance)
        region = _region(prompts, image_dhw, spacing_hwd, classes, fine_spec)
        labels, probability = _fine(run, fine_spec, image_dhw, spacing_hwd, prompts, region, want_probability)
    if instance:
        kept = remove_small_components(labels > 0)
        return PublishedResult(kept.astype(np.int16), labels * kept, region, prompts is not None)
    if probability is not None and filtered:
        wanted = [value for key, value in zip(classes, label_values, strict=True) if key in set(filtered)]
        labels = keep_best_components(labels, probability, wanted)
    return PublishedResult(labels, labels, region, prompts is not None)


def _prompts(coarse: np.ndarray, instance: bool) -> np.ndarray | None:
    """Return stage 1's labels as prompts: without specks in the union of semantic labels; None if nothing is left."""
    if not instance:
        coarse = coarse * remove_small_components(coarse > 0)
    return coarse if coarse.any() else None


def _region(
    prompts: np.ndarray | None,
    image_dhw: np.ndarray,
    spacing_hwd: tuple[float, float, float],
    classes: Sequence[str],
    spec: StageSpec,
) -> Box:
    box = None if prompts is None else bounding_box(prompts > 0)
    if box is None:
        return whole(image_dhw.shape)
    return stage_2_region(box, image_dhw.shape, dhw(spacing_hwd), classes, spec)


def _fine(
    run: RunStage,
    spec: StageSpec,
    image_dhw: np.ndarray,
    spacing_hwd: tuple[float, float, float],
    prompts: np.ndarray | None,
    region: Box,
    want_probability: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Run stage 2 on its region and put the answer back into the volume."""
    inside = slices(region)
    part = None if prompts is None else prompts[inside]
    found, sure = run(StageCall(spec, region, image_dhw[inside], spacing_hwd, part, want_probability))
    labels = np.zeros(image_dhw.shape, dtype=np.int16)
    labels[inside] = found
    if sure is None:
        return labels, None
    probability = np.zeros(image_dhw.shape, dtype=np.float32)
    probability[inside] = sure
    return labels, probability


def run_published(
    runs: StageRunner,
    specs: Mapping[int, StageSpec],
    masks: Mapping[int, BoxMask],
) -> GroupResult:
    """Segment a group of structures of one kind as published.

    Masks, which the published code does not take, replace stage 1's labels of their structures.

    Args:
        runs: Runs stages on the image.
        specs: The model's stages.
        masks: Masks (D, H, W) the user gave, by position in the group.
    """
    options = runs.group.options
    if options.stages == "first" and 1 in specs:
        specs = {1: specs[1]}
    values = range(1, len(runs.keys) + 1)
    given = {} if options.mode == "text" else masks
    best = np.zeros(runs.image.shape, dtype=np.float16)
    last: list[Box] = [whole(runs.image.shape)]

    def run(call: StageCall) -> tuple[np.ndarray, np.ndarray | None]:
        if call.spec.stage == 1 and len(given) == len(values):
            return _painted(np.zeros(call.image_dhw.shape, dtype=np.int16), given), None
        result = runs.run(call.spec, call.region, prompts=call.labels_dhw)
        last[0] = call.region
        best.fill(0)
        here = best[slices(call.region)]
        np.multiply(result.max_probability, result.labelmap > 0, out=here, casting="same_kind")
        labels = _painted(result.labelmap, given) if call.spec.stage == 1 else result.labelmap
        return labels, result.max_probability

    filtered = options.postprocess and filter_applies(runs.image.shape)
    result = segment_published(
        runs.image,
        hwd(runs.spacing_dhw),
        runs.keys,
        values,
        run,
        instance=runs.group.instance,
        filtered=[key for key in runs.keys if policy_of(key).postprocess] if filtered else [],
        specs=specs,
    )
    best *= result.labelmap > 0
    found, means = _by_class(result.class_labels, values, best)
    sources: list[Source] = [
        ("mask" if index in given else "stage 1") if result.prompted else "none" for index in range(len(values))
    ]
    return GroupResult(
        masks=found,
        labels=BoxArray.of(result.class_labels),
        probability=BoxArray.of(best),
        mean_probability=means,
        sources=tuple(sources),
        box=last[0],
    )


def _by_class(
    labels: np.ndarray, values: Sequence[int], probability: np.ndarray
) -> tuple[tuple[BoxMask, ...], tuple[float, ...]]:
    """Return the mask of each label and the mean probability over it, 0 where there is none."""
    masks, means = [], []
    for value, place in zip(values, find_objects(labels, max(values)), strict=True):
        if place is None:
            masks.append(BoxMask.empty(labels.shape))
            means.append(0.0)
            continue
        crop = labels[place] == value
        masks.append(BoxMask.from_crop(crop, [span.start for span in place], labels.shape))
        means.append(float(probability[place][crop].mean(dtype=np.float64)))
    return tuple(masks), tuple(means)


def _painted(labels: np.ndarray, masks: Mapping[int, BoxMask]) -> np.ndarray:
    """Return stage 1's labels with the given masks in place of what it found of their structures."""
    if not masks:
        return labels
    painted = np.where(np.isin(labels, [index + 1 for index in masks]), 0, labels).astype(np.int16)
    for index, mask in masks.items():
        if mask.box is not None:
            painted[slices(mask.box)][mask.crop()] = index + 1
    return painted
