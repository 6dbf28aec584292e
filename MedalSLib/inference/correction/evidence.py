"""What speaks for and against a voxel changing as the paint says: one row of numbers for each undecided voxel.

All are in millimetres or in units of the local contrast, none depends on an axis, and those that speak of inside and
outside are turned so that a larger value always speaks for the change: what adds and what erases look alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from MedalSLib.inference.correction.appearance import Appearance, smoothed
from MedalSLib.inference.correction.working_box import WorkingBox, pool, pooling_factors, unpool

NAMES = (
    "distance", "log distance", "distance by size", "paint likelihood", "structure likelihood", "unlike nearest paint",
    "gradient", "geodesic distance", "density within 5 mm", "density within 12 mm", "outside known", "to the border",
    "network", "network against paint", "has network", "drawn by a network", "contrast", "distance in the plane",
    "paint size", "smooth contrast", "smooth likelihood", "texture", "to known inside", "to known outside", "volume",
)  # fmt: skip
"""Names of the numbers, in their order."""
_FAR_MM = 40.0
_BORDER_MM = 25.0
_GEODESIC_VOXELS = 30_000
_GEODESIC_MM = 150.0


def evidence(work: WorkingBox, look: Appearance) -> np.ndarray:
    """Return float32 (number of `NAMES`, undecided voxels)."""
    rows = np.empty((len(NAMES), int(work.free.sum())), dtype=np.float32)
    for row, value in zip(rows, _values(work, look), strict=True):
        row[:] = value[work.free] if isinstance(value, np.ndarray) else value
    return rows


def _values(work: WorkingBox, look: Appearance) -> Iterator[np.ndarray | float]:
    """Give the numbers in their order, as arrays (D, H, W) or one number for all voxels."""
    sign = 1.0 if work.adds else -1.0
    seeds, distance, spacing = work.seeds, work.distance, work.spacing
    unlike = np.abs(look.smooth - look.smooth[tuple(work.nearest)])
    gradient = _gradient(look.smooth)
    likely = sign * smoothed(look.whole, 2.0, 1.5, spacing)
    inside, outside = _surroundings(work)
    yield distance / 10
    yield np.log1p(distance / 4)
    yield distance / work.extent.size_mm
    yield sign * look.painted
    yield sign * look.whole
    yield unlike
    yield gradient
    speed = 1 / (1 + 10 * gradient + 1.5 * np.maximum(0, -likely) + 4 * unlike)
    speed[seeds.known_out if work.adds else seeds.known_in] = 0.02
    yield np.log1p(_geodesic(speed, work) / 5)
    for sigma in (5.0, 12.0):
        yield sign * np.log((_density(inside, sigma, spacing) + 0.01) / (_density(outside, sigma, spacing) + 0.01))
    yield float(outside.any())
    settled = (seeds.mask if work.adds else ~seeds.mask) & ~seeds.paint
    yield _capped_distance(settled, _BORDER_MM, spacing) / 10
    if work.probability is None:
        yield from (0.0, 0.0, 0.0)
    else:
        network = _logit(work.probability)
        yield sign * network
        yield sign * (network - np.median(network[seeds.paint]))
        yield 1.0
    yield float(not work.by_hand)
    yield np.abs(look.value)
    yield _in_plane(work) / 10
    yield float(np.log(work.extent.size_mm / 10))
    yield np.abs(look.smooth)
    yield likely
    texture = _texture(look.value, spacing)
    yield texture - np.median(texture[seeds.paint])
    known_in = seeds.known_in | seeds.paint if work.adds else seeds.known_in
    known_out = seeds.known_out if work.adds else seeds.known_out | seeds.paint
    yield np.log1p(_capped_distance(known_in, _FAR_MM, spacing) / 4)
    yield np.log1p(_capped_distance(known_out, _FAR_MM, spacing) / 4)
    yield float(np.log(np.cbrt(work.volume_mm3) / 10))


def _surroundings(work: WorkingBox) -> tuple[np.ndarray, np.ndarray]:
    """Return what counts as inside and as outside where their densities are compared."""
    seeds = work.seeds
    if work.adds:
        return seeds.mask | seeds.known_in, seeds.known_out
    return seeds.known_in | (seeds.mask & (work.distance > 12)), seeds.paint | seeds.known_out


def _density(mask: np.ndarray, sigma_mm: float, spacing: np.ndarray) -> np.ndarray:
    return np.asarray(gaussian_filter(mask.astype(np.float32), sigma_mm / spacing, truncate=2.5))


def _capped_distance(mask: np.ndarray, most_mm: float, spacing: np.ndarray) -> np.ndarray:
    """Return the distance to a mask in mm, at most so much; that where the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, most_mm)
    return np.minimum(distance_transform_edt(~mask, sampling=spacing), most_mm)


def _gradient(value: np.ndarray) -> np.ndarray:
    """Return the length of the gradient from voxel to voxel; an axis of one voxel has none."""
    total = np.zeros_like(value)
    for axis, size in enumerate(value.shape):
        if size > 1:
            total += np.gradient(value, axis=axis) ** 2
    return np.sqrt(total)


def _texture(value: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Return the local standard deviation."""
    mean, square = smoothed(value, 4.0, 2.0, spacing), smoothed(value * value, 4.0, 2.0, spacing)
    return np.sqrt(np.maximum(square - mean * mean, 0))


def _logit(probability: np.ndarray) -> np.ndarray:
    bounded = np.clip(probability, 0.01, 0.99)
    return np.asarray(np.log(bounded / (1 - bounded)))


def _in_plane(work: WorkingBox) -> np.ndarray:
    """Return how far a voxel lies from the nearest paint along the plane of the paint, in mm."""
    across = np.zeros_like(work.distance)
    for axis, size in enumerate(work.distance.shape):
        place = np.arange(size).reshape([-1 if other == axis else 1 for other in range(3)])
        across += np.float32(work.extent.normal[axis] * work.spacing[axis]) * (place - work.nearest[axis])
    return np.sqrt(np.maximum(work.distance**2 - across**2, 0))


def _geodesic(speed: np.ndarray, work: WorkingBox) -> np.ndarray:
    """Return the distance from the paint in mm along ways that the image leaves open, on a coarser grid."""
    factors = pooling_factors(speed.shape, work.spacing, _GEODESIC_VOXELS)
    paint = pool(work.seeds.paint, factors) > 0
    image = SimpleITK.GetImageFromArray(pool(speed, factors).astype(np.float64))
    image.SetSpacing([float(step) for step in (work.spacing * factors)[::-1]])
    march = SimpleITK.FastMarchingImageFilter()
    march.SetTrialPoints(np.argwhere(paint & ~binary_erosion(paint))[:, ::-1].tolist())
    march.SetStoppingValue(_GEODESIC_MM)
    distance = np.minimum(SimpleITK.GetArrayFromImage(march.Execute(image)), _GEODESIC_MM).astype(np.float32)
    distance[paint] = 0
    return unpool(distance, factors, speed.shape)
