"""What the painted tissue looks like against its surroundings, in units that fit any modality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from MedalSLib.inference.correction.working_box import WorkingBox

_BINS = 24
_LIMIT = 4.0
"""Largest logarithm of a ratio of likelihoods: histograms of few voxels prove no more."""
_NEAR_MM, _AROUND_MM, _RIM_MM = 15.0, 25.0, 4.0


@dataclass(frozen=True, eq=False)
class Appearance:
    """Arrays (D, H, W) of the working grid, float32.

    Attributes:
        value: Intensity less the paint's median, in units of the local contrast, within -2..2.
        smooth: The same without noise.
        painted: Logarithm of how much likelier the intensity is in the structure's paint than around it.
        whole: The same with all that is known or was found of the structure.
    """

    value: np.ndarray
    smooth: np.ndarray
    painted: np.ndarray
    whole: np.ndarray

    @classmethod
    def of(cls, work: WorkingBox) -> Appearance:
        """Learn the appearance from the paint, the structure and what lies around."""
        value = _standardized(work)
        smooth = smoothed(value, 2.0, 1.5, work.spacing)
        bins = _bins(value) * _BINS + _bins(smooth)
        paint, whole, around = _samples(work)
        background = _density(bins, around)
        if work.adds:
            painted = np.log(_density(bins, paint) / background)
        else:  # the paint is background: what stays against it alone
            painted = np.log(_density(bins, whole) / _density(bins, paint))
        ratio = np.log(_density(bins, whole) / background)
        return cls(value, smooth, *(np.clip(one, -_LIMIT, _LIMIT).astype(np.float32)[bins] for one in (painted, ratio)))


def smoothed(array: np.ndarray, sigma_mm: float, most_voxels: float, spacing: np.ndarray) -> np.ndarray:
    """Return a Gaussian mean.

    Args:
        array: (D, H, W).
        sigma_mm: Its standard deviation.
        most_voxels: Its standard deviation at most, along any axis.
        spacing: In mm.
    """
    return np.asarray(gaussian_filter(array, np.minimum(sigma_mm / spacing, most_voxels)))


def _standardized(work: WorkingBox) -> np.ndarray:
    """Shift and scale intensities by what was painted and lies near: no unit, no window, no outliers."""
    image, paint, near = work.image, work.seeds.paint, work.distance <= _NEAR_MM
    middle = np.median(image[paint])
    spread = 1.4826 * np.median(np.abs(image[paint] - middle))
    low, first, third, high = np.percentile(image[near], [10, 25, 75, 90])
    steps = np.abs(np.diff(image, axis=2))[near[:, :, 1:]]
    noise = 1.06 * np.median(steps) if steps.size else 0.0
    width = max(3 * spread, 2.5 * noise, 0.35 * (third - first), 0.15 * (high - low), 1e-6)
    return np.clip((image - middle) / (2 * width), -2, 2).astype(np.float32)


def _bins(value: np.ndarray) -> np.ndarray:
    return np.minimum(((value + 2) / 4 * _BINS).astype(np.int64), _BINS - 1)


def _samples(work: WorkingBox) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (D, H, W) of the voxels that stand for the paint, the structure and its surroundings."""
    seeds, around = work.seeds, work.distance <= _AROUND_MM
    paint = seeds.paint.astype(np.float32)
    whole, beyond = np.zeros_like(paint), np.zeros_like(paint)
    clear = around & (work.distance > _RIM_MM)  # what touches the paint may be more of the same
    painted = int(seeds.paint.sum())
    if work.adds:
        # What was found before speaks for the structure too, but never much louder than the paint.
        whole += paint
        found = seeds.mask & ~seeds.paint & around
        whole[found] = min(1.0, 2 * painted / max(1, int(found.sum())))
        whole[seeds.known_in & around] = 1
        unsure = ~seeds.mask & ~seeds.known_out & clear
        beyond[unsure] = 1
        known = seeds.known_out & around
        if known.any():
            beyond[unsure] = 0.25
            beyond[known] = max(1.0, 0.75 * float(unsure.sum()) / float(known.sum()))
        return paint, whole, beyond
    outside = ~seeds.mask & ~seeds.paint & around
    beyond += paint
    beyond[outside] = min(1.0, 2 * painted / max(1, int(outside.sum())))
    whole[seeds.mask & clear] = 1
    whole[seeds.known_in & around] = 2
    return paint, whole, beyond


def _density(bins: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return a smooth histogram, flat (bins * bins): the fewer voxels it stands on, the smoother."""
    where = weights > 0
    flat = 1 / _BINS**2
    if not where.any():
        return np.full(_BINS**2, flat)
    counts = np.bincount(bins[where], weights[where], _BINS**2).reshape(_BINS, _BINS)
    share = min(0.7, 30 / counts.sum())
    fine, coarse = (gaussian_filter(counts, sigma, mode="nearest") for sigma in (1.0, 2.5))
    density = (1 - share) * fine / fine.sum() + share * coarse / coarse.sum() + 0.05 * flat
    return np.asarray(density.ravel())
