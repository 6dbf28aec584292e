"""Augmentation with the published parameters, on batchgeneratorsv2.

batchgeneratorsv2 and MONAI were measured with these parameters on a 128 x 128 x 96 patch, one thread, labels to the
nearest voxel: 51 ms a sample against 59 to 101 ms (blur 15 against 80 ms, noise 9 against 23, the rest alike).
Mirroring is our own, because it must know about sides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from MedalSLib.errors import ResourceError
from MedalSLib.training.laterality import SAGITTAL_AXIS_HWD

Mirror = Literal["swap_sides", "published", "off"]
_WINDOW_SCALE = 0.85
"""The window read is larger than the rotated patch by this factor, as published: it need not cover every scale."""


@dataclass(frozen=True)
class AugmentationSettings:
    """Probabilities and ranges; the defaults are the published ones but for mirroring.

    Attributes:
        enabled: False turns everything off, mirroring included.
        mirror: "swap_sides" exchanges left and right in the texts of a sample that was mirrored across the sagittal
            plane; "published" mirrors and leaves the texts, so that sides cannot be learnt; "off" never mirrors.
        mirror_axes: Axes of (H, W, D) that are mirrored, each in half of the samples.
        rotation_degrees: Largest rotation about each axis.
        rotation_share: Share of samples that are rotated.
        scale: Range of the scale, the same on all axes.
        scale_share: Share of samples that are scaled.
        labels: How labels are interpolated: "linear", one class at a time, as published, or "nearest", four times as
            fast.
        noise_variance: Range of the variance of Gaussian noise, in squared intensities of 0..255.
        noise_share: Share of samples with noise.
        blur_sigma: Range of the Gaussian blur, in voxels.
        blur_share: Share of samples that are blurred.
        brightness: Range of the factor of all intensities.
        brightness_share: Share of samples with another brightness.
        contrast: Range of the factor of the distance from the mean, within the range of intensities.
        contrast_share: Share of samples with another contrast.
        low_resolution: Range of the zoom at which resolution is lost.
        low_resolution_share: Share of samples with less resolution.
        gamma: Range of the exponent; mean and deviation of the intensities are kept.
        gamma_share: Share of samples with another gamma.
        inverted_gamma_share: Share of samples with a gamma of the inverted intensities.
    """

    enabled: bool = True
    mirror: Mirror = "swap_sides"
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    rotation_degrees: float = 30.0
    rotation_share: float = 0.2
    scale: tuple[float, float] = (0.7, 1.4)
    scale_share: float = 0.2
    labels: Literal["linear", "nearest"] = "linear"
    noise_variance: tuple[float, float] = (0.0, 0.1)
    noise_share: float = 0.1
    blur_sigma: tuple[float, float] = (0.5, 1.0)
    blur_share: float = 0.1
    brightness: tuple[float, float] = (0.75, 1.25)
    brightness_share: float = 0.15
    contrast: tuple[float, float] = (0.75, 1.25)
    contrast_share: float = 0.15
    low_resolution: tuple[float, float] = (0.5, 1.0)
    low_resolution_share: float = 0.125
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_share: float = 0.3
    inverted_gamma_share: float = 0.1


@dataclass(frozen=True)
class Augmented:
    """An augmented sample.

    Attributes:
        image: (H, W, D) float32.
        labels: (H, W, D) int16.
        swap_sides: Whether left and right must be exchanged in the sample's texts.
    """

    image: Tensor
    labels: Tensor
    swap_sides: bool


class Augmenter:
    """Turns a window of a case into a patch.

    Args:
        patch_hwd: Patch in voxels.
        settings: Probabilities and ranges.

    Attributes:
        window_hwd: Voxels to read: the patch, and what rotation and scaling need around it.

    Raises:
        ResourceError: batchgeneratorsv2 is not installed.
    """

    def __init__(self, patch_hwd: tuple[int, int, int], settings: AugmentationSettings) -> None:
        self._patch = patch_hwd
        self._settings = settings
        self.window_hwd = window_for(patch_hwd, settings)
        self._spatial: Any = None
        self._intensity: list[tuple[float, Any]] = []
        if settings.enabled:
            self._spatial, self._intensity = _transforms(patch_hwd, settings)

    def __call__(self, image: Tensor, labels: Tensor, rng: np.random.Generator) -> Augmented:
        """Augment.

        Args:
            image: Intensities (H, W, D) of `window_hwd` voxels, float32.
            labels: Labels of the same shape, int16.
            rng: Source of randomness: the same state gives the same patch.
        """
        if self._spatial is None:
            return Augmented(image, labels, False)
        data: dict[str, Any] = {"image": image[None], "segmentation": labels[None]}
        with _seeded(int(rng.integers(2**32))):
            data = self._spatial(**data)
            for share, transform in self._intensity:
                if np.random.uniform() < share:
                    data = transform(**data)
        patch, mask = data["image"][0], data["segmentation"][0]
        axes = () if self._settings.mirror == "off" else self._settings.mirror_axes
        mirrored = [axis for axis in axes if rng.random() < 0.5]
        if mirrored:
            patch, mask = patch.flip(mirrored), mask.flip(mirrored)
        swap = SAGITTAL_AXIS_HWD in mirrored and self._settings.mirror == "swap_sides"
        return Augmented(patch.contiguous(), mask.contiguous(), swap)


def window_for(patch_hwd: tuple[int, int, int], settings: AugmentationSettings) -> tuple[int, int, int]:
    """Return the voxels to read for a patch: the box of the patch turned about any one axis, over 0.85."""
    if not settings.enabled or not (settings.rotation_share or settings.scale_share):
        return patch_hwd
    angle = math.radians(min(settings.rotation_degrees, 90.0)) if settings.rotation_share else 0.0
    turned = [
        max(
            max(size, size * math.cos(angle) + other * math.sin(angle))
            for index, other in enumerate(patch_hwd)
            if index != axis
        )
        for axis, size in enumerate(patch_hwd)
    ]
    height, width, depth = (int(size / _WINDOW_SCALE) for size in turned)
    return height, width, depth


def _transforms(patch_hwd: tuple[int, int, int], settings: AugmentationSettings) -> tuple[Any, list[tuple[float, Any]]]:
    """Return the spatial transform, and the intensity transforms with their shares in the published order."""
    try:
        from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
        from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
        from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
        from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
        from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
        from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
        from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    except ImportError as error:
        raise ResourceError(
            "Augmentation needs batchgeneratorsv2, which is not installed.",
            "Install it with: pip install 'medals[train]'.",
        ) from error
    angle = math.radians(settings.rotation_degrees)
    spatial = SpatialTransform(
        patch_hwd,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=settings.rotation_share,
        rotation=(-angle, angle),
        p_scaling=settings.scale_share,
        scaling=settings.scale,
        p_synchronize_scaling_across_axes=1,
        mode_seg="bilinear" if settings.labels == "linear" else "nearest",
    )
    one_channel = {"synchronize_channels": True, "p_per_channel": 1}

    def gamma(inverted: float) -> Any:
        return GammaTransform(BGContrast(settings.gamma), p_invert_image=inverted, p_retain_stats=1, **one_channel)

    intensity = [
        (settings.noise_share, GaussianNoiseTransform(noise_variance=settings.noise_variance, **one_channel)),
        (settings.blur_share, GaussianBlurTransform(settings.blur_sigma, benchmark=False, p_per_channel=1)),
        (settings.brightness_share, MultiplicativeBrightnessTransform(BGContrast(settings.brightness), **one_channel)),
        (settings.contrast_share, ContrastTransform(BGContrast(settings.contrast), preserve_range=True, **one_channel)),
        (
            settings.low_resolution_share,
            SimulateLowResolutionTransform(
                scale=settings.low_resolution,
                synchronize_axes=True,
                ignore_axes=None,
                allowed_channels=None,
                **one_channel,
            ),
        ),
        (settings.inverted_gamma_share, gamma(1.0)),
        (settings.gamma_share, gamma(0.0)),
    ]
    return spatial, intensity


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which the library draws from, and put them back as they were."""
    numpy_state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
