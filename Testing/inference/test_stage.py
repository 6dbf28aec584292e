"""A whole stage: parity with the published one, and answers that depend on nothing they should not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import golden_inputs
import numpy as np
import pytest
import torch

from MedalSLib.errors import CancelledError
from MedalSLib.inference import stage
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.outputs import StageResult
from MedalSLib.inference.resampling import trilinear
from MedalSLib.inference.resampling_policy import ResamplingPlan, StageSpec, plan
from MedalSLib.inference.stage import StageHooks, run_stage
from MedalSLib.inference.tiling import Tile
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.medals import MedalS

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
E2E = np.load(GOLDEN / "e2e.npz", allow_pickle=False)
CASES = json.loads((GOLDEN / "e2e.json").read_text())
SPEC = StageSpec(2, (1.0, 1.0, 1.0), (16, 16, 16))
PAIR = ("CT_Liver", "CT_Spleen")


def fixed_order(count: int, tile: Tile, iteration: int) -> np.ndarray:
    return golden_inputs.fixed_permutation(count)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["tag"])
def test_the_published_labels_come_out(case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "seeded_permutation", lambda seed: fixed_order)
    network = MedalS(MedalSConfig(tuple(case["crop"]))).eval()
    weights = network.state_dict()
    network.load_state_dict({key: torch.tensor(golden_inputs.parameter(key, weights[key].shape)) for key in weights})
    tag, spec = case["tag"], StageSpec(1 if case["stage1"] else 2, tuple(case["target_spacing"]), tuple(case["crop"]))
    image = E2E[f"{tag}/img"].transpose(1, 2, 0)
    result = run_stage(
        network,
        torch.tensor(golden_inputs.noise(case["prefix"] + "q", (case["n"], 768))),
        image,
        plan(image.shape, case["spacing"], PAIR, spec),
        E2E[f"{tag}/lowres"].transpose(1, 2, 0) if case["lowres"] else None,
        instance=bool(case["instance_label"]),
        policy="published",
    )
    assert (result.labelmap.transpose(2, 0, 1) == E2E[f"{tag}/seg"]).mean() > 0.9999
    found = result.max_probability.transpose(2, 0, 1)[::3, ::3, ::3]
    np.testing.assert_allclose(found, E2E[f"{tag}/max_prob"], atol=1e-5)


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, ResamplingPlan, torch.Tensor, dict[int, np.ndarray]]:
    generator = np.random.default_rng(4)
    image = generator.random((5, 6, 5)).repeat(4, 0).repeat(4, 1).repeat(4, 2).astype(np.float32) * 255
    queries = torch.tensor(generator.standard_normal((11, 12)), dtype=torch.float32)
    masks = {0: image > 150, 3: (image > 60) & (image < 180), 10: image < 100}
    return image, plan(image.shape, (1.1, 0.8, 1.2), PAIR, SPEC), queries, masks


def same(first: StageResult, second: StageResult, exact: bool = True) -> None:
    if exact:
        np.testing.assert_array_equal(first.labelmap, second.labelmap)
        np.testing.assert_array_equal(first.max_probability, second.max_probability)
        assert all(np.array_equal(a.array(), b.array()) for a, b in zip(first.masks, second.masks, strict=True))
    else:
        assert (first.labelmap == second.labelmap).mean() > 0.999
        # Sums in another order differ in the last digit, and the product keeps half-precision probabilities.
        tolerance = 1e-6 if first.max_probability.dtype == np.float32 else 1e-3
        pair = first.max_probability.astype(float), second.max_probability.astype(float)
        assert (np.abs(pair[0] - pair[1]) > tolerance).mean() < 0.001


@pytest.mark.parametrize("policy", ["product", "published"])
@pytest.mark.parametrize("prompted", [False, True])
def test_same_seed_same_answer_whatever_ran_before(
    tiny_network: MedalS, scene: Any, policy: Any, prompted: bool
) -> None:
    image, made, queries, masks = scene
    labels = np.select(list(masks.values()), [index + 1 for index in masks], 0)
    prompts = (labels if policy == "published" else masks) if prompted else None
    first = run_stage(tiny_network, queries, image, made, prompts, policy=policy, seed=1)
    run_stage(tiny_network, queries[:1], image / 2, made, policy=policy)
    same(run_stage(tiny_network, queries, image, made, prompts, policy=policy, seed=1), first)
    other = run_stage(tiny_network, queries, image, made, prompts, policy=policy, seed=2)
    assert np.array_equal(other.max_probability, first.max_probability) != prompted
    assert first.labelmap.any()


@pytest.mark.parametrize("policy", ["product", "published"])
@pytest.mark.parametrize("chunk", [1, 4, 11, 30])
def test_classes_in_chunks_give_the_same_answer(tiny_network: MedalS, scene: Any, policy: Any, chunk: int) -> None:
    image, made, queries, masks = scene
    prompts = masks if policy == "product" else None
    whole = run_stage(tiny_network, queries, image, made, prompts, policy=policy)
    way = Compute(class_chunk=chunk)
    same(run_stage(tiny_network, queries, image, made, prompts, policy=policy, compute=way), whole, exact=False)


@pytest.mark.parametrize(
    ("way", "tolerance"), [(Compute(accumulator_dtype=torch.float16), 2e-3), (Compute(batch_voxels=1 << 30), 1e-5)]
)
def test_other_ways_to_compute_are_close(tiny_network: MedalS, scene: Any, way: Compute, tolerance: float) -> None:
    image, made, queries, masks = scene
    exact = run_stage(tiny_network, queries, image, made, masks, policy="published")
    close = run_stage(tiny_network, queries, image, made, masks, policy="published", compute=way)
    np.testing.assert_allclose(close.max_probability, exact.max_probability, atol=tolerance)


def test_cancel_leaves_nothing_behind(tiny_network: MedalS, scene: Any) -> None:
    image, made, queries, masks = scene
    fresh = run_stage(tiny_network, queries, image, made, masks)
    done: list[int] = []
    hooks = StageHooks(on_patch=lambda number, total: done.append(number), should_cancel=lambda: len(done) >= 2)
    with pytest.raises(CancelledError):
        run_stage(tiny_network, queries, image, made, masks, hooks=hooks)
    assert done == [1, 2]
    same(run_stage(tiny_network, queries, image, made, masks), fresh)


def test_progress_counts_every_patch_of_every_sweep(tiny_network: MedalS, scene: Any) -> None:
    image, made, queries, _ = scene
    seen: list[tuple[int, int]] = []
    hooks = StageHooks(on_patch=lambda done, total: seen.append((done, total)))
    run_stage(tiny_network, queries, image, made, compute=Compute(class_chunk=6), hooks=hooks)
    total = 2 * len(made.tiles)
    assert seen == [(number, total) for number in range(1, total + 1)]


def test_one_class_and_no_prompt_mask_of_a_prompted_stage(tiny_network: MedalS, scene: Any) -> None:
    image, made, queries, _ = scene
    empty = run_stage(tiny_network, queries[:1], image, made, {0: np.zeros(image.shape, dtype=bool)})
    same(run_stage(tiny_network, queries[:1], image, made, {}), empty)
    same(run_stage(tiny_network, queries[:1], image, made), empty)


def test_masks_are_interpolated_probabilities_at_one_half(band_network: Callable[..., Any]) -> None:
    image = np.random.default_rng(0).random((5, 6, 7)).repeat(5, 0).repeat(5, 1).repeat(5, 2) * 255
    made = plan(image.shape, (0.6, 0.7, 1.9), PAIR, replace(SPEC, spacing_hwd=(1.3, 1.4, 1.1)))
    queries = torch.tensor([[100.0, 60.0], [170.0, 40.0]])
    result = run_stage(band_network(), queries, image, made)
    alone = []
    for index in range(2):
        one = run_stage(band_network(), queries[index : index + 1], image, made)
        published = run_stage(band_network(), queries[index : index + 1], image, made, policy="published")
        expected = published.max_probability >= 0.5
        assert (result.masks[index].array() == expected).mean() > 0.9999
        assert result.masks[index].array().sum() > 0
        assert abs(result.mean_probability[index] - published.max_probability[expected].mean()) < 1e-3
        assert np.array_equal(one.masks[0].array(), result.masks[index].array())
        alone.append(np.where(expected, published.max_probability, 0).astype(np.float16))
    np.testing.assert_allclose(result.max_probability, np.maximum(*alone), atol=1e-3)
    surer = np.where(np.maximum(*alone) == 0, 0, np.where(alone[1] > alone[0], 2, 1))
    assert (result.labelmap == surer).mean() > 0.999
    both = result.masks[0].array() & result.masks[1].array()
    assert both.any()
    labelled = np.choose(result.labelmap, [~(result.masks[0].array() | result.masks[1].array()),
                                           result.masks[0].array(), result.masks[1].array()])  # fmt: skip
    assert labelled.all()


def test_rows_are_interpolated_as_by_torch(band_network: Callable[..., Any]) -> None:
    image = np.zeros((40, 21, 33), dtype=np.float32)
    image[11:29, 5:13, 9:24] = 100
    for spacing in ((0.5, 1.0, 1.0), (2.1, 1.7, 1.4), (1.0, 1.0, 1.0)):
        made = plan(image.shape, spacing, PAIR, SPEC)
        queries = torch.tensor([[100.0, 30.0]])
        published = run_stage(band_network(), queries, image, made, policy="published")
        product = run_stage(band_network(), queries, image, made)
        assert (product.masks[0].array() == (published.max_probability >= 0.5)).mean() > 0.9999
        assert trilinear(torch.zeros(made.resampled_shape), image.shape).shape == image.shape


class NoRoom:
    """An answer cache that keeps nothing."""

    def get(self, key: Any) -> None:
        return None

    def put(self, key: Any, values: torch.Tensor) -> bool:
        return False


def test_a_cache_without_room_changes_nothing(tiny_network: MedalS, scene: Any) -> None:
    image, made, queries, masks = scene
    plain = run_stage(tiny_network, queries, image, made, masks)
    cached = run_stage(tiny_network, queries, image, made, masks, hooks=StageHooks(probabilities=NoRoom()))
    same(cached, plain)
    assert cached.runs == plain.runs
