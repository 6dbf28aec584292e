"""Segment structures in a volume: groups of structures, each through the stages of its policy, joined to one result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from torch import Tensor

from MedalSLib.errors import CancelledError, InputError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.finalize import Limits, finalize
from MedalSLib.inference.group_result import GroupResult
from MedalSLib.inference.grouping import Group, group_structures
from MedalSLib.inference.hooks import Hooks
from MedalSLib.inference.memory import estimate_run, fitting, with_ladder
from MedalSLib.inference.policy_product import run_product
from MedalSLib.inference.policy_published import run_published
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.results import VolumeResult, merge_results
from MedalSLib.inference.stage_runner import StageRunner
from MedalSLib.inference.stage_specs import stage_specs
from MedalSLib.network.axes import dhw
from MedalSLib.network.bundle import Model
from MedalSLib.run import RunOptions
from MedalSLib.vocabulary import Structure
from MedalSLib.volume.box import Box, Shape, corner_of, intersection, relative, slices, union, whole
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.windows import Window


@dataclass(frozen=True)
class WindowedImage:
    """A volume whose intensities depend on the window that a structure is seen in.

    Attributes:
        shape: (D, H, W).
        intensities: Returns float32 (D, H, W), 0..255, in a window.
    """

    shape: Shape
    intensities: Callable[[Window], np.ndarray]


@dataclass(frozen=True)
class _Run:
    """What all groups of a run share; axes (D, H, W)."""

    model: Model
    image: WindowedImage
    spacing: Sequence[float]
    specs: Mapping[int, StageSpec]
    limits: Limits
    compute: Compute
    hooks: Hooks


def segment_volume(
    model: Model,
    image: WindowedImage,
    spacing_dhw: Sequence[float],
    structures: Sequence[Structure],
    queries: Tensor,
    *,
    windows: Mapping[str, Window] | None = None,
    masks_dhw: Mapping[str, BoxMask] | None = None,
    locked_dhw: Mapping[str, BoxMask] | None = None,
    roi_dhw: Box | None = None,
    options: RunOptions | None = None,
    compute: Compute | None = None,
    hooks: Hooks | None = None,
) -> VolumeResult:
    """Segment structures in a volume.

    Args:
        model: Stages and networks.
        image: The volume, which may have other intensities in each window.
        spacing_dhw: Spacing in mm.
        structures: What is wanted, no key twice.
        queries: Text queries [N, Q], one for each structure.
        windows: Intensity window by key; others see the image as it is.
        masks_dhw: Masks by key: prompts, and what `locked_dhw` keeps.
        locked_dhw: By key: where set, the answer is what the structure's mask says (not set without one), whatever
            the network says.  In the mode "refine" only the region of it runs; masks stay as they are outside.
        roi_dhw: Hard limits of the answer.  The networks see half a patch more on each side.
        options: Choices of the run.
        compute: Device, precision and chunks to begin with.
        hooks: What to watch and steer.

    Raises:
        InputError: No structure, a mask of another shape, an empty region, or nothing to refine.
        ModelError: The model has no stage.
        ResourceError: Memory ran out after every step down the ladder.
        CancelledError: `hooks.should_cancel` said so; nothing of the run is kept.
    """
    options, compute, hooks = options or RunOptions(), compute or Compute(), hooks or Hooks()
    masks, locked = masks_dhw or {}, locked_dhw or {}
    _check(image.shape, structures, queries, masks, locked)
    specs = stage_specs(model, structures[0].modality)
    run = _Run(
        model=model,
        image=image,
        spacing=tuple(float(value) for value in spacing_dhw),
        specs=specs,
        limits=_limits(image.shape, spacing_dhw, masks, locked, roi_dhw, specs[max(specs)]),
        compute=compute,
        hooks=hooks,
    )
    groups = group_structures(structures, options, windows or {}, masks, model.manifest.text_stages)
    results: dict[int, VolumeResult] = {}
    # What the user is looking at comes first; the answer does not depend on it.
    for group in sorted(groups, key=lambda group: not any(key in locked for key in group.keys)):
        if hooks.should_cancel is not None and hooks.should_cancel():
            raise CancelledError
        result = _run_group(run, group, queries[list(group.positions)])
        results[group.number] = result
        if hooks.on_structure is not None:
            for key, mask in result.box_masks.items():
                hooks.on_structure(key, mask)
        if hooks.on_patch is not None:
            hooks.on_patch(group.number, "finishing", 1, 1)
    return merge_results([results[number] for number in sorted(results)], structures)


def _run_group(run: _Run, group: Group, queries: Tensor) -> VolumeResult:
    """Run the structures of one group, down the memory ladder as far as it takes, and finish them."""
    limits, hooks = run.limits, run.hooks
    part = limits.part
    image = np.ascontiguousarray(run.image.intensities(group.window)[slices(part)], dtype=np.float32)
    given = {key: limits.masks[key] for key in group.keys if key in limits.masks}
    inside = {group.keys.index(key): mask.within(part) for key, mask in given.items()}
    masks = {index: mask for index, mask in inside.items() if not mask.is_empty}
    painted = union(limits.locked[key].box for key in given if key in limits.locked)
    region = _region(painted, part) if painted is not None and group.options.mode == "refine" else None

    def attempt(compute: Compute) -> tuple[GroupResult, StageRunner]:
        runs = StageRunner(
            run.model,
            image,
            run.spacing,
            group,
            queries,
            compute,
            hooks,
            corner_of(part),
        )
        if group.options.policy == "published":
            return run_published(runs, run.specs, masks), runs
        return run_product(runs, run.specs, masks, region), runs

    compute, planned = _fitted(run, group, image.shape, bool(masks))
    (result, runs), steps = with_ladder(attempt, compute, len(group.keys), on_step=hooks.on_step)
    begun = time.perf_counter()
    if hooks.on_probability is not None:
        for key, probability in zip(group.keys, result.probabilities, strict=False):
            hooks.on_probability(key, probability.placed(corner_of(part), limits.shape))
    finished = finalize(group, result, limits)
    cached = [
        f"{what} of {count} patches"
        for what, count in (("voxel features", runs.reused), ("answers", runs.repeated))
        if count
    ]
    return replace(
        finished,
        seconds={**runs.seconds, "finishing": time.perf_counter() - begun},
        steps=(*planned, *steps, *runs.steps),
        cached=tuple(cached),
        runs=runs.runs,
    )


def _fitted(run: _Run, group: Group, shape_dhw: Sequence[int], prompted: bool) -> tuple[Compute, tuple[str, ...]]:
    """Return how to compute within the memory limit, and the steps down the ladder that this takes."""
    limit = run.compute.memory_limit_mb
    if limit is None:
        return run.compute, ()

    def need(compute: Compute) -> float:
        estimate = estimate_run(run.model, shape_dhw, run.spacing, group.keys, prompted=prompted, compute=compute)
        return estimate.memory_mb

    return fitting(need, run.compute, len(group.keys), limit)


def _limits(
    shape: Shape,
    spacing_dhw: Sequence[float],
    masks: Mapping[str, BoxMask],
    locked: Mapping[str, BoxMask],
    roi: Box | None,
    spec: StageSpec,
) -> Limits:
    """Return the part of the volume that will be segmented, and what the answer must respect."""
    if roi is None:
        return Limits(shape, whole(shape), None, masks, locked)
    inside = intersection(roi, whole(shape))
    if inside is None:
        raise InputError("The region of interest holds no voxel of the image.", "Choose one that overlaps the image.")
    return Limits(shape, _with_margin(inside, shape, spacing_dhw, spec), inside, masks, locked)


def _with_margin(roi: Box, shape: Shape, spacing_dhw: Sequence[float], spec: StageSpec) -> Box:
    """Return a region of interest with half a patch of the last stage on each side, for the networks to see."""
    margins = (patch * target / 2 for patch, target in zip(dhw(spec.patch_hwd), dhw(spec.spacing_hwd), strict=True))
    reaches = [ceil(margin / spacing) for margin, spacing in zip(margins, spacing_dhw, strict=True)]
    first, second, third = (
        (max(0, start - reach), min(size, stop + reach))
        for (start, stop), size, reach in zip(roi, shape, reaches, strict=True)
    )
    return first, second, third


def _region(painted: Box, part: Box) -> Box:
    """Return the box of what was painted within the part of the volume that is segmented."""
    shared = intersection(painted, part)
    if shared is None:
        raise InputError(
            "What was painted lies outside the region of interest.", "Move the region, or paint inside it."
        )
    return relative(shared, part)


def _check(
    shape: Shape,
    structures: Sequence[Structure],
    queries: Tensor,
    masks: Mapping[str, BoxMask],
    locked: Mapping[str, BoxMask],
) -> None:
    if not structures:
        raise InputError("No structure was asked for.", "Name one at least.")
    if len({item.key for item in structures}) != len(structures) or len(queries) != len(structures):
        raise ValueError("there must be one query for each structure, and no structure twice")
    for what, given in (("mask", masks), ("locked region", locked)):
        for key, mask in given.items():
            if mask.shape != tuple(shape):
                raise InputError(
                    f"The {what} of '{key}' has the shape {mask.shape}, the image {tuple(shape)}.",
                    "Resample it to the image's grid.",
                )
