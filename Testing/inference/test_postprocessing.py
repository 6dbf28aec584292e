"""Component filters against the published figures, and instances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MedalSLib.inference.postprocessing import (
    best_components,
    filter_applies,
    keep_best_components,
    remove_small_components,
    split_instances,
)

MISC = np.load(Path(__file__).resolve().parents[1] / "golden" / "misc.npz", allow_pickle=False)


@pytest.mark.parametrize("index", range(8))
def test_the_filter_keeps_the_published_components(index: int) -> None:
    labels, probability, expect = (MISC[f"open/component/{index}/{name}"] for name in ("seg", "prob", "expect"))
    before = labels.copy()
    kept = keep_best_components(labels, probability, np.unique(labels[labels > 0]))
    np.testing.assert_array_equal(kept, expect)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("index", range(3))
def test_small_components_go_as_published(index: int) -> None:
    np.testing.assert_array_equal(
        remove_small_components(MISC[f"open/small/{index}/mask"]), MISC[f"open/small/{index}/expect"]
    )


def line(*spans: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray]:
    """A mask of pieces (start, stop) with their probabilities, far from each other."""
    mask, probability = np.zeros((1, 1, 100), dtype=bool), np.zeros((1, 1, 100), dtype=np.float32)
    for start, stop, value in spans:
        mask[..., start:stop] = True
        probability[..., start:stop] = value
    return mask, probability


def kept_starts(*spans: tuple[int, int, float]) -> list[int]:
    mask = best_components(*line(*spans))
    return [start for start, stop, _ in spans if mask[..., start:stop].all()]


def test_sure_components_of_about_the_same_probability_all_stay() -> None:
    assert kept_starts((0, 20, 0.9), (30, 45, 0.95), (50, 55, 0.88), (60, 62, 0.99)) == [0, 30, 50]


def test_the_surer_of_the_two_largest_stays_alone() -> None:
    assert kept_starts((0, 20, 0.6), (30, 45, 0.8)) == [30]


def test_the_largest_stays_if_the_surest_is_third() -> None:
    assert kept_starts((0, 20, 0.6), (30, 45, 0.65), (50, 55, 0.85)) == [0]


def test_nothing_stays_nothing() -> None:
    empty = np.zeros((4, 4, 4), dtype=bool)
    assert not best_components(empty, empty.astype(np.float32)).any()
    assert not remove_small_components(empty).any()
    assert not split_instances(empty).any()


def test_instances_are_numbered_by_size() -> None:
    mask, _ = line((0, 12, 1), (20, 45, 1), (50, 55, 1))
    labels = split_instances(mask)
    assert labels.max() == 2
    assert (labels[..., 20:45] == 1).all()
    assert (labels[..., 0:12] == 2).all()
    assert not labels[..., 50:55].any()


def test_touching_corners_do_not_connect() -> None:
    mask = np.zeros((6, 6, 6), dtype=bool)
    mask[:3, :3, :3] = mask[3:, 3:, 3:] = True
    assert split_instances(mask).max() == 2


def test_large_volumes_are_not_filtered() -> None:
    assert filter_applies((649, 650, 100))
    assert not filter_applies((650, 650, 100))


@pytest.mark.parametrize("seed", range(8))
def test_small_components_left_out_are_as_good_as_gone(seed: int) -> None:
    random = np.random.default_rng(seed)
    mask, probability = random.random((12, 12, 12)) > 0.72, random.random((12, 12, 12)).astype(np.float16)
    for fewest in (1, 5, 30, 2000):
        expected = best_components(remove_small_components(mask, fewest), probability)
        np.testing.assert_array_equal(best_components(mask, probability, fewest), expected)
