"""Both stages joined exactly as published: for the challenge's files, and as the yardstick of the product's way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.boxes import Box, slices, whole
from MedalSLib.inference.class_policy import rules_of
from MedalSLib.inference.postprocessing import keep_best_components, remove_small_components
from MedalSLib.inference.regions import stage_2_region
from MedalSLib.inference.resampling_policy import PUBLISHED_STAGES, StageSpec
from MedalSLib.volume import bounding_box


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


StageRunner = Callable[[StageCall], tuple[np.ndarray, np.ndarray | None]]
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
    run: StageRunner,
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
    high, wide, deep = spacing_hwd
    return stage_2_region(box, image_dhw.shape, (deep, high, wide), classes, spec)


def _fine(
    run: StageRunner,
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
