"""The schedule's golden figures, and the loss against a slow, written-out form of the same definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import noise

from MedalSLib.errors import InputError
from MedalSLib.training.losses import LossParts, LossSettings, deep_supervision_weights, segmentation_loss
from MedalSLib.training.recipe import load_recipe
from MedalSLib.training.schedule import CosineRestarts, Cycle


def values(parts: LossParts) -> list[float]:
    """Total, then the Dice parts, then the cross-entropy parts."""
    return [float(value) for value in torch.cat([parts.total.reshape(1), parts.dice, parts.bce])]


def test_the_published_schedule_gives_the_golden_learning_rates(golden: Path) -> None:
    with np.load(golden / "misc.npz", allow_pickle=False) as figures:
        steps, rates = figures["open/schedule_steps"], figures["open/schedule_lr"]
    schedule = load_recipe("published_stage1").learning_rate()
    ours = np.array([schedule(int(step)) for step in steps])
    np.testing.assert_allclose(ours, rates, rtol=1e-6, atol=0)
    assert schedule.total_steps == 102_000


def test_steps_after_the_end_keep_the_last_rate_and_a_cycle_may_have_no_warm_up() -> None:
    schedule = CosineRestarts((Cycle(10, 1e-3, 0),))
    assert schedule(11) == schedule(10) > 0
    assert schedule(1) < 1e-3


@pytest.mark.parametrize("cycles", [(Cycle(10, 1e-3, 10),), (Cycle(0, 1e-3, 0),), ()])
def test_an_impossible_schedule_is_refused(cycles: tuple[Cycle, ...]) -> None:
    with pytest.raises(InputError):
        CosineRestarts(cycles)


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
    np.testing.assert_allclose(values(parts), [total, *dice, *bce], rtol=0, atol=1e-6)


def test_the_loss_of_one_level_gives_the_golden_figures(golden: Path) -> None:
    """Total, Dice of each sample, cross-entropy of each sample; the first of sample 1's three queries is padding."""
    with np.load(golden / "misc.npz", allow_pickle=False) as figures:
        expected = figures["open/loss"]
    shape = (2, 3, 16, 16, 8)
    logits = torch.from_numpy(noise("loss/logits", shape))
    target = torch.from_numpy(noise("loss/mask", shape, "u") > 0.7).float()
    parts = segmentation_loss([logits], target, torch.tensor([[1, 1, 1], [0, 1, 1]]))
    found = np.array(values(parts)) * deep_supervision_weights(4)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_smoothed_dice_pulls_down_what_is_found_of_an_absent_structure() -> None:
    nothing = torch.zeros(1, 1, 8, 8, 8)
    smooth = LossSettings(squared=False, smooth_voxels=20.0)
    much, little = (torch.full_like(nothing, value) for value in (1.0, -4.0))
    published = [float(segmentation_loss([logits], nothing).dice) for logits in (much, little)]
    smoothed = [float(segmentation_loss([logits], nothing, settings=smooth).dice) for logits in (much, little)]
    assert published[0] - published[1] < 1e-6
    assert smoothed[0] - smoothed[1] > 0.3
    # 512 voxels of probability p: 1 - 20 / (512 p + 20); at half the resolution 64 voxels, and 20 / 8 to smooth
    assert smoothed[0] == pytest.approx(1 - 20 / (512 * float(torch.sigmoid(much[0, 0, 0, 0, 0])) + 20), abs=1e-5)
    halved = segmentation_loss([much, much[..., ::2, ::2, ::2]], nothing, settings=smooth)
    assert float(halved.dice) == pytest.approx(smoothed[0], abs=1e-5)


def test_balanced_cross_entropy_weighs_few_voxels_as_much_as_the_many_others() -> None:
    target = torch.zeros(1, 1, 10, 10, 10)
    target[0, 0, 0, 0, :5] = 1
    said_no = torch.full_like(target, -3.0)
    wrong, right = (float(torch.nn.functional.softplus(torch.tensor(value))) for value in (3.0, -3.0))
    assert float(segmentation_loss([said_no], target, balance=1.0).bce) == pytest.approx((wrong + right) / 2, abs=1e-4)
    plain = float(segmentation_loss([said_no], target).bce)
    assert plain == pytest.approx(0.005 * wrong + 0.995 * right, abs=1e-4)
    assert [LossSettings(balance_until=0.5).balance(done) for done in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.5, 0.0, 0.0]


def test_an_absent_structure_that_is_not_predicted_costs_nothing() -> None:
    parts = segmentation_loss([torch.full((1, 1, 4, 4, 4), -40.0)], torch.zeros(1, 1, 4, 4, 4))
    assert values(parts) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_levels_weigh_half_of_the_one_before_and_sum_to_one() -> None:
    assert deep_supervision_weights(4) == pytest.approx((8 / 15, 4 / 15, 2 / 15, 1 / 15))
