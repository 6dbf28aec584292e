"""The starter's packed training volumes on the training device, with what synthesis wants to know of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
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
        modality: "CT", "MRI" or "Microscopy".
        image: (D, H, W) float: Hounsfield units + `AIR_SHIFT`, or 0..255; None for a label map without an image.
        elements: (D, H, W) element numbers, uint8.
        mean: Mean of the raw intensity (Hounsfield units or 0..255) by element number (256), on the host.
        organs: Labelled elements that are large enough to aim at.
        spacing: (z, y, x) in mm.
        trusted: Names of the structures that may be supervised.
        weight: How often it is drawn.
    """

    name: str
    modality: str
    image: Tensor | None
    elements: Tensor
    mean: np.ndarray
    organs: tuple[Organ, ...]
    spacing: Triple
    trusted: frozenset[str]
    weight: float

    @property
    def extent(self) -> Triple:
        """Size (z, y, x) in mm."""
        d, h, w = (n * s for n, s in zip(self.elements.shape, self.spacing, strict=True))
        return d, h, w


def load_volumes(folder: Path, device: torch.device, patterns: Sequence[str] = ("*",)) -> list[Volume]:
    """Read the packed volumes of a folder whose names match one of the patterns.

    Raises:
        InputError: There is none.
    """
    paths = [path for path in sorted(folder.glob("*.npz")) if any(fnmatch(path.stem, one) for one in patterns)]
    if not paths:
        raise InputError(f"{folder} holds no packed volumes to train on.", "Run tools.starter.pack first.")
    return [_load(path, device) for path in paths]


def _load(path: Path, device: torch.device) -> Volume:
    with np.load(path, allow_pickle=False) as file:
        modality = str(file["modality"])
        stored, elements = file["image"], file["elements"]
        spacing = tuple(float(value) for value in file["spacing"])
        trusted, weight = frozenset(file["trusted"].tolist()), float(file["weight"])
    counts = np.bincount(elements.ravel(), minlength=COUNT)
    image: Tensor | None = None
    sums: np.ndarray = np.zeros(COUNT)
    if stored.size:
        intensities = HU_CODE[stored] if modality == "CT" else stored.astype(np.float32)
        sums = np.bincount(elements.ravel(), weights=intensities.ravel(), minlength=COUNT)
        image = torch.from_numpy(intensities + np.float32(AIR_SHIFT if modality == "CT" else 0.0)).to(device)
    organs = _organs(elements, counts, spacing)
    return Volume(
        name=path.stem,
        modality=modality,
        image=image,
        elements=torch.from_numpy(elements).to(device),
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
