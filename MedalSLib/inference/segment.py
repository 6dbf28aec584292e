"""Segment a volume: the one call an engine needs (its example is in the room's docstring)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from torch import Tensor

from MedalSLib.errors import InputError
from MedalSLib.inference.boxes import Box, intersection, slices, whole
from MedalSLib.inference.class_policy import rules_of
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.finishing import Limits, finished
from MedalSLib.inference.group_answer import GroupAnswer
from MedalSLib.inference.memory import estimate_run, fitting, with_ladder
from MedalSLib.inference.models import StagedModel, stage_specs
from MedalSLib.inference.options import AbsenceRule, Hooks, RunKey, RunOptions
from MedalSLib.inference.packed import PackedMask
from MedalSLib.inference.product_run import run_product
from MedalSLib.inference.published_run import run_published
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.inference.results import StructureLike, StructureResult, VolumeResult, merge_results
from MedalSLib.inference.stage_runs import StageRuns

__all__ = [
    "AbsenceRule",
    "Compute",
    "Hooks",
    "RunKey",
    "RunOptions",
    "StructureResult",
    "VolumeResult",
    "merge_results",
    "segment_volume",
]


@dataclass(frozen=True)
class _Scene:
    """What all groups of structures share: the part of the volume that is segmented, and the user's masks of it."""

    image: np.ndarray
    spacing: tuple[float, float, float]
    region: Box | None
    limits: Limits

    def masks(self, members: Sequence[StructureLike]) -> dict[int, PackedMask]:
        """Masks within the window that are not empty, by position among `members`."""
        window, masks = self.limits.window, self.limits.masks
        parts = {index: masks[item.key].within(window) for index, item in enumerate(members) if item.key in masks}
        return {index: part for index, part in parts.items() if not part.empty}


def segment_volume(
    model: StagedModel,
    image_dhw: np.ndarray,
    spacing_dhw: Sequence[float],
    structures: Sequence[StructureLike],
    queries: Tensor,
    *,
    masks_dhw: Mapping[str, np.ndarray | PackedMask] | None = None,
    locked_dhw: Mapping[str, np.ndarray | PackedMask] | None = None,
    roi_dhw: Box | None = None,
    region_dhw: Box | None = None,
    options: RunOptions | None = None,
    compute: Compute | None = None,
    hooks: Hooks | None = None,
) -> VolumeResult:
    """Segment structures in a volume.

    Structures run together where the rules allow it.  In the product policy those that another rule holds for
    (instances, microscopy's unit spacing, one stage only) run in a group of their own, so that asking for one does
    not change another.

    Args:
        model: Stages and networks.
        image_dhw: Intensities (D, H, W), 0..255, after the intensity window.
        spacing_dhw: Spacing in mm.
        structures: What is wanted, no key twice.
        queries: Text queries [N, Q], one for each structure.
        masks_dhw: Boolean masks by key, packed or not: prompts, and what `locked_dhw` keeps.
        locked_dhw: Boolean volumes by key, packed or not: where True, the answer is what the structure's mask says
            (False without one), whatever the network says.
        roi_dhw: Hard limits of the answer.  The networks see half a patch more on each side.
        region_dhw: Run the last stage alone, on this region grown to at least a patch (that of an edit); masks stay
            as they are outside it.
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
    _check(image_dhw, structures, queries)
    specs = stage_specs(model)
    scene = _scene(image_dhw, spacing_dhw, masks_dhw or {}, locked_dhw or {}, roi_dhw, region_dhw, specs)
    groups = _groups(structures, options)
    results = []
    for number, positions in enumerate(groups):
        members = [structures[position] for position in positions]
        chosen = queries[positions]
        results.append(_run_group(model, specs, scene, members, chosen, options, compute, hooks, number, len(groups)))
    if hooks.on_patch is not None:
        hooks.on_patch("finishing", 1, 1)
    return results[0] if len(results) == 1 else merge_results(results, structures)


def _run_group(
    model: StagedModel,
    specs: Mapping[int, StageSpec],
    scene: _Scene,
    members: Sequence[StructureLike],
    queries: Tensor,
    options: RunOptions,
    compute: Compute,
    hooks: Hooks,
    number: int,
    count: int,
) -> VolumeResult:
    """Run the structures of one group, down the memory ladder as far as it takes, and finish them."""
    keys = [item.key for item in members]
    masks = scene.masks(members)
    origin = [start for start, _ in scene.limits.window]

    def attempt(way: Compute) -> tuple[GroupAnswer, StageRuns]:
        instance = members[0].kind == "instance"
        runs = StageRuns(
            model, scene.image, scene.spacing, keys, queries, instance, options, way, hooks, origin, (number, count)
        )
        if options.policy == "published":
            return run_published(runs, specs, masks, options), runs
        return run_product(runs, specs, masks, options, scene.region), runs

    beforehand: tuple[str, ...] = ()
    if options.memory_limit_mb is not None:
        compute, beforehand = _fitted(model, scene, keys, bool(masks), compute, options.memory_limit_mb)
    (answer, runs), steps = with_ladder(attempt, compute, len(keys), on_step=hooks.on_step)
    begun = time.perf_counter()
    result = finished(answer, members, scene.limits, options)
    cached = [
        f"{what} of {count} patches"
        for what, count in (("voxel features", runs.reused), ("answers", runs.repeated))
        if count
    ]
    return replace(
        result,
        seconds={**runs.seconds, "finishing": time.perf_counter() - begun},
        steps=(*beforehand, *steps, *runs.steps),
        cached=tuple(cached),
        runs=runs.runs,
    )


def _fitted(
    model: StagedModel, scene: _Scene, keys: Sequence[str], prompted: bool, compute: Compute, limit_mb: float
) -> tuple[Compute, tuple[str, ...]]:
    def need(way: Compute) -> float:
        estimate = estimate_run(model, scene.image.shape, scene.spacing, keys, prompted=prompted, compute=way)
        return estimate.memory_mb

    return fitting(need, compute, len(keys), limit_mb)


def _groups(structures: Sequence[StructureLike], options: RunOptions) -> list[list[int]]:
    """Return positions of the structures that run together.

    The published policy splits by kind alone, as a challenge case does; the product's by every rule that would
    otherwise spread from one structure to the others.
    """
    groups: dict[object, list[int]] = {}
    for position, item in enumerate(structures):
        rules = rules_of([item.key])
        apart = (rules.unit_spacing, rules.enlarged, rules.first_stage_only, rules.second_stage_only)
        refined = rules.refined_in_stages if item.kind == "instance" else None
        kind = (item.kind,) if options.policy == "published" else (item.kind, *apart, refined, rules.region_growth)
        groups.setdefault(kind, []).append(position)
    return list(groups.values())


def _scene(
    image_dhw: np.ndarray,
    spacing_dhw: Sequence[float],
    masks: Mapping[str, np.ndarray | PackedMask],
    locked: Mapping[str, np.ndarray | PackedMask],
    roi: Box | None,
    region: Box | None,
    specs: Mapping[int, StageSpec],
) -> _Scene:
    """Cut out the part of the volume that will be segmented, and check what the user gave."""
    deep, high, wide = (int(size) for size in image_dhw.shape)
    shape = (deep, high, wide)
    for what, arrays in (("mask", masks), ("locked region", locked)):
        for key, array in arrays.items():
            if array.shape != shape:
                raise InputError(
                    f"The {what} of '{key}' has the shape {array.shape}, the image {shape}.",
                    "Resample it to the image's grid.",
                )
    inside = _within(roi, shape, "region of interest")
    window = whole(shape) if inside is None else _with_margin(inside, shape, spacing_dhw, specs[max(specs)])
    edit = _within(region, shape, "region")
    edit = None if edit is None else intersection(edit, window)
    if region is not None and edit is None:
        raise InputError("The region lies outside the region of interest.", "Choose another one.")
    z, y, x = (float(value) for value in spacing_dhw)
    return _Scene(
        image=np.ascontiguousarray(image_dhw[slices(window)], dtype=np.float32),
        spacing=(z, y, x),
        region=None if edit is None else _relative(edit, window),
        limits=Limits(
            shape,
            window,
            inside,
            {key: PackedMask.of(mask) for key, mask in masks.items()},
            {key: PackedMask.of(mask) for key, mask in locked.items()},
        ),
    )


def _within(box: Box | None, shape: tuple[int, int, int], what: str) -> Box | None:
    if box is None:
        return None
    inside = intersection(box, whole(shape))
    if inside is None:
        raise InputError(f"The {what} holds no voxel of the image.", "Choose one that overlaps the image.")
    return inside


def _with_margin(roi: Box, shape: tuple[int, int, int], spacing_dhw: Sequence[float], spec: StageSpec) -> Box:
    """Return a region of interest with half a patch of the last stage on each side, for the networks to see."""
    high, wide, deep = (patch * target / 2 for patch, target in zip(spec.patch_hwd, spec.spacing_hwd, strict=True))
    bounds = []
    for (start, stop), size, spacing, margin in zip(roi, shape, spacing_dhw, (deep, high, wide), strict=True):
        reach = ceil(margin / spacing)
        bounds.append((max(0, start - reach), min(size, stop + reach)))
    return bounds[0], bounds[1], bounds[2]


def _relative(box: Box, window: Box) -> Box:
    first, second, third = (
        (start - offset, stop - offset) for (start, stop), (offset, _) in zip(box, window, strict=True)
    )
    return first, second, third


def _check(image_dhw: np.ndarray, structures: Sequence[StructureLike], queries: Tensor) -> None:
    if image_dhw.ndim != 3 or 0 in image_dhw.shape:
        raise InputError(f"The image has the shape {image_dhw.shape}.", "Give a 3-D image that is not empty.")
    if not structures:
        raise InputError("No structure was asked for.", "Name one at least.")
    if len({item.key for item in structures}) != len(structures) or len(queries) != len(structures):
        raise ValueError("there must be one query for each structure, and no structure twice")
