"""The schedule's golden figures, and the loss against a slow, written-out form of the same definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import noise

from MedalSLib.errors import InputError
from MedalSLib.training.losses import deep_supervision_weights, level_loss, segmentation_loss
from MedalSLib.training.schedule import cosine_restarts, published_schedule


def test_the_published_schedule_gives_the_golden_learning_rates(golden: Path) -> None:
    with np.load(golden / "misc.npz", allow_pickle=False) as figures:
        steps, rates = figures["open/schedule_steps"], figures["open/schedule_lr"]
    schedule = published_schedule()
    ours = np.array([schedule(int(step)) for step in steps])
    np.testing.assert_allclose(ours, rates, rtol=1e-6, atol=0)
    assert schedule.total_steps == 102_000


def test_steps_after_the_end_keep_the_last_rate_and_a_cycle_may_have_no_warm_up() -> None:
    schedule = cosine_restarts([10], [1e-3], [0])
    assert schedule(11) == schedule(10) > 0
    assert schedule(1) < 1e-3


@pytest.mark.parametrize("lists", [([10], [1e-3], [10]), ([10, 5], [1e-3], [1]), ([], [], [])])
def test_an_impossible_schedule_is_refused(lists: tuple[list[int], list[float], list[int]]) -> None:
    with pytest.raises(InputError):
        cosine_restarts(*lists)


def by_hand(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
    dice = 1 - (2 * (probability * truth).sum() + 1e-7) / ((probability**2).sum() + (truth**2).sum() + 1e-7)
    bce = -(truth * np.log(probability) + (1 - truth) * np.log(1 - probability)).mean()
    return dice, bce


def test_the_loss_is_the_mean_over_real_queries_of_all_samples_and_weighted_over_levels() -> None:
    generator = np.random.default_rng(0)
    target = (generator.random((2, 3, 8, 8, 8)) > 0.7).astype(np.float32)
    levels = [generator.standard_normal((2, 3, size, size, size)).astype(np.float32) for size in (8, 4)]
    real = np.array([[1, 1, 1], [1, 1, 0]])
    parts = segmentation_loss([torch.from_numpy(x) for x in levels], torch.from_numpy(target), torch.from_numpy(real))
    total, dice, bce = 0.0, np.zeros(2), np.zeros(2)
    for logits, weight, step in zip(levels, (2 / 3, 1 / 3), (1, 2), strict=True):
        small = target[:, :, ::step, ::step, ::step]
        for sample in range(2):
            pairs = np.array([by_hand(logits[sample, q], small[sample, q]) for q in range(3) if real[sample, q]])
            dice[sample] += weight * pairs[:, 0].mean()
            bce[sample] += weight * pairs[:, 1].mean()
            total += weight * pairs.sum() / 5
    np.testing.assert_allclose(parts.values(), [total, *dice, *bce], rtol=0, atol=1e-6)


def test_the_loss_of_one_level_gives_the_golden_figures(golden: Path) -> None:
    """Total, Dice of each sample, cross-entropy of each sample; the first of sample 1's three queries is padding."""
    with np.load(golden / "misc.npz", allow_pickle=False) as figures:
        expected = figures["open/loss"]
    shape = (2, 3, 16, 16, 8)
    logits = torch.from_numpy(noise("loss/logits", shape))
    target = torch.from_numpy(noise("loss/mask", shape, "u") > 0.7).float()
    parts = level_loss(logits, target, torch.tensor([[1, 1, 1], [0, 1, 1]]), deep_supervision_weights(4)[0])
    np.testing.assert_allclose(parts.values(), expected, rtol=0, atol=1e-6)


def test_an_absent_structure_that_is_not_predicted_costs_nothing() -> None:
    parts = segmentation_loss([torch.full((1, 1, 4, 4, 4), -40.0)], torch.zeros(1, 1, 4, 4, 4))
    assert parts.values() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_levels_weigh_half_of_the_one_before_and_sum_to_one() -> None:
    assert deep_supervision_weights(4) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15))
