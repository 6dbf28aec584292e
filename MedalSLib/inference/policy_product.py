"""Both stages joined as the product does it: overlapping masks, hybrid prompts, refinement of a region.

Differences from `policy_published`: the geometry is trusted; a class has the resampling it would have in a list even if
it is asked for alone; stage 1's masks may overlap; a class with a mask needs no stage 1; an empty or skipped stage 1
is no failure.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.inference.class_rules import rules_of
from MedalSLib.inference.group_result import GroupResult, placed_result
from MedalSLib.inference.postprocessing import remove_small_components
from MedalSLib.inference.regions import stage_2_region
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.stage_runner import StageRunner
from MedalSLib.network.axes import dhw
from MedalSLib.run import Source
from MedalSLib.volume.box import Box, corner_of, relative, shape_of, slices, union, whole
from MedalSLib.volume.mask import BoxMask


def run_product(
    runs: StageRunner,
    specs: Mapping[int, StageSpec],
    masks: Mapping[int, BoxMask],
    region: Box | None = None,
) -> GroupResult:
    """Segment a group of structures that may share a run.

    Args:
        runs: Runs stages on the image.
        specs: The model's stages; one is enough.
        masks: Masks (D, H, W) the user gave, by position in the group.
        region: Region (D, H, W) to run the last stage on, such as that of an edit, grown to at least a patch; what was
            given outside it stays.

    Raises:
        InputError: Refinement without a mask or region.
    """
    options = runs.group.options
    mode = options.mode if options.mode != "auto" else "hybrid" if masks else "text"
    given: Mapping[int, BoxMask] = {} if mode == "text" else masks
    rules = rules_of(runs.keys)
    coarse, fine = specs.get(1), specs.get(2)
    last = fine or coarse
    assert last is not None
    if mode == "refine" or region is not None:
        return _refined(runs, last, given, masks, region)
    if coarse is not None and (options.stages == "first" or rules.first_stage_only):
        return _last_stage(runs, coarse, {}, (), whole(runs.image.shape))
    if coarse is None or fine is None or rules.second_stage_only:
        everything = len(given) == len(runs.keys)
        box = _region(runs, last, given) if everything else whole(runs.image.shape)
        return _last_stage(runs, last, given, given, box)
    prompts = _with_stage_1(runs, coarse, given)
    return _last_stage(runs, fine, prompts, given, _region(runs, fine, prompts))


def _with_stage_1(runs: StageRunner, spec: StageSpec, given: Mapping[int, BoxMask]) -> Mapping[int, BoxMask]:
    """Let stage 1 look for the structures that have no mask."""
    missing = [index for index in range(len(runs.keys)) if index not in given]
    if not missing:
        return given
    everything = whole(runs.image.shape)
    result = runs.run(spec, everything, missing, labels=False)
    found = {index: mask for index, mask in zip(missing, result.masks, strict=True) if not mask.is_empty}
    if not runs.group.instance:
        found = _without_specks(found)
    return {**found, **given}


def _without_specks(found: Mapping[int, BoxMask]) -> dict[int, BoxMask]:
    """Drop components of fewer than ten voxels of the union of all masks, as published; masks left empty go too."""
    box = union(mask.box for mask in found.values())
    if box is None:
        return {}
    anything = np.zeros(shape_of(box), dtype=bool)
    places = {index: slices(relative(mask.box, box)) for index, mask in found.items() if mask.box is not None}
    for index, place in places.items():
        anything[place] |= found[index].crop()
    kept = remove_small_components(anything)
    if kept is anything:
        return dict(found)
    believed = BoxMask.from_crop(kept, corner_of(box), next(iter(found.values())).shape)
    cleaned = {index: mask & believed for index, mask in found.items()}
    return {index: mask for index, mask in cleaned.items() if not mask.is_empty}


def _region(runs: StageRunner, spec: StageSpec, prompts: Mapping[int, BoxMask]) -> Box:
    """Return the region of the prompts, or the whole image if there are none."""
    box = union(mask.box for mask in prompts.values())
    if box is None:
        return whole(runs.image.shape)
    return _grown(runs, spec, box)


def _grown(runs: StageRunner, spec: StageSpec, box: Box) -> Box:
    return stage_2_region(box, runs.image.shape, runs.spacing_dhw, runs.keys, spec, magnify_single=False)


def _to_one_patch(runs: StageRunner, spec: StageSpec, box: Box, region: Box) -> Box:
    """Cut a region down to one patch where the box, grown as published, fits into one.

    The published rule sizes the region by the spacing it gives the whole volume, which it takes to be smaller than it
    is where the volume is large: a region of just over a patch, which takes eight.
    """
    growth = rules_of(runs.keys).region_growth
    for _ in range(3):  # what spacing a region is taken to have depends on its size
        grid_plan = runs.planned(spec, region)
        sizes, patch = dhw(grid_plan.resampled_shape), dhw(grid_plan.patch)
        lengths = (
            stop - start if size <= fits else (stop - start) * fits // size
            for (start, stop), size, fits in zip(region, sizes, patch, strict=True)
        )
        first, second, third = (_cut_around(*bounds, growth) for bounds in zip(box, region, lengths, strict=True))
        if (first, second, third) == region:
            return region
        region = first, second, third
    return region


def _cut_around(inner: tuple[int, int], outer: tuple[int, int], length: int, growth: float) -> tuple[int, int]:
    """Cut bounds to a length around others, unless those, grown, would not fit."""
    if (inner[1] - inner[0]) * growth > length:
        return outer
    start = min(max((sum(inner) - length) // 2, outer[0]), outer[1] - length)
    return start, start + length


def _last_stage(
    runs: StageRunner, spec: StageSpec, prompts: Mapping[int, BoxMask], given: Container[int], box: Box
) -> GroupResult:
    """Run a stage with prompts, of which the user gave some."""
    inside = {index: mask.within(box) for index, mask in prompts.items()}
    result = runs.run(spec, box, prompts=inside or None)
    sources: list[Source] = [
        "mask" if index in given else "stage 1" if index in prompts else "none" for index in range(len(runs.keys))
    ]
    return placed_result(result, box, runs.image.shape, sources)


def _refined(
    runs: StageRunner,
    spec: StageSpec,
    given: Mapping[int, BoxMask],
    masks: Mapping[int, BoxMask],
    region: Box | None,
) -> GroupResult:
    """Run the last stage alone where the masks are, or where the caller says; masks stay as they are elsewhere."""
    box = region or union(mask.box for mask in given.values())
    if box is None:
        raise InputError("There is nothing to refine: no mask was given, or all are empty.", "Segment it first.")
    grown = _to_one_patch(runs, spec, box, _grown(runs, spec, box))
    answer = _last_stage(runs, spec, given, given, grown)
    merged = list(answer.masks)
    for index, mask in masks.items():
        merged[index] = mask.replaced(answer.masks[index].array(grown), grown)
    return replace(answer, masks=tuple(merged), agreeing=False)
