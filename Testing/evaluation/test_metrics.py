"""Scores against the golden figures, and the cases the figures leave out."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.evaluation.metrics import instance_scores, semantic_scores, surface_dice


@pytest.mark.parametrize("case", range(5))
def test_semantic_scores_equal_the_golden_figures_in_both_spacing_orders(golden: Path, case: int) -> None:
    key = f"open/sem/{case}"
    facts = json.loads((golden / "metrics.json").read_text())[key]
    with np.load(golden / "metrics.npz", allow_pickle=False) as arrays:
        gt, seg = arrays[f"{key}/gt"], arrays[f"{key}/seg"]
    spacing_dhw = facts["spacing_xyz"][::-1]
    correct = semantic_scores(gt, seg, facts["labels"], spacing_dhw)
    published = semantic_scores(gt, seg, facts["labels"], spacing_dhw, spacing_order="published")
    ours = [correct["mean"]["dsc"], published["mean"]["nsd"], correct["mean"]["nsd"]]
    np.testing.assert_allclose(ours, facts["dsc_nsdofficial_nsdcorrect"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", range(5))
def test_instance_scores_equal_the_golden_figures(golden: Path, case: int) -> None:
    key = f"open/inst/{case}"
    facts = json.loads((golden / "metrics.json").read_text())[key]
    with np.load(golden / "metrics.npz", allow_pickle=False) as arrays:
        scores = instance_scores(arrays[f"{key}/gt"], arrays[f"{key}/seg"])
    np.testing.assert_allclose([scores["f1"], scores["dsc_tp"]], facts["f1_dsctp"], rtol=0, atol=1e-6)


def two_boxes() -> np.ndarray:
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[1:5, 1:6, 1:6] = 1
    labels[7:12, 8:14, 8:16] = 2
    return labels


def test_a_perfect_result_scores_one_also_where_it_touches_the_edge_of_the_image() -> None:
    labels = two_boxes()
    scores = semantic_scores(labels, labels, [1, 2], (2.0, 1.0, 1.0))
    assert all(value == pytest.approx(1.0) for entry in scores.values() for value in entry.values())


def test_labels_not_in_the_truth_are_left_out_of_the_mean() -> None:
    labels = two_boxes()
    found = labels.copy()
    found[0, 0, 0] = 3
    scores = semantic_scores(labels, found, [1, 3], (1.0, 1.0, 1.0))
    assert math.isnan(scores[3]["dsc"])
    assert scores["mean"] == {"dsc": pytest.approx(1.0), "nsd": pytest.approx(1.0)}


def test_a_missed_structure_scores_zero_and_counts() -> None:
    labels = two_boxes()
    scores = semantic_scores(labels, np.where(labels == 1, labels, 0), [1, 2], (1.0, 1.0, 1.0))
    assert scores[2] == {"dsc": 0.0, "nsd": 0.0}
    assert scores["mean"]["dsc"] == pytest.approx(0.5)


def test_surface_dice_knows_the_spacing_of_each_axis() -> None:
    truth = np.zeros((20, 20, 20), bool)
    truth[5:15, 5:15, 5:15] = True
    shifted = np.roll(truth, 1, axis=0)
    assert surface_dice(truth, shifted, (1.0, 1.0, 1.0), 1.5) == pytest.approx(1.0)
    assert surface_dice(truth, shifted, (4.0, 1.0, 1.0), 1.5) < 0.95


def test_cropping_to_the_structure_does_not_change_surface_dice() -> None:
    small = two_boxes() == 2
    found = np.roll(small, -1, axis=1)
    wide, wide_found = np.pad(small, 9), np.pad(found, 9)
    spacing = (1.5, 0.8, 0.9)
    assert surface_dice(small, found, spacing, 0.7) == pytest.approx(surface_dice(wide, wide_found, spacing, 0.7))


def test_a_binary_prediction_is_split_into_components_and_a_labelled_one_is_not() -> None:
    gt = np.zeros((8, 8, 20), np.uint8)
    gt[2:6, 2:6, 2:8], gt[2:6, 2:6, 10:16] = 1, 2
    assert instance_scores(gt, gt > 0)["f1"] == 1.0
    touching = np.zeros_like(gt)
    touching[2:6, 2:6, 2:9], touching[2:6, 2:6, 9:16] = 7, 9
    assert instance_scores(gt, touching)["tp"] == 2.0
    assert instance_scores(gt, touching > 0)["tp"] <= 1.0


def test_an_empty_prediction_scores_zero_and_nothing_in_both_scores_nothing() -> None:
    gt = two_boxes()
    empty = np.zeros_like(gt)
    assert instance_scores(gt, empty) == {"f1": 0.0, "dsc_tp": 0.0, "tp": 0.0, "fp": 0.0, "fn": 2.0}
    assert math.isnan(instance_scores(empty, empty)["f1"])


@pytest.mark.parametrize("arguments", [{"spacing_dhw": (0, 1, 1)}, {"spacing_order": "reverse"}])
def test_wrong_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError):
        semantic_scores(two_boxes(), two_boxes(), [1], **({"spacing_dhw": (1, 1, 1)} | arguments))


def test_arrays_on_different_grids_are_refused() -> None:
    with pytest.raises(InputError):
        semantic_scores(two_boxes(), two_boxes()[1:], [1], (1, 1, 1))
    with pytest.raises(InputError):
        instance_scores(two_boxes(), two_boxes()[1:])
