"""Anatomy found by intensity: the body, the two lungs, and the tissues between the labelled structures."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from tools.starter.labels import ELEMENTS

_BODY_HU = -300.0
_AIR_HU = -500.0
_LUNG_CORE_MM = 12.0
_REACH_MM = 60.0
_VESSEL_MM = 5.0
_AIRWAY_MM2 = 700.0
_MIDLINE_MM = 35.0
_TISSUE_LIMITS = (("gas", -300.0), ("fat", -25.0), ("soft", 85.0), ("bright_soft", 180.0))


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, count = ndimage.label(mask)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def body_mask(intensities: np.ndarray, modality: str) -> np.ndarray:
    """Return where the patient is, (D, H, W), holes and air inside included, the table excluded.

    Args:
        intensities: (D, H, W), Hounsfield units for CT.
        modality: "CT" or "MRI".
    """
    threshold = _BODY_HU if modality == "CT" else 0.12 * float(np.percentile(intensities, 98))
    radius = 2 if modality == "CT" else 1
    solid = _largest(ndimage.binary_opening(intensities > threshold, iterations=radius))
    solid = ndimage.binary_closing(np.pad(solid, 4, mode="edge"), iterations=3)[4:-4, 4:-4, 4:-4]
    return np.stack([ndimage.binary_fill_holes(plane) for plane in solid])


def split_lungs(hounsfield: np.ndarray, body: np.ndarray, spacing: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Return the left and the right lung by threshold: air in the body, parted from the airways and from each other.

    Vessels are closed over.  Each lung grows from its core, the air that is far from any tissue, to what is nearer to
    it than to the other lung; small round spots of air near the midline are airways.

    Args:
        hounsfield: (D, H, W) in LPS orientation, so that x grows to the patient's left.
        body: Mask of the body.
        spacing: (z, y, x) in mm.
    """
    air = (hounsfield < _AIR_HU) & body
    closed = _closing(air, spacing, _VESSEL_MM)
    depth = ndimage.distance_transform_edt(np.pad(closed, 1, mode="edge"), sampling=spacing)[1:-1, 1:-1, 1:-1]
    cores, count = ndimage.label(depth > _LUNG_CORE_MM)
    sizes = ndimage.sum_labels(np.ones_like(cores), cores, index=range(1, count + 1))
    centres = ndimage.center_of_mass(cores > 0, cores, range(1, count + 1))
    right, left = sorted(np.argsort(sizes)[::-1][:2], key=lambda index: centres[index][2])
    middle = (centres[right][2] + centres[left][2]) / 2.0
    lung_air = air & ~_airways(air, spacing, middle)
    distance = {
        side: ndimage.distance_transform_edt(cores != index + 1, sampling=spacing)
        for side, index in (("right", right), ("left", left))
    }
    lungs = {}
    for side, other in (("right", "left"), ("left", "right")):
        own = lung_air & (distance[side] < distance[other]) & (distance[side] < _REACH_MM)
        lungs[side] = _closing(_largest(own), spacing, _VESSEL_MM) & body & (distance[side] < distance[other])
    return lungs


def _airways(air: np.ndarray, spacing: tuple[float, ...], middle: float) -> np.ndarray:
    """Return the small spots of air near the midline, slice by slice: trachea, main bronchi, esophagus."""
    found = np.zeros_like(air)
    for plane, out in zip(air, found, strict=True):
        labels, count = ndimage.label(plane)
        if count == 0:
            continue
        area = np.bincount(labels.ravel())[1:] * spacing[1] * spacing[2]
        centres = np.array(ndimage.center_of_mass(plane, labels, range(1, count + 1)))
        near = np.abs(centres[:, 1] - middle) * spacing[2] < _MIDLINE_MM
        out |= np.isin(labels, np.flatnonzero((area < _AIRWAY_MM2) & near) + 1)
    return found


def _closing(mask: np.ndarray, spacing: tuple[float, ...], radius_mm: float) -> np.ndarray:
    radii = tuple(max(1, round(radius_mm / s)) for s in spacing)
    pad = max(radii) + 1
    return ndimage.binary_closing(np.pad(mask, pad), structure=_ellipsoid(radii))[pad:-pad, pad:-pad, pad:-pad]


def _ellipsoid(radii: tuple[int, ...]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in radii)]
    distance = np.sum(
        np.broadcast_arrays(*((axis / (r + 0.5)) ** 2 for axis, r in zip(axes, radii, strict=True))), axis=0
    )
    return np.asarray(distance <= 1.0)


def fill_background(elements: np.ndarray, intensities: np.ndarray, body: np.ndarray, modality: str) -> None:
    """Give every unlabelled voxel of the body a tissue by its intensity, in place; outside, the table.

    Args:
        elements: (D, H, W) element numbers; 0 where nothing is labelled.
        intensities: (D, H, W), Hounsfield units for CT.
        body: Mask of the body.
        modality: "CT" or "MRI".
    """
    free = (elements == 0) & body
    smooth = ndimage.gaussian_filter(intensities, 0.7)
    if modality == "CT":
        below = np.full(intensities.shape, -np.inf, dtype=np.float32)
        for name, limit in _TISSUE_LIMITS:
            elements[free & (smooth >= below) & (smooth < limit)] = ELEMENTS[name]
            below = np.full_like(below, limit)
        elements[free & (smooth >= below)] = ELEMENTS["bone"]
        outside = (elements == 0) & ~body & (smooth > -700.0)
        elements[outside & ~ndimage.binary_dilation(body, iterations=3)] = ELEMENTS["object"]
        return
    if not free.any():
        return
    limits = np.quantile(smooth[free], (0.25, 0.5, 0.75))
    elements[free] = np.array([ELEMENTS[f"rest_{n}"] for n in range(1, 5)], dtype=np.uint8)[
        np.searchsorted(limits, smooth[free])
    ]
