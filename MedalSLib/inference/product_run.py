"""Both stages joined as the product does it: overlapping masks, hybrid prompts, refinement of a region.

Where this differs from the published way (`two_stage`): the geometry is trusted; a class has the resampling it would
have in a list even if it is asked for alone; stage 1's masks may overlap; a class that has a mask needs no stage 1; an
empty or skipped stage 1 is no failure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.inference.class_policy import rules_of
from MedalSLib.inference.group_answer import GroupAnswer, placed
from MedalSLib.inference.options import Mode, RunOptions
from MedalSLib.inference.packed import Box, LazyMasks, PackedMask
from MedalSLib.inference.postprocessing import remove_small_components
from MedalSLib.inference.regions import slices, stage_2_region, whole
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.results import Source
from MedalSLib.inference.stage_runs import StageRuns
from MedalSLib.volume import bounding_box


@dataclass(frozen=True)
class _Prompts:
    """Masks (D, H, W) by position in the group, and where each came from."""

    masks: Mapping[int, np.ndarray]
    sources: Mapping[int, Source]

    def box(self) -> Box | None:
        """Bounding box of all masks."""
        boxes = [box for box in (bounding_box(self.masks[index]) for index in self.masks) if box is not None]
        if not boxes:
            return None
        first, second, third = (
            (min(box[axis][0] for box in boxes), max(box[axis][1] for box in boxes)) for axis in range(3)
        )
        return first, second, third


def run_product(
    runs: StageRuns,
    specs: Mapping[int, StageSpec],
    masks: Mapping[int, np.ndarray],
    options: RunOptions,
    region: Box | None = None,
) -> GroupAnswer:
    """Segment a group of structures that may share a run.

    Args:
        runs: Runs stages on the image.
        specs: The model's stages; one is enough.
        masks: Boolean masks (D, H, W) the user gave, by position in the group.
        options: Choices of the run.
        region: Region (D, H, W) to run the last stage on, such as that of an edit, grown to at least a patch; what was
            given outside it stays.

    Raises:
        InputError: Refinement without a mask or region.
    """
    mode = _mode(options.mode, masks)
    given = _Prompts({} if mode == "text" else masks, dict.fromkeys(masks, "mask") if mode != "text" else {})
    rules = rules_of(runs.keys)
    coarse, fine = specs.get(1), specs.get(2)
    last = fine or coarse
    assert last is not None
    if mode == "refine" or region is not None:
        return _refined(runs, last, given, masks, region)
    if coarse is not None and (options.stages == "first" or rules.first_stage_only):
        return _last_stage(runs, coarse, _Prompts({}, {}), whole(runs.image.shape))
    if coarse is None or fine is None or rules.second_stage_only:
        everything = len(given.masks) == len(runs.keys)
        return _last_stage(runs, last, given, _region(runs, last, given) if everything else whole(runs.image.shape))
    prompts = _with_stage_1(runs, coarse, given)
    return _last_stage(runs, fine, prompts, _region(runs, fine, prompts))


def _mode(mode: Mode, masks: Mapping[int, np.ndarray]) -> Mode:
    if mode == "auto":
        return "hybrid" if masks else "text"
    return mode


def _with_stage_1(runs: StageRuns, spec: StageSpec, given: _Prompts) -> _Prompts:
    """Let stage 1 look for the structures that have no mask."""
    missing = [index for index in range(len(runs.keys)) if index not in given.masks]
    if not missing:
        return given
    result = runs.run(spec, whole(runs.image.shape), missing)
    found = {index: packed for index, packed in zip(missing, result.masks, strict=True) if not packed.empty}
    masks = _without_specks(found) if found and not runs.instance else LazyMasks({k: _dhw(v) for k, v in found.items()})
    return _Prompts(masks.joined(given.masks), {**dict.fromkeys(masks, "stage 1"), **given.sources})


def _dhw(packed: PackedMask) -> Callable[[], np.ndarray]:
    """Return what unpacks a mask (H, W, D) as (D, H, W)."""
    return lambda: packed.unpack().transpose(2, 0, 1)


def _without_specks(found: Mapping[int, PackedMask]) -> LazyMasks:
    """Drop components of fewer than ten voxels of the union of all masks, as published; masks left empty go too."""
    shape = next(iter(found.values())).shape
    union = PackedMask(np.bitwise_or.reduce([packed.bits for packed in found.values()]), shape)
    kept = np.packbits(remove_small_components(union.unpack()), axis=-1)
    cleaned = {index: PackedMask(packed.bits & kept, shape) for index, packed in found.items()}
    return LazyMasks({index: _dhw(packed) for index, packed in cleaned.items() if not packed.empty})


def _region(runs: StageRuns, spec: StageSpec, prompts: _Prompts) -> Box:
    """Return the region of the prompts, or the whole image if there are none."""
    box = prompts.box()
    if box is None:
        return whole(runs.image.shape)
    return _grown(runs, spec, box)


def _grown(runs: StageRuns, spec: StageSpec, box: Box) -> Box:
    return stage_2_region(box, runs.image.shape, runs.spacing_dhw, runs.keys, spec, magnify_single=False)


def _last_stage(runs: StageRuns, spec: StageSpec, prompts: _Prompts, box: Box) -> GroupAnswer:
    inside = LazyMasks.changed(prompts.masks, lambda mask: mask[slices(box)])
    result = runs.run(spec, box, prompts=inside or None)
    sources: list[Source] = [prompts.sources.get(index, "none") for index in range(len(runs.keys))]
    return placed(result, box, runs.image.shape, sources)


def _refined(
    runs: StageRuns, spec: StageSpec, given: _Prompts, masks: Mapping[int, np.ndarray], region: Box | None
) -> GroupAnswer:
    """Run the last stage alone where the masks are, or where the caller says; masks stay as they are elsewhere."""
    box = region or given.box()
    if box is None:
        raise InputError("There is nothing to refine: no mask was given, or all are empty.", "Segment it first.")
    grown = _grown(runs, spec, box)
    answer = _last_stage(runs, spec, given, grown)
    inside = slices(grown)
    merged = list(answer.masks)
    for index, mask in masks.items():
        kept = mask.copy()
        kept[inside] = answer.masks[index].unpack()[inside]
        merged[index] = type(answer.masks[index]).pack(kept)
    return GroupAnswer(
        tuple(merged), answer.labelmap, answer.probability, answer.mean_probability, answer.sources, answer.box
    )
