"""What a caller of `segment.segment_volume` may choose, watch and steer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from MedalSLib.inference.answers import AnswerCache
from MedalSLib.inference.boxes import Box
from MedalSLib.inference.postprocessing import MIN_COMPONENT
from MedalSLib.inference.predictor import FeatureCache
from MedalSLib.inference.resampling_policy import Hwd, HwdMm, ResamplingPlan
from MedalSLib.inference.tiling import Tile

Mode = Literal["auto", "text", "hybrid", "refine"]
Policy = Literal["product", "published"]


@dataclass(frozen=True)
class AbsenceRule:
    """When a structure is reported absent instead of speckled (product policy).

    The networks answer for whatever they are asked.  Asked for something that is not there, they leave specks, or a
    region in which they hardly believe.  A structure that the user gave a mask for is never called absent for the
    second reason.

    Attributes:
        min_voxels: Components of fewer voxels are dropped.
        min_mean_probability: A structure whose mean probability over its whole mask is lower is absent; over what the
            networks are sure of it is above 0.8, at chance just above 0.5.
    """

    min_voxels: int = MIN_COMPONENT
    min_mean_probability: float = 0.6


@dataclass(frozen=True)
class RunOptions:
    """Choices of one run.

    Attributes:
        mode: "text" ignores masks, "hybrid" uses each as its structure's prompt, "refine" runs only the last stage in
            the region of the masks; "auto" is "hybrid" where there are masks, else "text".
        policy: "published" or "product".
        seed: Seed of the random prompt blocks.
        stages: "both", or "first" for the coarse network alone.
        postprocess: Whether the published component filter is applied to the classes it is published for.
        instances: Keys of the structures whose components are wanted as separate instances.
        absence: When a structure is reported absent.
        memory_limit_mb: Steps down the memory ladder are taken beforehand until the estimate fits; None to take them
            only when memory runs out.
        free_memory_mb: MiB free on the device of the networks: classes run in as many sweeps as their sums need to fit
            there, which changes no answer; None if that is not known.
    """

    mode: Mode = "auto"
    policy: Policy = "product"
    seed: int = 0
    stages: Literal["both", "first"] = "both"
    postprocess: bool = True
    instances: tuple[str, ...] = ()
    absence: AbsenceRule = field(default_factory=AbsenceRule)
    memory_limit_mb: float | None = None
    free_memory_mb: float | None = None


@dataclass(frozen=True)
class RunKey:
    """Which run of a stage a cache or a tile order is asked for: same key and same image, same voxel features.

    Attributes:
        stage: 1 or 2.
        region: Region (D, H, W) of the volume.
        spacing: Spacing the plan takes the region to have.
        target_spacing: Spacing it is resampled to.
        shape: Padded grid (H, W, D).
    """

    stage: int
    region: Box
    spacing: HwdMm
    target_spacing: HwdMm
    shape: Hwd

    @classmethod
    def of(cls, stage: int, region: Box, plan: ResamplingPlan) -> RunKey:
        """Return the key of a plan for a region."""
        return cls(stage, region, plan.spacing, plan.target_spacing, plan.shape)


@dataclass(frozen=True)
class Hooks:
    """What a caller may watch and steer; all are called from the thread that runs.

    Attributes:
        on_patch: `(stage, done, total)` after each patch; `stage` is "stage 1", "stage 2" or "finishing".
        should_cancel: Asked before each run of a network.
        features: Returns where voxel features of a run are kept between calls, or None.  The caller's caches belong
            to one image with one intensity window, and one model.
        tile_order: Returns a run's tiles in the order in which they should run.
        answers: Returns where probabilities of prompted patches of a run are kept between calls, or None.
        on_early: `(classes, box, probabilities)`: a patch that ran ahead of the rest because of `tile_order` and
            `answers`: the middle of it, on the part `box` (D, H, W) of the volume, float32 (N, D, H, W) by class.
            Not told of the only patch of a run, as the whole answer is next.
        early_keys: The structures that `on_early` is told of; None for all.
        on_step: Told each step taken down the memory ladder.
    """

    on_patch: Callable[[str, int, int], None] | None = None
    should_cancel: Callable[[], bool] | None = None
    features: Callable[[RunKey], FeatureCache | None] | None = None
    tile_order: Callable[[RunKey, Sequence[Tile]], Sequence[Tile]] | None = None
    answers: Callable[[RunKey], AnswerCache | None] | None = None
    on_early: Callable[[Sequence[str], Box, np.ndarray], None] | None = None
    early_keys: Collection[str] | None = None
    on_step: Callable[[str], None] | None = None
