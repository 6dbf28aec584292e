"""Runs stages on regions of one volume: makes the plan, turns axes, counts patches and seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MedalSLib.inference.backends import backend
from MedalSLib.inference.boxes import Box, shifted, slices
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.memory import finest_width, in_sweeps
from MedalSLib.inference.models import StagedModel
from MedalSLib.inference.options import Hooks, RunKey, RunOptions
from MedalSLib.inference.packed import PackedMask
from MedalSLib.inference.predictor import Network
from MedalSLib.inference.previews import middle_of_patch
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec, plan
from MedalSLib.inference.sinks import StageResult
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.inference.tiling import Tile


class StageRuns:
    """Stages of one model on regions of one volume, for one list of structures.

    Args:
        model: The model.
        image_dhw: Intensities (D, H, W), 0..255.
        spacing_dhw: Spacing in mm.
        keys: Class of each query.
        queries: Text queries [N, Q].
        instance: Whether these are instance targets.
        options: Choices of the run.
        compute: Device, precision and chunks.
        hooks: What to watch and steer.
        origin: Where `image_dhw` begins in the whole volume, for the keys of caches.
        turn: Number of this group of structures, and how many there are, for the progress.
    """

    def __init__(
        self,
        model: StagedModel,
        image_dhw: np.ndarray,
        spacing_dhw: Sequence[float],
        keys: Sequence[str],
        queries: Tensor,
        instance: bool,
        options: RunOptions,
        compute: Compute,
        hooks: Hooks,
        origin: Sequence[int] = (0, 0, 0),
        turn: tuple[int, int] = (0, 1),
    ) -> None:
        self.image = image_dhw
        self.spacing_dhw = tuple(float(value) for value in spacing_dhw)
        self.keys = tuple(keys)
        self.instance = instance
        self.seconds: dict[str, float] = {}
        self.runs = 0
        self.reused = 0
        self.repeated = 0
        self.steps: dict[str, None] = {}
        self._model = model
        self._queries = queries
        self._options = options
        self._compute = compute
        self._hooks = hooks
        self._origin = tuple(origin)
        self._turn = turn

    def run(
        self,
        spec: StageSpec,
        region: Box,
        members: Sequence[int] | None = None,
        prompts: np.ndarray | Mapping[int, PackedMask] | None = None,
        label_values: Sequence[int] | None = None,
        labels: bool = True,
    ) -> StageResult:
        """Run a stage on a region.

        Args:
            spec: The stage.
            region: Bounds (D, H, W) within the image.
            members: Positions of the structures asked for, None for all.
            prompts: A labelmap of the region (published), or masks of the region by position in `members`.
            label_values: Labels in a published labelmap.
            labels: Whether the product's labelmap and probabilities are wanted beside its masks.

        Returns:
            The answer on the region, axes (H, W, D).
        """
        chosen = list(range(len(self.keys))) if members is None else list(members)
        begun = time.perf_counter()
        part = self.image[slices(region)].transpose(1, 2, 0)
        made = self.planned(spec, region, chosen)
        key = RunKey.of(spec.stage, self._in_volume(region), made)
        with _placed(self._model.network(str(spec.stage)), self._compute.torch_device) as network:
            compute = self._in_sweeps(made, len(chosen), network)
            result = run_stage(
                backend(network, compute, made.patch),
                self._queries[chosen],
                part,
                made,
                _turned(prompts),
                label_values=label_values,
                instance=self.instance,
                policy=self._options.policy,
                seed=self._options.seed,
                compute=compute,
                hooks=self._stage_hooks(spec.stage, key, made, chosen),
                labels=labels,
            )
        stage = f"stage {spec.stage}"
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun
        self.runs += result.runs
        self.reused += result.reused
        self.repeated += result.repeated
        return result

    def planned(self, spec: StageSpec, region: Box, members: Sequence[int] | None = None) -> ResamplingPlan:
        """Return the plan that `run` makes for a region."""
        deep, high, wide = self.spacing_dhw
        shape = [stop - start for start, stop in region]
        return plan(
            (shape[1], shape[2], shape[0]),
            (high, wide, deep),
            [self.keys[index] for index in (range(len(self.keys)) if members is None else members)],
            spec,
            magnify_single=self._options.policy == "published",
        )

    def _in_sweeps(self, made: ResamplingPlan, classes: int, network: object) -> Compute:
        free = self._options.free_memory_mb
        if free is None:
            return self._compute
        compute = in_sweeps(self._compute, made, classes, finest_width(network), free)
        if compute != self._compute and compute.class_chunk:
            self.steps[f"classes in {ceil(classes / compute.class_chunk)} sweeps"] = None
        return compute

    def _in_volume(self, region: Box) -> Box:
        return shifted(region, self._origin)

    def _stage_hooks(self, stage: int, key: RunKey, made: ResamplingPlan, chosen: Sequence[int]) -> StageHooks:
        hooks, (number, count) = self._hooks, self._turn
        on_patch, tile_order, on_early = hooks.on_patch, hooks.tile_order, hooks.on_early

        def early(tile: Tile, start: int, probabilities: Tensor) -> None:
            assert on_early is not None
            keys = [self.keys[index] for index in chosen[start : start + len(probabilities)]]
            wanted = [at for at, name in enumerate(keys) if hooks.early_keys is None or name in hooks.early_keys]
            if wanted:
                box, values = middle_of_patch(tile, probabilities[wanted], made)
                on_early([keys[at] for at in wanted], shifted(box, [begin for begin, _ in key.region]), values)

        return StageHooks(
            on_patch=None
            if on_patch is None
            else lambda done, total: on_patch(f"stage {stage}", number * total + done, count * total),
            should_cancel=hooks.should_cancel,
            cache=None if hooks.features is None else hooks.features(key),
            tile_order=None if tile_order is None else lambda tiles: tile_order(key, tiles),
            answers=None if hooks.answers is None else hooks.answers(key),
            on_early=None if on_early is None or len(made.tiles) == 1 else early,
        )


def _turned(
    prompts: np.ndarray | Mapping[int, PackedMask] | None,
) -> np.ndarray | Mapping[int, PackedMask] | None:
    """Return prompts (D, H, W) with axes (H, W, D)."""
    if prompts is None or isinstance(prompts, np.ndarray):
        return None if prompts is None else prompts.transpose(1, 2, 0)
    return {index: mask.transposed((1, 2, 0)) for index, mask in prompts.items()}


@contextmanager
def _placed(network: Any, device: torch.device) -> Iterator[Network]:
    """Have a network on a device, and back where it was afterwards (the ladder's last step runs on the CPU)."""
    parameter = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    home = None if parameter is None else parameter.device
    if home is None or home.type == device.type:
        yield network
        return
    network.to(device)
    try:
        yield network
    finally:
        network.to(home)
