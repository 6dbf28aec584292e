"""One stage from end to end: a volume, its plan and text queries to labels and masks on the volume's own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.backends import Network
from MedalSLib.inference.blending import BlendedPatches, batches
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.hooks import FeatureCache, ProbabilityCache
from MedalSLib.inference.mask_output import MaskOutput
from MedalSLib.inference.outputs import LabelOutput, StageResult
from MedalSLib.inference.patch_cache import CachedPredictor
from MedalSLib.inference.predictor import PatchPredictor
from MedalSLib.inference.prompts import (
    LabelmapVolume,
    MaskVolume,
    seeded_permutation,
)
from MedalSLib.inference.resampling import preprocess
from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True)
class StageHooks:
    """What a caller may watch and steer in a stage.

    Attributes:
        on_patch: Called as `(done, total)` after each patch.
        should_cancel: Asked before each run of the network; True ends the stage with `CancelledError`.
        features: Voxel features of patches without prompts; its keys are this plan's tiles, so one cache belongs to one
            image, one network and one plan.
        probabilities: Of prompted patches; its keys are this plan's tiles and what they were asked, so it belongs to
            one image, one network and one plan.
    """

    on_patch: Callable[[int, int], None] | None = None
    should_cancel: Callable[[], bool] | None = None
    features: FeatureCache | None = None
    probabilities: ProbabilityCache | None = None


def run_stage(
    network: Network,
    queries: Tensor,
    image_hwd: np.ndarray | Tensor,
    plan: ResamplingPlan,
    class_masks: np.ndarray | Mapping[int, np.ndarray | BoxMask] | None = None,
    *,
    instance: bool = False,
    policy: Literal["product", "published"] = "product",
    seed: int = 0,
    compute: Compute | None = None,
    hooks: StageHooks | None = None,
    labels: bool = True,
    each_probability: bool = False,
) -> StageResult:
    """Run one stage.

    Args:
        network: A `MedalS` in evaluation mode, on `compute.device`.
        queries: Text queries [N, Q].
        image_hwd: Intensities (H, W, D), 0..255.
        plan: The plan made for this volume, these classes and this network.
        class_masks: Prompts on the volume's own grid: a labelmap (H, W, D) whose labels are 1 + position of the class
            among the queries, or masks (H, W, D), which may overlap, by position; None for no prompts.
        instance: Whether the classes are instance targets, which are refined from their own prediction.
        policy: "published" (argmax on the plan's grid, labels resampled back) or "product" (a mask for each class).
        seed: Seed of the random prompt blocks.
        compute: Device, precision and chunks.
        hooks: What to watch and steer.
        labels: Whether the product's labelmap and largest probability are wanted beside its masks; else they are empty.
        each_probability: Whether the product's probability of each class is wanted too.

    Raises:
        CancelledError: The run was cancelled; nothing of it is kept.
        ValueError: The image or a mask does not have the plan's shape.
    """
    compute, hooks = compute or Compute(), hooks or StageHooks()
    count = len(queries)
    with torch.inference_mode():
        volume = preprocess(image_hwd, plan, compute.blending_device)
        prompts: LabelmapVolume | MaskVolume | None = None
        if isinstance(class_masks, np.ndarray):
            prompts = LabelmapVolume(class_masks, count, plan, compute.blending_device)
        elif class_masks:
            prompts = MaskVolume(class_masks, plan, compute.blending_device)
        output = (
            LabelOutput(plan, count, compute.blending_device)
            if policy == "published"
            else MaskOutput(plan, count, compute.blending_device, labels, each_probability)
        )
        predictor = PatchPredictor(
            network,
            queries,
            compute,
            seeded_permutation(seed),
            plan.refinement_iterations if instance else 0,
            hooks.features,
            hooks.should_cancel,
        )
        patches = CachedPredictor(predictor, hooks.probabilities, queries, seed)
        _sweep_all(patches, volume, prompts, plan, output, compute, hooks)
        return replace(output.result(), runs=predictor.runs, reused=predictor.reused, repeated=len(patches.served))


def _sweep_all(
    patches: CachedPredictor,
    volume: Tensor,
    prompts: LabelmapVolume | MaskVolume | None,
    plan: ResamplingPlan,
    output: LabelOutput | MaskOutput,
    compute: Compute,
    hooks: StageHooks,
) -> None:
    """Run all patches, once for each chunk of classes, and hand final regions to the output."""
    chunk = max(1, compute.class_chunk or patches.count)
    starts = range(0, patches.count, chunk)
    device, done = compute.torch_device, 0
    for start in starts:
        stop = min(start + chunk, patches.count)
        output.begin(start, stop)
        sums = BlendedPatches(stop - start, plan, compute.accumulator_dtype, compute.blending_device)
        for tiles, final in batches(plan):
            for tile in tiles:
                image = volume[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]].to(device)
                shown = None if prompts is None else prompts.patch(tile, device)
                sums.add(tile, patches.probabilities(image, shown, tile, start, stop))
                done += 1
                if hooks.on_patch is not None:
                    hooks.on_patch(done, len(starts) * len(plan.tiles))
            output.take(final, sums.rows(final))
            sums.forget(final)
