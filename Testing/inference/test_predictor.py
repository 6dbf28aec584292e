"""One patch: which passes are run, and from which of them each voxel is taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from dense_prompts import dense_prompts
from pretend_gpu import RoundedConvolutions
from torch import Tensor

from MedalSLib.errors import CancelledError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.predictor import PatchPredictor
from MedalSLib.inference.prompts import PatchPrompts, seeded_permutation, shown_first
from MedalSLib.network.medals import MedalS, VoxelFeatures

TILE = (0, 16, 0, 16, 0, 16)
QUERIES = torch.tensor([[100.0, 20.0], [200.0, 20.0]])


class Cache(dict[Any, VoxelFeatures]):
    def put(self, tile: Any, features: VoxelFeatures) -> None:
        self[tile] = features


def predicted(predictor: PatchPredictor, image: Tensor, prompts: PatchPrompts | None = None) -> Tensor:
    with torch.inference_mode():
        parts = list(predictor.probabilities(image, prompts, TILE, 0, predictor.count))
    assert [part[0] for part in parts] == [0, *(part[1] for part in parts[:-1])]
    return torch.cat([part[2] for part in parts], dim=1)


def full_prompts(count: int = 2) -> PatchPrompts:
    return PatchPrompts.of(torch.ones(count, 16, 16, 16, dtype=torch.bool))


def test_without_prompts_one_pass_is_enough(band_network: Callable[..., Any]) -> None:
    network = band_network()
    predictor = PatchPredictor(network, QUERIES, Compute(), seeded_permutation(0))
    found = predicted(predictor, torch.full((16, 16, 16), 100.0))
    assert network.encoded == [False]
    assert (found[0] > 0.99).all()
    assert (found[1] < 0.01).all()


def test_a_voxel_never_sees_the_prompt_of_its_own_block(band_network: Callable[..., Any]) -> None:
    network = band_network(echo=1000.0)
    predictor = PatchPredictor(network, QUERIES, Compute(), seeded_permutation(0))
    found = predicted(predictor, torch.full((16, 16, 16), 30.0), full_prompts())
    assert network.encoded == [True, True]
    assert (found < 0.01).all()


@pytest.mark.parametrize("batch", [False, True])
def test_prompted_passes_match_the_rule_worked_out_by_hand(tiny_network: MedalS, batch: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(16, 16, 16, generator=generator) * 255
    queries = torch.randn(11, 12, generator=generator)
    prompts = PatchPrompts.of(torch.rand(11, 16, 16, 16, generator=generator) > 0.7)
    predictor = PatchPredictor(
        tiny_network, queries, Compute(batch_voxels=1 << 30 if batch else 0), seeded_permutation(3)
    )
    found = predicted(predictor, image, prompts)
    shown = shown_first((16, 16, 16), 8, seeded_permutation(3)(8, TILE, 0)).float()
    with torch.inference_mode():
        passes = [
            tiny_network(
                queries[None],
                image[None, None],
                (prompts.union * half)[None, None],
                (dense_prompts(prompts, 11) * half)[None],
            )[0][0].sigmoid()
            for half in (shown, 1 - shown)
        ]
    torch.testing.assert_close(found, passes[0] * (1 - shown) + passes[1] * shown, atol=1e-5, rtol=1e-4)
    assert predictor.runs == (1 if batch else 2)


def test_no_prompt_is_the_same_as_prompts_that_are_zero(tiny_network: MedalS) -> None:
    image, queries = torch.rand(16, 16, 16) * 255, torch.randn(3, 12)
    found = predicted(PatchPredictor(tiny_network, queries, Compute(), seeded_permutation(0)), image)
    zero = torch.zeros(1, 1, 16, 16, 16)
    with torch.inference_mode():
        expected = tiny_network(queries[None], image[None, None], zero, zero.expand(1, 3, -1, -1, -1))[0][0].sigmoid()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_half_without_prompt_voxels_runs_without_prompts(band_network: Callable[..., Any]) -> None:
    network = band_network()
    order = seeded_permutation(0)(8, TILE, 0)
    shown = shown_first((16, 16, 16), 8, order)
    prompts = PatchPrompts.of(torch.stack((shown, shown)))
    predictor = PatchPredictor(network, QUERIES, Compute(), seeded_permutation(0))
    predicted(predictor, torch.full((16, 16, 16), 100.0), prompts)
    assert network.encoded == [True, False]


def test_features_of_a_patch_without_prompts_are_computed_once_for_all_texts(tiny_network: MedalS) -> None:
    image, cache = torch.rand(16, 16, 16) * 255, Cache()
    first, second = torch.randn(2, 3, 12)
    fresh = predicted(PatchPredictor(tiny_network, second, Compute(), seeded_permutation(0)), image)
    predicted(PatchPredictor(tiny_network, first, Compute(), seeded_permutation(0), cache=cache), image)
    assert list(cache) == [TILE]
    again = PatchPredictor(tiny_network, second, Compute(), seeded_permutation(0), cache=cache)
    assert torch.equal(predicted(again, image), fresh)
    assert (again.runs, again.reused) == (0, 1)


def test_features_kept_in_half_precision_can_be_used(tiny_network: MedalS) -> None:
    image, cache, queries = torch.rand(16, 16, 16) * 255, Cache(), torch.randn(3, 12)
    fresh = predicted(PatchPredictor(tiny_network, queries, Compute(), seeded_permutation(0), cache=cache), image)
    cache[TILE] = cache[TILE].to(torch.float16)
    again = predicted(PatchPredictor(tiny_network, queries, Compute(), seeded_permutation(0), cache=cache), image)
    torch.testing.assert_close(again, fresh, atol=0.02, rtol=0.02)


@pytest.mark.parametrize(("intensity", "passes"), [(100.0, [False, True, True]), (30.0, [False, False])])
def test_instances_are_refined_from_their_own_prediction(
    band_network: Callable[..., Any], intensity: float, passes: list[bool]
) -> None:
    network = band_network()
    predictor = PatchPredictor(network, QUERIES, Compute(), seeded_permutation(0), refinements=1)
    predicted(predictor, torch.full((16, 16, 16), intensity))
    assert network.encoded == passes


def test_refinement_hides_blocks_of_four(band_network: Callable[..., Any]) -> None:
    asked = []

    def order(count: int, tile: Any, iteration: int) -> np.ndarray:
        asked.append((count, iteration))
        return np.arange(count)

    predictor = PatchPredictor(band_network(), QUERIES, Compute(), order, refinements=2)
    predicted(predictor, torch.full((16, 16, 16), 100.0), full_prompts())
    assert asked == [(8, 0), (64, 1), (64, 2)]


def test_cancel_is_asked_for_before_each_run(band_network: Callable[..., Any]) -> None:
    network, answers = band_network(), iter([False, True])
    predictor = PatchPredictor(network, QUERIES, Compute(), seeded_permutation(0), should_cancel=lambda: next(answers))
    with pytest.raises(CancelledError):
        predicted(predictor, torch.full((16, 16, 16), 100.0), full_prompts())
    assert network.encoded == [True]


def test_half_precision_is_close(tiny_network: MedalS) -> None:
    image, queries = torch.rand(16, 16, 16) * 255, torch.randn(3, 12)
    full = predicted(PatchPredictor(tiny_network, queries, Compute(), seeded_permutation(0)), image, full_prompts(3))
    way = Compute(autocast=torch.bfloat16)
    with RoundedConvolutions():
        half = predicted(PatchPredictor(tiny_network, queries, way, seeded_permutation(0)), image, full_prompts(3))
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.1
