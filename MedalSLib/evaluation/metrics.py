"""The challenge's scores: Dice and surface Dice of structures, detection and Dice of instances.

Surface Dice is MONAI's with sub-voxel surface areas, which is the maintained implementation that agrees with the
published figures; it is computed on the box around each structure, so that a whole case takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from MedalSLib.errors import InputError, ResourceError
from MedalSLib.volume import bounding_box

SpacingOrder = Literal["correct", "published"]
Scores = dict[str, float]
NOT_A_NUMBER = float("nan")


def dice(truth: np.ndarray, found: np.ndarray) -> float:
    """Return the Dice coefficient of two boolean arrays, NaN if both are empty."""
    total = int(np.count_nonzero(truth)) + int(np.count_nonzero(found))
    return 2.0 * int(np.count_nonzero(truth & found)) / total if total else NOT_A_NUMBER


def surface_dice(
    truth: np.ndarray, found: np.ndarray, spacing_dhw: Sequence[float], tolerance_mm: float = 2.0
) -> float:
    """Return the normalised surface Dice: the share of both surfaces that lies within the tolerance of the other.

    Args:
        truth: Boolean (D, H, W).
        found: Boolean (D, H, W).
        spacing_dhw: Spacing along the arrays' axes in mm.
        tolerance_mm: Distance that still counts as agreement.

    Returns:
        0..1; 0 if one is empty, NaN if both are.

    Raises:
        ResourceError: MONAI is not installed.
    """
    bounds = bounding_box(truth | found)
    if bounds is None:
        return NOT_A_NUMBER
    if not truth.any() or not found.any():
        return 0.0
    box = tuple(slice(*axis) for axis in bounds)
    try:
        import torch
        from monai.metrics import compute_surface_dice
    except ImportError as error:
        raise ResourceError(
            "Surface Dice needs MONAI, which is not installed.", "Install it with: pip install 'medals[train]'."
        ) from error

    def batch(mask: np.ndarray) -> Any:
        # A structure that touches the image's edge ends there: the border of zeros closes its surface.
        return torch.from_numpy(np.pad(mask[box], 1).astype(np.float32))[None, None]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI warns of its own deprecated arguments on every call
        value = compute_surface_dice(
            batch(found),
            batch(truth),
            class_thresholds=[tolerance_mm],
            include_background=True,
            spacing=[float(size) for size in spacing_dhw],
            use_subvoxels=True,
        )
    return float(value)


def can_score_surfaces() -> bool:
    """Return whether MONAI is there, which surface Dice needs."""
    return find_spec("monai") is not None


def semantic_scores(
    gt: np.ndarray,
    seg: np.ndarray,
    labels: Iterable[int],
    spacing_dhw: Sequence[float],
    tolerance_mm: float = 2.0,
    spacing_order: SpacingOrder = "correct",
) -> dict[int | str, Scores]:
    """Score a labelmap against the truth.

    Args:
        gt: True labels (D, H, W).
        seg: Found labels (D, H, W).
        labels: Labels that were asked for.
        spacing_dhw: Spacing along the arrays' axes (z, y, x) in mm.
        tolerance_mm: Tolerance of the surface Dice.
        spacing_order: "published" applies the spacing in reverse, (x, y, z) to (z, y, x) arrays, as the challenge's
            own evaluation does; only to compare with its figures.

    Returns:
        `{label: {"dsc": ..., "nsd": ...}, ..., "mean": {...}}`.  A label that the truth lacks scores NaN and is left
        out of the mean (reference behaviour); the mean is NaN if there is no other.

    Raises:
        InputError: The arrays are of different shapes, not 3-D, or the spacing is not positive.
        ResourceError: MONAI is not installed.
    """
    _check(gt, seg)
    spacing = tuple(float(size) for size in spacing_dhw)
    if len(spacing) != 3 or not all(np.isfinite(size) and size > 0 for size in spacing):
        raise InputError(f"The spacing {spacing} is not three positive numbers.", "Give it as (z, y, x) in mm.")
    if spacing_order not in ("correct", "published"):
        raise InputError(f"The spacing order '{spacing_order}' is unknown.", "Use 'correct' or 'published'.")
    if spacing_order == "published":
        spacing = spacing[::-1]
    scores: dict[int | str, Scores] = {}
    for label in dict.fromkeys(int(label) for label in labels):
        truth = gt == label
        if not truth.any():
            scores[label] = {"dsc": NOT_A_NUMBER, "nsd": NOT_A_NUMBER}
            continue
        found = seg == label
        scores[label] = {"dsc": dice(truth, found), "nsd": surface_dice(truth, found, spacing, tolerance_mm)}
    scores["mean"] = {key: mean([entry[key] for entry in scores.values()]) for key in ("dsc", "nsd")}
    return scores


def instance_scores(gt: np.ndarray, seg: np.ndarray, iou: float = 0.5) -> Scores:
    """Score separate instances: F1 of the detection, and Dice of the pairs that match.

    Pairs are chosen by the Hungarian method so that as many as possible overlap by at least `iou`, and among those
    choices so that they overlap most.

    Args:
        gt: True instances (D, H, W), one label each.
        seg: Found instances (D, H, W), one label each; a boolean array or one with a single label is split into its
            6-connected components.
        iou: Intersection over union from which a pair counts.

    Returns:
        `{"f1", "dsc_tp", "tp", "fp", "fn"}`; an empty prediction scores 0, two empty arrays score NaN.

    Raises:
        InputError: The arrays are of different shapes or not 3-D.
    """
    from scipy.optimize import linear_sum_assignment

    _check(gt, seg)
    truth, true_count = _consecutive(gt)
    found, found_count = _consecutive(seg)
    if found_count == 1:
        found, found_count = _components(found)
    if not true_count and not found_count:
        return {"f1": NOT_A_NUMBER, "dsc_tp": NOT_A_NUMBER, "tp": 0.0, "fp": 0.0, "fn": 0.0}
    overlap = np.bincount(
        truth.ravel().astype(np.int64) * (found_count + 1) + found.ravel(),
        minlength=(true_count + 1) * (found_count + 1),
    ).reshape(true_count + 1, found_count + 1)
    shared = overlap[1:, 1:]
    true_sizes, found_sizes = overlap[1:].sum(1), overlap[:, 1:].sum(0)
    both = true_sizes[:, None] + found_sizes[None, :]
    ratio = shared / np.maximum(both - shared, 1)
    smaller = max(min(true_count, found_count), 1)
    rows, columns = linear_sum_assignment(-(ratio >= iou).astype(float) - ratio / (2 * smaller))
    matched = ratio[rows, columns] >= iou
    rows, columns = rows[matched], columns[matched]
    hits = len(rows)
    return {
        "f1": 2.0 * hits / (true_count + found_count),
        "dsc_tp": float(np.mean(2.0 * shared[rows, columns] / both[rows, columns])) if hits else 0.0,
        "tp": float(hits),
        "fp": float(found_count - hits),
        "fn": float(true_count - hits),
    }


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are numbers, NaN if there is none."""
    numbers = [value for value in values if not np.isnan(value)]
    return float(np.mean(numbers)) if numbers else NOT_A_NUMBER


def _check(gt: np.ndarray, seg: np.ndarray) -> None:
    if gt.ndim != 3 or gt.shape != seg.shape:
        raise InputError(
            f"The truth has the shape {gt.shape} and the segmentation {seg.shape}.",
            "Both must be 3-D arrays on the same grid.",
        )


def _consecutive(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Renumber the labels of an array to 0 (background), 1..n and return n."""
    values, index = np.unique(labels, return_inverse=True)
    index = index.reshape(labels.shape)
    if values.size and values[0] == 0:
        return index, len(values) - 1
    return index + 1, len(values)


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    import cc3d

    labels, count = cc3d.connected_components(mask > 0, connectivity=6, return_N=True)
    return labels, int(count)
