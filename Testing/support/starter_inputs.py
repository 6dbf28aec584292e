"""A packed training volume of the starter: a trunk with a liver on the right, a spleen on the left, and two kidneys."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from MedalSLib.training.starter_labels import ELEMENTS, HU_CODE

SPACING = (6.0, 4.0, 4.0)
SHAPE = (40, 60, 80)
HOUNSFIELD = {
    "air": -1000.0,
    "soft": 40.0,
    "liver": 100.0,
    "spleen": 120.0,
    "kidney_left": 180.0,
    "kidney_right": 180.0,
}
BOXES = {
    "soft": ((2, 38), (6, 54), (6, 74)),
    "liver": ((14, 30), (14, 44), (10, 34)),
    "spleen": ((16, 28), (20, 44), (56, 70)),
    "kidney_right": ((6, 13), (30, 46), (20, 32)),
    "kidney_left": ((6, 13), (30, 46), (48, 60)),
}
TRUSTED = ("Liver", "Spleen", "Left kidney", "Right kidney")


def elements() -> np.ndarray:
    """Element numbers (D, H, W) in LPS: x grows to the patient's left."""
    numbers = np.zeros(SHAPE, np.uint8)
    for name, bounds in BOXES.items():
        numbers[tuple(slice(*pair) for pair in bounds)] = ELEMENTS[name]
    return numbers


def hounsfield(numbers: np.ndarray) -> np.ndarray:
    """Hounsfield units of element numbers."""
    image = np.zeros(numbers.shape, np.float32)
    for name, value in HOUNSFIELD.items():
        image[numbers == ELEMENTS[name]] = value
    return image


def packed_folder(root: Path, trusted: tuple[str, ...] = TRUSTED) -> Path:
    """Write a folder with one packed CT volume."""
    root.mkdir(parents=True)
    numbers = elements()
    codes = np.abs(HU_CODE[None] - hounsfield(numbers).reshape(-1, 1)).argmin(1).astype(np.uint8)
    np.savez_compressed(
        root / "trunk.npz",
        image=codes.reshape(SHAPE),
        elements=numbers,
        spacing=np.array(SPACING, np.float32),
        modality=np.array("CT"),
        trusted=np.array(trusted),
        weight=np.array(1.0, np.float32),
    )
    return root
