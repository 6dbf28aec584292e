"""Where a training patch lies in a packed volume, and how the anatomy is deformed on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tools.starter.synthesis import Bump, Shape, Triple, Warp
from tools.starter.volumes import Volume


@dataclass(frozen=True)
class Plan:
    """A kind of patch, and how often it is drawn.

    Attributes:
        shape: (D, H, W) in voxels.
        spacing: Range of the spacing in mm, the same on all axes but for some jitter.
        prompted: Whether the network gets mask prompts.
        samples: Samples of a batch.
        share: How often batches of this kind are drawn, relative to the others.
        slices: Spacing along z as a multiple of that in plane.
        volumes: Names of the volumes it is drawn from; "neck_*" stands for all that begin so.
        real_share: As of `SynthesisSettings`, for this kind; None for the settings' own.
        answered: Share of prompted batches whose prompts come of the model's own answers.
    """

    shape: Shape
    spacing: tuple[float, float]
    prompted: bool
    samples: int = 1
    share: float = 1.0
    slices: float = 1.0
    volumes: tuple[str, ...] = ("*",)
    real_share: float | None = None
    answered: float = 0.0


def triple(values: Iterable[float]) -> Triple:
    """Return three numbers as a tuple of floats."""
    z, y, x = (float(value) for value in values)
    return z, y, x


def place_patch(volume: Volume, plan: Plan, host: np.random.Generator) -> tuple[Warp, tuple[slice, ...]]:
    """Return a random anatomy and place, and the part of the patch that the scan covers.

    Args:
        volume: The volume that the patch is read from.
        plan: Its size and spacing.
        host: Source of randomness.
    """
    base = host.uniform(*plan.spacing)
    spacing = [float(base * factor * host.uniform(0.92, 1.08)) for factor in (plan.slices, 1.0, 1.0)]
    overall = np.exp(host.normal(0, 0.13))
    scale = tuple(float(np.clip(overall * np.exp(host.normal(0, 0.07)), 0.7, 1.4)) for _ in range(3))
    aim = volume.organs[host.integers(len(volume.organs))]
    start, view = [], []
    for axis in range(3):
        size, count = volume.extent[axis] * scale[axis], plan.shape[axis]
        first, begin, end = _along_axis(
            host,
            size=size,
            patch=count * spacing[axis],
            aim=aim.centre[axis] * scale[axis],
            cut=0.55 if axis == 0 else 0.12,
        )
        start.append(first)
        view.append(slice(max(0, round(begin / spacing[axis])), max(1, round(end / spacing[axis]))))
    centre = tuple((first + 0.5 * n * s) / f for first, n, s, f in zip(start, plan.shape, spacing, scale, strict=True))
    tilt = 0.35 if host.random() < 0.8 else 0.05
    angles = (host.uniform(-tilt, tilt), host.uniform(-0.2, 0.2) * tilt / 0.35, host.uniform(-tilt, tilt) * 0.6)
    picked = host.choice(len(volume.organs), min(8, len(volume.organs)), replace=False)
    bumps = tuple(
        Bump(volume.organs[k].centre, max(12.0, 1.3 * volume.organs[k].radius), float(host.uniform(-0.4, 0.35)))
        for k in picked
    )
    strength = host.uniform(0.2, 1.0)
    waves = ((140.0, 14.0 * strength), (60.0, 5.0 * strength), (25.0, 1.3 * strength))
    warp = Warp(plan.shape, triple(spacing), triple(centre), triple(scale), triple(angles), waves, bumps)
    return warp, tuple(view)


def _along_axis(
    host: np.random.Generator, size: float, patch: float, aim: float, cut: float
) -> tuple[float, float, float]:
    """Choose along one axis, in mm of the new anatomy: where the patch begins, and what of it the scan covers.

    Scans begin anywhere and end anywhere; a scan smaller than the patch often lies at its start, as in inference,
    where patches are padded at their end.

    Args:
        host: Source of randomness.
        size: Size of the anatomy in the volume.
        patch: Size of the patch.
        aim: What the patch is laid around.
        cut: Probability that the scan covers a part of the anatomy only.

    Returns:
        Where the patch begins, and where in the patch the scan begins and ends.
    """
    length, begin = size, 0.0
    if host.random() < cut and size > 90.0:
        length = host.uniform(max(70.0, 0.25 * size), size)
        begin = float(np.clip(aim - host.uniform(0.1, 0.9) * length, 0.0, size - length))
    elif host.random() < 0.5:
        margin = host.uniform(0.0, 0.08) * size
        length, begin = size + 2 * margin, -margin
    if length <= patch:
        offset = 0.0 if host.random() < 0.5 else host.uniform(0.0, patch - length)
        return begin - offset, offset, offset + length
    at = float(np.clip(aim - host.uniform(0.15, 0.85) * patch, begin, begin + length - patch))
    return at, 0.0, patch
