"""What a caller of a run may watch and steer, and where voxel features and probabilities are kept between runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from MedalSLib.inference.resampling_policy import Hwd, HwdMm
from MedalSLib.inference.tiling import Tile
from MedalSLib.network.medals import VoxelFeatures
from MedalSLib.volume.box import Box
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask


class FeatureCache(Protocol):
    """Voxel features of patches that were run without prompts: they depend on the image alone, not on any text.

    What is put in is what `MedalS.plain` returns.
    """

    def get(self, tile: Tile) -> VoxelFeatures | None:
        """Return what was put in for a tile, on any device and in any floating precision, or None."""

    def put(self, tile: Tile, features: VoxelFeatures) -> None:
        """Keep the features of a tile, or not."""


class ProbabilityCache(Protocol):
    """Probabilities of prompted patches by key; what is put in may be gone when it is asked for."""

    def get(self, key: Hashable) -> Tensor | None:
        """Return what was put in, on any device, or None."""

    def put(self, key: Hashable, values: Tensor) -> bool:
        """Keep a tensor that is not changed afterwards; False if there is no room."""


@dataclass(frozen=True)
class RunKey:
    """Which run of a stage a cache is asked for: same key and same image, same voxel features.

    Attributes:
        window: The intensity window of the image.
        stage: 1 or 2.
        region: Region (D, H, W) of the volume.
        spacing: Spacing (H, W, D) the plan takes the region to have.
        target_spacing: Spacing it is resampled to.
        shape: Padded grid (H, W, D).
    """

    window: Hashable
    stage: int
    region: Box
    spacing: HwdMm
    target_spacing: HwdMm
    shape: Hwd


@dataclass(frozen=True)
class Hooks:
    """What a caller may watch and steer; all are called from the thread that runs.

    Attributes:
        on_patch: `(group, stage, done, total)` after each patch; `group` counts the groups of structures that run
            together, `stage` is "stage 1", "stage 2" or "finishing".
        should_cancel: Asked before each run of a network.
        features: Returns where voxel features of a run are kept between calls, or None.  The caller's caches belong
            to one image and one model.
        probabilities: Returns where probabilities of prompted patches of a run are kept between calls, or None.
        on_structure: `(key, mask)`: a structure's mask (D, H, W) is final.
        on_probability: `(key, probability)`: the product's last stage gives a structure this probability (D, H, W),
            float16, 0 where it is less than 0.02.
        on_step: Told each step taken down the memory ladder.
    """

    on_patch: Callable[[int, str, int, int], None] | None = None
    should_cancel: Callable[[], bool] | None = None
    features: Callable[[RunKey], FeatureCache | None] | None = None
    probabilities: Callable[[RunKey], ProbabilityCache | None] | None = None
    on_structure: Callable[[str, BoxMask], None] | None = None
    on_probability: Callable[[str, BoxArray], None] | None = None
    on_step: Callable[[str], None] | None = None
