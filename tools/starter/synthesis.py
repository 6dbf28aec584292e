"""Synthesis of training images on the training device: new anatomies out of few, and new appearances of each.

Everything is a torch operation without a wait for the device, so that a GPU is never held up by its own data.  Random
decisions that shape the work (sizes, angles) come from a numpy generator on the host, random fields from a torch
generator on the device: the same two states give the same images.  Arrays are (D, H, W) = (z, y, x) in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Bump:
    """A local swelling (or shrinking) of the anatomy.

    Attributes:
        centre: (z, y, x) in mm from the volume's first voxel.
        radius: Reach in mm.
        amount: Relative change of size at the centre, negative to shrink.
    """

    centre: Triple
    radius: float
    amount: float


@dataclass(frozen=True)
class Warp:
    """The way from a patch's voxels to a position in a training volume.

    Attributes:
        shape: Patch (D, H, W) in voxels.
        spacing: Patch spacing (z, y, x) in mm.
        centre: Position of the patch's centre in the volume, (z, y, x) in mm from its first voxel's corner.
        scale: Size of the new anatomy relative to the old, along z, y, x.
        angles: Rotation about z, y, x in radians.
        waves: (wavelength in mm, standard deviation in mm) of the random displacement fields added up.
        bumps: Local changes of size.
    """

    shape: Shape
    spacing: Triple
    centre: Triple
    scale: Triple = (1.0, 1.0, 1.0)
    angles: Triple = (0.0, 0.0, 0.0)
    waves: tuple[tuple[float, float], ...] = ()
    bumps: tuple[Bump, ...] = ()


def rotation(angles: Triple) -> np.ndarray:
    """Return the 3x3 rotation of (z, y, x) vectors by angles about z, y and x, in this order."""
    about_z, about_y, about_x = angles
    cz, sz, cy, sy, cx, sx = (f(a) for a in (about_z, about_y, about_x) for f in (np.cos, np.sin))
    z = np.array([[1, 0, 0], [0, cz, sz], [0, -sz, cz]])
    y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    x = np.array([[cx, sx, 0], [-sx, cx, 0], [0, 0, 1]])
    return x @ y @ z


def smooth_noise(shape: Sequence[int], cells: Sequence[float], rng: torch.Generator, device: torch.device) -> Tensor:
    """Return a smooth random field, (C, D, H, W), of unit variance on its control points.

    Args:
        shape: (C, D, H, W).
        cells: Waves along each axis; at least one control point each.
        rng: Generator on `device`.
        device: Where to make it.
    """
    channels, *size = shape
    coarse = [max(2, round(count) + 1) for count in cells]
    field = torch.randn((1, channels, *coarse), generator=rng, device=device)
    middle = [min(2 * c, s) for c, s in zip(coarse, size, strict=True)]
    field = functional.interpolate(field, size=middle, mode="trilinear", align_corners=True)
    field = functional.avg_pool3d(functional.pad(field, (1,) * 6, mode="replicate"), 3, 1)
    return functional.interpolate(field, size=size, mode="trilinear", align_corners=True)[0] * 1.6


def positions(warp: Warp, rng: torch.Generator, device: torch.device) -> Tensor:
    """Return where each voxel of a patch lies in the volume, (3, D, H, W), (z, y, x) in mm.

    Displacements are made on a grid four times coarser than the patch and interpolated: they are smooth anyway.

    Args:
        warp: The way into the volume.
        rng: Generator on `device`.
        device: Where to compute.
    """
    shape, spacing = warp.shape, warp.spacing
    axes = [
        ((torch.arange(n, device=device) + 0.5) - n / 2.0) * (s / f)
        for n, s, f in zip(shape, spacing, warp.scale, strict=True)
    ]
    matrix = rotation(warp.angles)
    out = torch.empty((3, *shape), device=device)
    for row in range(3):
        parts = [
            axis.view([-1 if k == column else 1 for k in range(3)]) * float(matrix[row, column])
            for column, axis in enumerate(axes)
        ]
        out[row] = parts[0] + parts[1] + parts[2] + warp.centre[row]
    if not warp.waves and not warp.bumps:
        return out
    small = tuple(max(4, n // 4) for n in shape)
    coarse = functional.interpolate(out[None], size=small, mode="trilinear", align_corners=True)[0]
    shift = torch.zeros_like(coarse)
    extent = [n * s for n, s in zip(shape, spacing, strict=True)]
    for wavelength, deviation in warp.waves:
        shift += deviation * smooth_noise((3, *small), [e / wavelength for e in extent], rng, device)
    for bump in warp.bumps:
        offset = coarse - torch.tensor(bump.centre, device=device).view(3, 1, 1, 1)
        weight = torch.exp(offset.square().sum(0, keepdim=True) / (-2.0 * bump.radius**2))
        shift -= bump.amount * weight * offset
    return out + functional.interpolate(shift[None], size=shape, mode="trilinear", align_corners=True)[0]


def sample(volume: Tensor, places: Tensor, spacing: Triple, nearest: bool = False) -> Tensor:
    """Read a volume at positions; outside it is 0.

    Args:
        volume: (D, H, W), floating.
        places: (3, d, h, w) in mm, as `positions` returns them.
        spacing: Spacing of the volume (z, y, x) in mm.
        nearest: Nearest voxel instead of linear interpolation.
    """
    extent = [n * s for n, s in zip(volume.shape, spacing, strict=True)]
    normalized = torch.stack([places[axis] * (2.0 / extent[axis]) - 1.0 for axis in (2, 1, 0)], dim=-1)
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(
        volume[None, None].to(normalized.dtype), normalized[None], mode=mode, padding_mode="zeros", align_corners=False
    )[0, 0]


def blur(image: Tensor, sigma: Triple) -> Tensor:
    """Return a (D, H, W) image smoothed by a separable Gaussian, sigma along (z, y, x) in voxels."""
    out = image[None, None]
    for axis, width in enumerate(sigma):
        if width < 0.2:
            continue
        reach = max(1, int(np.ceil(2.5 * width)))
        steps = np.arange(-reach, reach + 1)
        weights = np.exp(-0.5 * (steps / width) ** 2)
        kernel = torch.tensor(weights / weights.sum(), dtype=image.dtype, device=image.device)
        view = [1, 1, 1, 1, 1]
        view[2 + axis] = -1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = reach
        out = functional.conv3d(functional.pad(out, pad, mode="replicate"), kernel.view(view))
    return out[0, 0]


def thick_slices(image: Tensor, axis: int, factor: float, average: bool, nearest: bool) -> Tensor:
    """Return a (D, H, W) image as if it had been scanned in slices `factor` times thicker along an axis.

    Args:
        image: (D, H, W).
        axis: 0, 1 or 2.
        factor: Thickness of the slices in voxels.
        average: Slices average what lies in them; otherwise they are thin with gaps.
        nearest: Repeat slices on the way back instead of interpolating between them.
    """
    depth, height, width = (max(2, round(n / factor)) if k == axis else n for k, n in enumerate(image.shape))
    size = (depth, height, width)
    stack = image[None, None]
    thick = (
        functional.adaptive_avg_pool3d(stack, size)
        if average
        else functional.interpolate(stack, size=tuple(size), mode="trilinear", align_corners=False)
    )
    if nearest:
        return functional.interpolate(thick, size=tuple(image.shape), mode="nearest-exact")[0, 0]
    return functional.interpolate(thick, size=tuple(image.shape), mode="trilinear", align_corners=False)[0, 0]


@dataclass(frozen=True)
class Appearance:
    """How each element of an anatomy looks: the volume's own texture around a new mean, plus noise of its own.

    Attributes:
        mean: New mean by element number.
        gain: Factor of the volume's own texture (intensity minus the element's old mean) by element number.
        grain: Standard deviation of smooth texture added, by element number.
        grain_cells: Waves of that texture along an axis of the patch.
    """

    mean: np.ndarray
    gain: np.ndarray
    grain: np.ndarray
    grain_cells: float


def render(
    image: Tensor, elements: Tensor, old_mean: Tensor, look: Appearance, limit: float, rng: torch.Generator
) -> Tensor:
    """Return the image of an anatomy with another appearance.

    Args:
        image: (D, H, W) intensities of the volume.
        elements: (D, H, W) element numbers, int64.
        old_mean: Mean intensity in the volume by element number.
        look: The new appearance.
        limit: The volume's own texture is cut off beyond this difference from the mean.
        rng: Generator on the image's device.
    """
    device = image.device
    table = torch.from_numpy(np.stack([look.mean, look.gain, look.grain]).astype(np.float32)).to(device)
    texture = (image - old_mean[elements]).clamp_(-limit, limit)
    grain = smooth_noise((1, *image.shape), [look.grain_cells] * 3, rng, device)[0]
    return table[0][elements] + table[1][elements] * texture + table[2][elements] * grain
