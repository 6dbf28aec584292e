"""One stage from end to end: a volume, its plan and text queries to labels and masks on the volume's own grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from MedalSLib.inference.accumulator import Accumulator, batches
from MedalSLib.inference.answers import AnswerCache, Answers
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.mask_sink import MaskSink
from MedalSLib.inference.packed import PackedMask
from MedalSLib.inference.predictor import FeatureCache, Network, PatchPredictor
from MedalSLib.inference.prompts import (
    LabelmapVolume,
    MaskVolume,
    PatchPrompts,
    Permutation,
    PromptVolume,
    seeded_permutation,
)
from MedalSLib.inference.resampling import preprocess
from MedalSLib.inference.resampling_policy import ResamplingPlan
from MedalSLib.inference.sinks import LabelSink, Sink, StageResult
from MedalSLib.inference.tiling import Tile

OnEarly = Callable[[Tile, int, Tensor], None]
"""`(tile, class, probabilities)`: probabilities (N, H, W, D) of the classes `class`.. of a patch, not yet blended."""
TileOrder = Callable[[Sequence[Tile]], Sequence[Tile]]


@dataclass(frozen=True)
class StageHooks:
    """What a caller may watch and steer in a stage.

    Attributes:
        on_patch: Called as `(done, total)` after each patch.
        should_cancel: Asked before each run of the network; True ends the stage with `CancelledError`.
        cache: Voxel features of patches without prompts; its keys are this plan's tiles, so one cache belongs to one
            image, one network and one plan.
        tile_order: Returns the tiles in the order in which they should run.  The answer does not depend on it, but the
            accumulators then hold the whole volume.  With `answers`, only what has to run runs in this order, ahead of
            the rest; it is blended in the usual one.
        answers: Probabilities of prompted patches; its keys are this plan's tiles and what they were asked, so it
            belongs to one image, one network and one plan.
        on_early: Given the patches that run ahead, as they come.
    """

    on_patch: Callable[[int, int], None] | None = None
    should_cancel: Callable[[], bool] | None = None
    cache: FeatureCache | None = None
    tile_order: TileOrder | None = None
    answers: AnswerCache | None = None
    on_early: OnEarly | None = None


def run_stage(
    network: Network,
    queries: Tensor,
    image_hwd: np.ndarray | Tensor,
    plan: ResamplingPlan,
    class_masks: np.ndarray | Mapping[int, np.ndarray | PackedMask] | None = None,
    *,
    label_values: Sequence[int] | None = None,
    instance: bool = False,
    policy: Literal["product", "published"] = "product",
    seed: int = 0,
    permutation: Permutation | None = None,
    compute: Compute | None = None,
    hooks: StageHooks | None = None,
    labels: bool = True,
) -> StageResult:
    """Run one stage.

    Args:
        network: A `MedalS` in evaluation mode, on `compute.device`.
        queries: Text queries [N, Q].
        image_hwd: Intensities (H, W, D), 0..255.
        plan: The plan made for this volume, these classes and this network.
        class_masks: Prompts on the volume's own grid: a labelmap (H, W, D) whose labels are `label_values`, or boolean
            masks (H, W, D), which may overlap, packed or not, by position of the class among the queries; None for no
            prompts.
        label_values: Label of each class, 1..N by default; the product's labelmap always has 1..N.
        instance: Whether the classes are instance targets, which are refined from their own prediction.
        policy: "published" (argmax on the plan's grid, labels resampled back) or "product" (a mask for each class).
        seed: Seed of the random prompt blocks.
        permutation: Order of the prompt blocks; None for the seeded one.
        compute: Device, precision and chunks.
        hooks: What to watch and steer.
        labels: Whether the product's labelmap and probabilities are wanted beside its masks; if not, they are empty.

    Raises:
        CancelledError: The run was cancelled; nothing of it is kept.
        ValueError: The image or a mask does not have the plan's shape.
    """
    compute, hooks = compute or Compute(), hooks or StageHooks()
    count = len(queries)
    values = tuple(range(1, count + 1)) if label_values is None else tuple(int(value) for value in label_values)
    with torch.inference_mode():
        volume = preprocess(image_hwd, plan, compute.blending_device)
        prompts = _prompt_volume(class_masks, values, plan, compute.blending_device)
        sink: Sink = (
            LabelSink(plan, values, compute.blending_device)
            if policy == "published"
            else MaskSink(plan, count, compute.blending_device, labels)
        )
        predictor = PatchPredictor(
            network,
            queries,
            compute,
            permutation or seeded_permutation(seed),
            plan.refinement_iterations if instance else 0,
            hooks.cache,
            hooks.should_cancel,
        )
        answers = Answers(predictor, None if permutation else hooks.answers, queries, seed)
        _sweep_all(answers, volume, prompts, plan, sink, compute, hooks)
        return replace(sink.result(), runs=predictor.runs, reused=predictor.reused, repeated=answers.reused)


@dataclass
class _Sweep:
    """What the patches of a stage are cut from, and how far they have come."""

    answers: Answers
    volume: Tensor
    prompts: PromptVolume | None
    device: torch.device
    on_patch: Callable[[int, int], None] | None
    total: int
    done: set[tuple[Tile, int]] = field(default_factory=set)

    def patch(self, tile: Tile) -> tuple[Tensor, PatchPrompts | None]:
        """Return image and prompts of a tile on the network's device."""
        image = self.volume[tile[0] : tile[1], tile[2] : tile[3], tile[4] : tile[5]].to(self.device)
        return image, None if self.prompts is None else self.prompts.patch(tile, self.device)

    def count(self, tile: Tile, start: int) -> None:
        """Report a patch, once."""
        if (tile, start) not in self.done:
            self.done.add((tile, start))
            if self.on_patch is not None:
                self.on_patch(len(self.done), self.total)


def _sweep_all(
    answers: Answers,
    volume: Tensor,
    prompts: PromptVolume | None,
    plan: ResamplingPlan,
    sink: Sink,
    compute: Compute,
    hooks: StageHooks,
) -> None:
    """Run all patches, once for each chunk of classes, and hand final rows to the sink."""
    chunk = compute.class_chunk or answers.count
    starts = range(0, answers.count, max(1, chunk))
    sweep = _Sweep(answers, volume, prompts, compute.torch_device, hooks.on_patch, len(starts) * len(plan.tiles))
    order = hooks.tile_order
    if hooks.answers is not None and order is not None:
        for tile, start in product(_ordered(plan, order), starts):
            early = answers.ahead(*sweep.patch(tile), tile, start, min(start + chunk, answers.count))
            if answers.full:
                break
            if early is not None:
                sweep.count(tile, start)
                if hooks.on_early is not None:
                    hooks.on_early(tile, start, early)
        order = None
    for start in starts:
        stop = min(start + chunk, answers.count)
        sink.begin(start, stop)
        sums = Accumulator(stop - start, plan, compute.accumulator_dtype, compute.blending_device)
        for batch in batches(plan, None if order is None else _ordered(plan, order)):
            for tile in batch.tiles:
                sums.add(tile, answers.probabilities(*sweep.patch(tile), tile, start, stop))
                sweep.count(tile, start)
            for region in batch.final:
                sink.take(region, sums.rows(region))
                sums.forget(region)


def _ordered(plan: ResamplingPlan, order: TileOrder) -> tuple[Tile, ...]:
    ordered = tuple(order(plan.tiles))
    if sorted(ordered) != sorted(plan.tiles):
        raise ValueError("tile_order must return the same tiles in another order")
    return ordered


def _prompt_volume(
    class_masks: np.ndarray | Mapping[int, np.ndarray | PackedMask] | None,
    values: Sequence[int],
    plan: ResamplingPlan,
    device: torch.device,
) -> PromptVolume | None:
    if class_masks is None:
        return None
    if isinstance(class_masks, Mapping):
        return MaskVolume(class_masks, plan, device) if class_masks else None
    return LabelmapVolume(class_masks, values, plan, device)
