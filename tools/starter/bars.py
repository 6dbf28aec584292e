"""What a structure has to reach on the held-out cases to be offered: the one place where that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from MedalSLib.evaluation.metrics import mean
from tools.starter.labels import starter_classes

_BARS = {
    "CT_parotid gland": 0.75, "CT_Mandible": 0.80, "CT_Brainstem": 0.78, "CT_Spinal cord": 0.70, "CT_Larynx": 0.60,
    "CT_lung": 0.95, "CT_Liver": 0.92, "CT_Spleen": 0.90, "CT_kidney": 0.90, "CT_Aorta": 0.84, "CT_Stomach": 0.65,
    "CT_Urinary bladder": 0.60, "CT_Inferior vena cava": 0.65, "MRI_Brain": 0.95, "MRI_Brainstem": 0.75,
    "MRI_Cerebellum": 0.75, "MRI_lateral ventricle": 0.75, "MRI_thalamus": 0.75, "MRI_putamen": 0.75,
    "MRI_caudate": 0.75, "MRI_hippocampus": 0.75, "Microscopy_Nuclei": 0.60,
}  # fmt: skip
"""Mean Dice over the held-out cases (of nuclei F1 of their detection); of a pair without its side."""
_BAR = 0.60
_THIN_BAR = 0.50
_THIN = ("CT_Esophagus", "CT_Trachea", "MRI_Spinal cord")
"""Tubes a few voxels wide, of which a voxel at the border is a large share."""
_SIDES = ("Left ", "Right ")


def bar(key: str, one: float | None = None) -> float:
    """Return what the mean score of a structure ("CT_Left kidney") must reach to be offered.

    Args:
        key: The structure.
        one: One bar for all instead.
    """
    if one is not None:
        return one
    return _BARS.get(_pair(key), _THIN_BAR if key in _THIN else _BAR)


def offered(means: Mapping[str, Mapping[str, Any]], one: float | None = None) -> list[str]:
    """Return the structures that reach their bar, in the order of `starter_classes`.

    The two sides of a pair are judged by the mean of both, so that none of them is offered alone.

    Args:
        means: The entry "mean" of what `tools.starter.score` reports.
        one: One bar for all instead of their own.
    """
    sides: dict[str, list[float]] = {}
    for key, scores in means.items():
        sides.setdefault(_pair(key), []).append(main_score(scores))
    known = [f"{one.modality}_{one.name}" for one in starter_classes()]
    return [key for key in known if key in means and mean(sides[_pair(key)]) >= bar(key, one)]


def main_score(scores: Mapping[str, Any]) -> float:
    """Return Dice, or F1 of separate objects."""
    return float(scores["dice"] if "dice" in scores else scores["f1"])


def _pair(key: str) -> str:
    """Return the key of a structure without its side."""
    modality, _, name = key.partition("_")
    for side in _SIDES:
        name = name.removeprefix(side)
    return f"{modality}_{name}"
