"""A packed training volume of the starter: a trunk with a liver on the right, a spleen on the left, and two kidneys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from training_inputs import TINY_NETWORK

from tools.starter.labels import ELEMENTS, HU_CODE

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


def starter_recipe(steps: int = 4, **data: Any) -> dict[str, Any]:
    """Entries of a starter's recipe small enough to train in seconds."""
    return {
        "name": "tiny",
        "stage": "1",
        "spacing_hwd": [8.0, 8.0, 8.0],
        "patch_hwd": [32, 32, 16],
        "resampling": "plain",
        "network": dict(TINY_NETWORK),
        "schedule": [{"steps": steps, "peak": 1e-3, "warmup": 1}],
        "text": {"hidden": 32},
        "prompts": {"withhold_class_prompts": 0.0},
        "loss": {"squared": False, "smooth_voxels": 20.0, "balance_until": 0.5},
        "optimizer": {
            "clip_norm": 1.0,
            "skip_norm": 1e4,
            "query_rate": 0.5,
            "query_begins": 0.25,
            "channels_last": True,
            "ema_decay": 0.99,
            "ema_warm_up": True,
        },
        "data": {
            "plans": [
                {"shape": [16, 32, 32], "spacing": [9.0, 11.0], "prompted": False, "share": 0.6},
                {"shape": [16, 32, 32], "spacing": [7.0, 9.0], "prompted": True, "share": 0.9, "answered": 0.7},
            ],
            "queries": 6,
            "fine": {"spacing_hwd": [4.0, 4.0, 4.0], "patch_hwd": [32, 32, 16]},
        }
        | data,
        "log": {"every": 1, "checkpoint_every": 1},
        "workers": 0,
    }
