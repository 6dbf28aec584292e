"""Both stages joined exactly as published: one label a voxel, stage 2 in the box of stage 1's labels.

`segment_published` is the published order of work, with the stages behind a function; `run_published` runs it with the
networks for a group of structures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.ndimage import find_objects

from MedalSLib.inference.class_rules import policy_of, rules_of
from MedalSLib.inference.group_result import GroupResult
from MedalSLib.inference.postprocessing import filter_applies, keep_best_components, remove_small_components
from MedalSLib.inference.regions import stage_2_region
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.stage_runner import StageRunner
from MedalSLib.network.axes import dhw, hwd
from MedalSLib.run import Source
from MedalSLib.volume.box import Box, Slices, bounding_box, slices, whole
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

RunStage = Callable[[StageSpec, Box, np.ndarray | None, bool], tuple[np.ndarray, np.ndarray | None]]
"""`(stage, region, prompts, want_probability) -> (labels, largest probability)`, all arrays (D, H, W) of the region.

Prompts are a labelmap, None for none; the probability is None where it is not wanted.
"""


def segment_published(
    shape_dhw: Sequence[int],
    spacing_hwd: tuple[float, float, float],
    classes: Sequence[str],
    label_values: Sequence[int],
    run: RunStage,
    *,
    instance: bool,
    filtered: Sequence[str],
    specs: Mapping[int, StageSpec],
) -> tuple[np.ndarray, bool]:
    """Run both stages as published.

    The published code crashes where the filter of small components leaves nothing of stage 1; here that counts as
    nothing found, like an empty stage 1.

    Args:
        shape_dhw: The volume in voxels.
        spacing_hwd: Spacing in mm; for the challenge's files what `regions.challenge_spacing` says.
        classes: Class of each query ("CT_Liver").
        label_values: Label of each query.
        run: Runs a stage.
        instance: Whether these are instance targets.
        filtered: Those of `classes` to whose labels the published component filter is applied.
        specs: What the networks were trained on, by stage; a model of one stage runs that alone.

    Returns:
        Labels, int16 (D, H, W), and whether stage 2 was given prompts.
    """
    rules = rules_of(classes)
    want_probability = bool(filtered)
    coarse_spec, fine_spec = specs.get(1), specs.get(2)
    coarse, probability, prompts = None, None, None
    if coarse_spec is not None and not (rules.second_stage_only and fine_spec is not None):
        coarse, probability = run(coarse_spec, whole(shape_dhw), None, want_probability)
    if coarse is not None and (rules.first_stage_only or fine_spec is None):
        labels = coarse.astype(np.int16)
    else:
        assert fine_spec is not None
        prompts = None if coarse is None else _prompts(coarse, instance)
        box = None if prompts is None else bounding_box(prompts > 0)
        region = whole(shape_dhw)
        if box is not None:
            region = stage_2_region(box, shape_dhw, dhw(spacing_hwd), classes, fine_spec)
        inside = slices(region)
        found, sure = run(fine_spec, region, None if prompts is None else prompts[inside], want_probability)
        labels, probability = _placed(found, np.int16, inside, shape_dhw), None
        if sure is not None:
            probability = _placed(sure, np.float32, inside, shape_dhw)
    if instance:
        labels = labels * remove_small_components(labels > 0)
    elif probability is not None and filtered:
        wanted = [value for key, value in zip(classes, label_values, strict=True) if key in set(filtered)]
        labels = keep_best_components(labels, probability, wanted)
    return labels, prompts is not None


def _prompts(coarse: np.ndarray, instance: bool) -> np.ndarray | None:
    """Return stage 1's labels as prompts: without specks in the union of semantic labels; None if nothing is left."""
    if not instance:
        coarse = coarse * remove_small_components(coarse > 0)
    return coarse if coarse.any() else None


def _placed(part: np.ndarray, kind: type[np.generic], inside: Slices, shape: Sequence[int]) -> np.ndarray:
    volume = np.zeros(shape, dtype=kind)
    volume[inside] = part
    return volume


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

    def run(
        spec: StageSpec, region: Box, prompts: np.ndarray | None, want_probability: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if spec.stage == 1 and len(given) == len(values):
            return _painted(np.zeros(runs.image.shape, dtype=np.int16), given), None
        result = runs.run(spec, region, prompts=prompts)
        last[0] = region
        best.fill(0)
        np.multiply(result.max_probability, result.labelmap > 0, out=best[slices(region)], casting="same_kind")
        labels = _painted(result.labelmap, given) if spec.stage == 1 else result.labelmap
        return labels, result.max_probability

    filtered = options.postprocess and filter_applies(runs.image.shape)
    labels, prompted = segment_published(
        runs.image.shape,
        hwd(runs.spacing_dhw),
        runs.keys,
        values,
        run,
        instance=runs.group.instance,
        filtered=[key for key in runs.keys if policy_of(key).postprocess] if filtered else [],
        specs=specs,
    )
    best *= labels > 0
    found, means = _by_class(labels, values, best)
    sources: list[Source] = [
        ("mask" if index in given else "stage 1") if prompted else "none" for index in range(len(values))
    ]
    return GroupResult(
        masks=found,
        labels=BoxArray.of(labels),
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
