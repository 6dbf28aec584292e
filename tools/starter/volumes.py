"""The starter's packed training volumes on the training device, with what synthesis wants to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from MedalSLib.errors import InputError
from tools.starter.appearance import COUNT
from tools.starter.labels import BACKGROUND, HU_CODE
from tools.starter.synthesis import Triple

MIN_ELEMENT_VOXELS = 30
AIR_SHIFT = 1024.0
"""CT volumes are kept as Hounsfield units plus this, so that what lies outside them reads as air."""


@dataclass(frozen=True)
class Organ:
    """Where an element lies: (z, y, x) in mm from the volume's corner, and the radius of a ball of its volume."""

    number: int
    centre: Triple
    radius: float


@dataclass(frozen=True)
class Volume:
    """One training volume.

    Attributes:
        name: File name without ending.
        modality: "CT" or "MRI".
        image: (D, H, W) float: Hounsfield units + `AIR_SHIFT`, or 0..255.
        elements: (D, H, W) element numbers, as floats for `synthesis.sample`.
        mean: Mean of the raw intensity (Hounsfield units or 0..255) by element number (256), on the host.
        organs: Labelled elements that are large enough to aim at.
        spacing: (z, y, x) in mm.
        trusted: Names of the structures that may be supervised.
        weight: How often it is drawn.
    """

    name: str
    modality: str
    image: Tensor
    elements: Tensor
    mean: np.ndarray
    organs: tuple[Organ, ...]
    spacing: Triple
    trusted: frozenset[str]
    weight: float

    @property
    def extent(self) -> Triple:
        """Size (z, y, x) in mm."""
        d, h, w = (n * s for n, s in zip(self.image.shape, self.spacing, strict=True))
        return d, h, w


def load_volumes(folder: Path, device: torch.device) -> list[Volume]:
    """Read every packed volume of a folder.

    Raises:
        InputError: There is none.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise InputError(f"{folder} holds no packed volumes.", "Run tools.starter.pack first.")
    return [_load(path, device) for path in paths]


def _load(path: Path, device: torch.device) -> Volume:
    with np.load(path, allow_pickle=False) as file:
        modality = str(file["modality"])
        stored, elements = file["image"], file["elements"]
        spacing = tuple(float(value) for value in file["spacing"])
        trusted, weight = frozenset(file["trusted"].tolist()), float(file["weight"])
    intensities = HU_CODE[stored] if modality == "CT" else stored.astype(np.float32)
    counts = np.bincount(elements.ravel(), minlength=COUNT)
    sums = np.bincount(elements.ravel(), weights=intensities.ravel(), minlength=COUNT)
    organs = _organs(elements, counts, spacing)
    shift = AIR_SHIFT if modality == "CT" else 0.0
    return Volume(
        name=path.stem,
        modality=modality,
        image=torch.from_numpy(intensities + np.float32(shift)).to(device),
        elements=torch.from_numpy(elements.astype(np.float32)).to(device),
        mean=sums / np.maximum(counts, 1),
        organs=organs,
        spacing=(spacing[0], spacing[1], spacing[2]),
        trusted=trusted,
        weight=weight,
    )


def _organs(elements: np.ndarray, counts: np.ndarray, spacing: tuple[float, ...]) -> tuple[Organ, ...]:
    numbers = [n for n in np.flatnonzero(counts >= MIN_ELEMENT_VOXELS).tolist() if n not in BACKGROUND]
    flat = elements.ravel()
    coordinates = np.indices(elements.shape, dtype=np.float32).reshape(3, -1)
    centres = [np.bincount(flat, weights=axis, minlength=COUNT) / np.maximum(counts, 1) for axis in coordinates]
    voxel = float(np.prod(spacing))
    found = []
    for number in numbers:
        z, y, x = ((centres[axis][number] + 0.5) * spacing[axis] for axis in range(3))
        radius = float((counts[number] * voxel * 3.0 / (4.0 * np.pi)) ** (1.0 / 3.0))
        found.append(Organ(number, (float(z), float(y), float(x)), radius))
    return tuple(found)
