"""Runs stages on regions of one volume: makes the plan, counts patches and seconds.

Regions, masks and results have the axes (D, H, W) here; the stage itself works on (H, W, D).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MedalSLib.inference.backends import Network, backend
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.grouping import Group
from MedalSLib.inference.hooks import Hooks, RunKey
from MedalSLib.inference.memory import finest_width, in_sweeps
from MedalSLib.inference.outputs import StageResult
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec, plan
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.network.axes import array_to_dhw, array_to_hwd, boxed_to_dhw, hwd, mask_to_dhw, mask_to_hwd
from MedalSLib.network.bundle import Model
from MedalSLib.volume.box import Box, shape_of, shifted, slices
from MedalSLib.volume.mask import BoxMask


@dataclass(eq=False)
class StageRunner:
    """Stages of one model on regions of one volume, for one group of structures.

    Attributes:
        model: The model.
        image: Intensities (D, H, W), 0..255.
        spacing_dhw: Spacing in mm.
        group: The structures, and how they run.
        queries: Text queries [N, Q] of the group.
        compute: Device, precision and chunks.
        hooks: What to watch and steer.
        origin: Where `image` begins in the whole volume.
        seconds: Seconds by stage.
        runs: Runs of the networks.
        reused: Patches whose voxel features came from the cache.
        repeated: Prompted patches whose whole answer came from the cache.
        steps: Steps taken down the memory ladder, in words, as keys.
    """

    model: Model
    image: np.ndarray
    spacing_dhw: Sequence[float]
    group: Group
    queries: Tensor
    compute: Compute
    hooks: Hooks
    origin: Sequence[int]
    seconds: dict[str, float] = field(default_factory=dict)
    runs: int = 0
    reused: int = 0
    repeated: int = 0
    steps: dict[str, None] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the structures."""
        return self.group.keys

    def run(
        self,
        spec: StageSpec,
        region: Box,
        members: Sequence[int] | None = None,
        prompts: np.ndarray | Mapping[int, BoxMask] | None = None,
        labels: bool = True,
    ) -> StageResult:
        """Run a stage on a region.

        Args:
            spec: The stage.
            region: Bounds (D, H, W) within the image.
            members: Positions of the structures asked for, None for all.
            prompts: A labelmap of the region (published), whose labels are 1 + position, or masks of the region by
                position in `members`.
            labels: Whether the product's labelmap and probabilities are wanted beside its masks.

        Returns:
            The answer on the region, axes (D, H, W).
        """
        chosen = list(range(len(self.keys))) if members is None else list(members)
        begun = time.perf_counter()
        grid_plan = self.planned(spec, region, chosen)
        key = RunKey(
            self.group.window,
            spec.stage,
            shifted(region, self.origin),
            grid_plan.spacing,
            grid_plan.target_spacing,
            grid_plan.shape,
        )
        with _on_device(self.model.network(str(spec.stage)), self.compute.torch_device) as network:
            compute = self._in_sweeps(grid_plan, len(chosen), network)
            result = run_stage(
                backend(network, compute, grid_plan.patch),
                self.queries[chosen],
                array_to_hwd(self.image[slices(region)]),
                grid_plan,
                _to_hwd(prompts),
                instance=self.group.instance,
                policy=self.group.options.policy,
                seed=self.group.options.seed,
                compute=compute,
                hooks=self._stage_hooks(spec.stage, key),
                labels=labels,
                each_probability=labels and self.hooks.on_probability is not None,
            )
        stage = f"stage {spec.stage}"
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun
        self.runs += result.runs
        self.reused += result.reused
        self.repeated += result.repeated
        return replace(
            result,
            labelmap=array_to_dhw(result.labelmap),
            max_probability=array_to_dhw(result.max_probability),
            masks=tuple(mask_to_dhw(mask) for mask in result.masks),
            probabilities=tuple(boxed_to_dhw(values) for values in result.probabilities),
        )

    def planned(self, spec: StageSpec, region: Box, members: Sequence[int] | None = None) -> ResamplingPlan:
        """Return the plan that `run` makes.

        Args:
            spec: The stage.
            region: Bounds (D, H, W) within the image.
            members: Positions of the structures asked for, None for all.
        """
        keys = self.keys if members is None else [self.keys[index] for index in members]
        published = self.group.options.policy == "published"
        return plan(hwd(shape_of(region)), hwd(self.spacing_dhw), keys, spec, magnify_single=published)

    def _in_sweeps(self, grid_plan: ResamplingPlan, classes: int, network: object) -> Compute:
        free = self.compute.free_memory_mb
        if free is None:
            return self.compute
        compute = in_sweeps(self.compute, grid_plan, classes, finest_width(network), free)
        if compute != self.compute and compute.class_chunk:
            self.steps[f"classes in {ceil(classes / compute.class_chunk)} sweeps"] = None
        return compute

    def _stage_hooks(self, stage: int, key: RunKey) -> StageHooks:
        hooks, number = self.hooks, self.group.number
        on_patch = hooks.on_patch
        return StageHooks(
            on_patch=None if on_patch is None else lambda done, total: on_patch(number, f"stage {stage}", done, total),
            should_cancel=hooks.should_cancel,
            features=None if hooks.features is None else hooks.features(key),
            probabilities=None if hooks.probabilities is None else hooks.probabilities(key),
        )


def _to_hwd(prompts: np.ndarray | Mapping[int, BoxMask] | None) -> np.ndarray | Mapping[int, BoxMask] | None:
    if prompts is None or isinstance(prompts, np.ndarray):
        return None if prompts is None else array_to_hwd(prompts)
    return {index: mask_to_hwd(mask) for index, mask in prompts.items()}


@contextmanager
def _on_device(network: Any, device: torch.device) -> Iterator[Network]:
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
