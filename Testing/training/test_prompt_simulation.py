"""Simulated prompts: reproducible, within the published probabilities, and never revealing a dropped class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedalSLib.training.prompt_simulation import PromptSimulation, simulate_prompts


@pytest.fixture
def target() -> torch.Tensor:
    masks = torch.zeros(3, 32, 24, 40)
    masks[0, 2:20, 2:20, 2:30] = 1
    masks[1, 18:30, 4:22, 5:38] = 1
    masks[2, 5:25, 5:20, 20:39] = 1
    return masks


def test_the_same_generator_state_gives_the_same_prompts(target: torch.Tensor) -> None:
    first, second = (simulate_prompts(target, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first.union, second.union)
    assert torch.equal(first.classes, second.classes)


def test_about_a_third_of_samples_have_no_prompt_and_all_values_are_zero_or_one(target: torch.Tensor) -> None:
    rng = np.random.default_rng(0)
    settings = PromptSimulation(block_drop=(0.3, 0.5), class_drop=0.0)
    empty = 0
    for _ in range(400):
        prompts = simulate_prompts(target, rng, settings)
        assert prompts.union.shape == (1, 32, 24, 40)
        assert prompts.classes.shape == target.shape
        assert set(torch.cat([prompts.union, prompts.classes]).unique().tolist()) <= {0.0, 1.0}
        empty += not prompts.union.any() and not prompts.classes.any()
    assert 0.28 < empty / 400 < 0.43


def test_without_added_blocks_prompts_lie_inside_their_own_class(target: torch.Tensor) -> None:
    settings = PromptSimulation(no_prompt=0.0, block_add=(0.0, 0.0))
    rng = np.random.default_rng(1)
    for _ in range(50):
        prompts = simulate_prompts(target, rng, settings)
        assert not (prompts.classes > target).any()
        assert not (prompts.union > target.amax(0)).any()


def test_without_dropping_everything_is_shown_in_the_union(target: torch.Tensor) -> None:
    settings = PromptSimulation(no_prompt=0.0, class_drop=0.0, block_drop=(0.0, 0.0), block_add=(0.0, 0.0))
    prompts = simulate_prompts(target, np.random.default_rng(2), settings)
    assert torch.equal(prompts.union[0], target.amax(0))
    alone = simulate_prompts(target[:1], np.random.default_rng(2), settings)
    assert torch.equal(alone.classes, target[:1])


def test_a_dropped_class_shows_nowhere(target: torch.Tensor) -> None:
    settings = PromptSimulation(no_prompt=0.0, class_drop=1.0, block_add=(0.0, 0.0))
    prompts = simulate_prompts(target, np.random.default_rng(3), settings)
    assert not prompts.union.any()
    assert not prompts.classes.any()


def test_the_share_of_hidden_blocks_stays_within_its_range() -> None:
    full = torch.ones(1, 64, 64, 64)
    settings = PromptSimulation(no_prompt=0.0, class_drop=0.0, block_add=(0.0, 0.0), block_sizes=(4,))
    rng = np.random.default_rng(4)
    shares = [1 - float(simulate_prompts(full, rng, settings).union.mean()) for _ in range(40)]
    assert 0.27 < min(shares) < 0.42
    assert 0.78 < max(shares) < 0.93


def test_blocks_are_added_outside_the_target() -> None:
    settings = PromptSimulation(no_prompt=0.0, block_add=(0.1, 0.1), block_sizes=(8,))
    prompts = simulate_prompts(torch.zeros(2, 64, 64, 64), np.random.default_rng(6), settings)
    assert prompts.union.any()
    assert torch.equal(prompts.union[0], prompts.classes.amax(0))


def test_blocks_that_are_hidden_show_no_class_at_all(target: torch.Tensor) -> None:
    settings = PromptSimulation(no_prompt=0.0, class_drop=0.0, block_drop=(1.0, 1.0), block_add=(0.0, 0.0))
    prompts = simulate_prompts(target, np.random.default_rng(7), settings)
    assert not prompts.union.any()
    assert not prompts.classes.any()
    half = PromptSimulation(no_prompt=0.0, class_drop=0.0, block_drop=(0.5, 0.5), block_add=(0.0, 0.0))
    shown = simulate_prompts(target, np.random.default_rng(8), half)
    assert not (shown.classes.amax(0) > shown.union[0]).any()
    assert 0 < shown.classes.sum() < 0.6 * target.sum()
