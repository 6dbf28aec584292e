"""Synthetic training data: bodies with two round organs, a bright one on the left and a dark one on the right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.recipe import load_recipe
from MedalSLib.training.sources import find_sources

SHAPE_DHW = (24, 40, 40)
SPACING_DHW = (2.0, 1.5, 1.5)
LEFT, RIGHT = 1, 2


def body(seed: int, shape: tuple[int, int, int] = SHAPE_DHW) -> tuple[np.ndarray, np.ndarray]:
    """Image (uint8) and labels (uint8), (D, H, W) in LPS: x grows to the patient's left."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    image = np.full(shape, 90.0)
    labels = np.zeros(shape, np.uint8)
    for label, center, value in ((LEFT, 0.72, 200.0), (RIGHT, 0.28, 30.0)):
        c = (shape[0] * rng.uniform(0.4, 0.6), shape[1] * rng.uniform(0.4, 0.6), shape[2] * center)
        r = (shape[0] * 0.25, shape[1] * 0.2, shape[2] * 0.16)
        inside = ((z - c[0]) / r[0]) ** 2 + ((y - c[1]) / r[1]) ** 2 + ((x - c[2]) / r[2]) ** 2 < 1
        image[inside], labels[inside] = value, label
    image += rng.normal(0, 6, shape)
    return np.clip(image, 1, 255).astype(np.uint8), labels


def challenge_folder(root: Path, cases: int = 3) -> Path:
    """A folder of challenge npz files with its prompt file."""
    dataset = root / "CT_Toy"
    dataset.mkdir(parents=True)
    texts = {
        "1": ["Left kidney", "Left kidney in abdominal CT"],
        "2": ["Right kidney", "Right kidney in abdominal CT"],
        "instance_label": 0,
    }
    (root / "prompts.json").write_text(json.dumps({"CT_Toy": texts}))
    for index in range(cases):
        image, labels = body(index)
        np.savez_compressed(
            dataset / f"CT_Toy_{index:03d}.npz", imgs=image, gts=labels, spacing=np.array(SPACING_DHW[::-1])
        )
    return root


def plain_folder(root: Path, cases: int = 3) -> Path:
    """Images and labelmaps as NIfTI, stored right-anterior-superior, with names.json."""
    import nibabel

    for name in ("images", "labels"):
        (root / name).mkdir(parents=True)
    (root / "names.json").write_text(json.dumps({"1": "left_kidney", "2": "right_kidney"}))
    affine = np.diag([SPACING_DHW[2], SPACING_DHW[1], SPACING_DHW[0], 1.0])
    for index in range(cases):
        image, labels = body(index)
        hounsfield = image.astype(np.int16) - 100
        # From LPS (z, y, x) to RAS (x, y, z): reverse x and y, reverse the order of the axes.
        for kind, array in (("images", hounsfield), ("labels", labels)):
            stored = np.ascontiguousarray(array[:, ::-1, ::-1].transpose(2, 1, 0))
            nibabel.save(nibabel.Nifti1Image(stored, affine), root / kind / f"case{index}.nii.gz")
    return root


def prepared_folder(source: Path, output: Path, recipe: Path | str, modality: str = "") -> dict[str, Any]:
    """Prepare a folder of cases in this process; returns the report."""
    options = PrepareOptions(load_recipe(recipe).stage_spec(), workers=0)
    return prepare_cases(find_sources(source, modality), output, options).report()


TINY_NETWORK = {
    "widths": [8, 8, 16, 16],
    "strides": [1, 2, 2, 2],
    "query_dim": 32,
    "heads": 2,
    "ffn_dim": 48,
    "layers": 1,
    "mask_hidden": 16,
    "deep_hidden": [16, 16],
}


def toy_recipe(**changes: object) -> dict[str, object]:
    """Entries of a recipe small enough to train in seconds."""
    return {
        "name": "toy",
        "stage": "2",
        "spacing_hwd": [1.5, 1.5, 2.0],
        "patch_hwd": [32, 32, 16],
        "network": dict(TINY_NETWORK),
        "schedule": [{"steps": 20, "peak": 5e-3, "warmup": 2}],
        "sampling": {"batch_size": 2, "max_queries": 4, "foreground_share": 0.5},
        "text": {"hidden": 32},
        "log": {"every": 1, "checkpoint_every": 5},
        "workers": 0,
    } | changes
