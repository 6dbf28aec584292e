"""MedalS gives the published network's figures, under the published names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_inputs import noise, parameter
from tiny_models import small_config

from MedalSLib.errors import ModelError
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.medals import MedalS

TOLERANCE = 1e-3


def published_shapes(golden: Path) -> dict[str, list[int]]:
    shapes = json.loads((golden / "network_state_dict_shapes.json").read_text())
    return {key: shape for key, shape in shapes.items() if ".all_modules." not in key}


@pytest.fixture(scope="module")
def network(golden: Path) -> MedalS:
    with torch.device("meta"):
        network = MedalS(MedalSConfig((64, 64, 64), deep_supervision=True))
    weights = {key: torch.from_numpy(parameter(key, shape)) for key, shape in published_shapes(golden).items()}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def sampled(volume: np.ndarray) -> np.ndarray:
    step = 4 if min(volume.shape[2:]) >= 32 else 2
    return volume[..., ::step, ::step, ::step]


def test_names_and_shapes_are_the_published_ones(golden: Path) -> None:
    with torch.device("meta"):
        training = MedalS(MedalSConfig((64, 64, 64), deep_supervision=True))
        inference = MedalS(MedalSConfig((64, 64, 64)))
    expected = published_shapes(golden)
    assert {key: list(value.shape) for key, value in training.state_dict().items()} == expected
    without_heads = {key for key in expected if not key.startswith("mid_mask_embed_proj")}
    assert set(inference.state_dict()) == without_heads
    assert round(sum(value.numel() for value in inference.state_dict().values()) / 1e6, 1) == 109.4


@pytest.mark.parametrize("case", [0, 1], ids=["cube", "three different axes"])
@pytest.mark.slow
def test_figures_are_the_published_ones(network: MedalS, golden: Path, case: int) -> None:
    recipe = json.loads((golden / "forward.json").read_text())["cases"][case]
    prefix, size, count = recipe["prefix"], recipe["size"], recipe["n"]
    image = torch.from_numpy(noise(prefix + "image", (1, 1, *size)) * 60 + 110)
    union = torch.from_numpy((noise(prefix + "sc", (1, 1, *size), "u") > 0.5).astype(np.float32))
    classes = torch.from_numpy((noise(prefix + "mc", (1, count, *size), "u") > 0.8).astype(np.float32))
    queries = torch.from_numpy(noise(prefix + "q", (count, 768)))[None]
    with torch.inference_mode():
        prompted = network(queries, image, union, classes)
        features = network.encode(image, union)
        found = {
            "infer_zero": network(queries, image, 0 * union, 0 * classes)[0],
            "infer_prompt": prompted[0],
            "infer_no_mc": network.project(features.embedding, network.mask_embeddings(features, queries)),
        } | {f"train_prompt_{level}": logits for level, logits in enumerate(prompted)}
    with np.load(golden / "forward.npz") as figures:
        for name, logits in found.items():
            key = f"{recipe['tag']}/{name}"
            volume = logits.numpy()
            assert np.abs(sampled(volume) - figures[key]).max() <= TOLERANCE, key
            stats = (volume.mean(), volume.std(), volume.min(), volume.max())
            assert np.abs(np.array(stats) - figures[key + "/stats"]).max() <= TOLERANCE, key


@pytest.fixture(scope="module")
def small() -> MedalS:
    torch.manual_seed(0)
    return MedalS(small_config((64, 64, 32), widths=(4, 4, 8, 8, 12, 16), query_dim=40)).eval()


@pytest.fixture(scope="module")
def patch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size, batch, count = (64, 32, 32), 2, 5
    return {
        "queries": torch.randn(batch, count, 40, generator=generator),
        "image": torch.rand(batch, 1, *size, generator=generator) * 255,
        "union_prompt": (torch.rand(batch, 1, *size, generator=generator) > 0.5).float(),
        "class_prompts": (torch.rand(batch, count, *size, generator=generator) > 0.8).float(),
    }


def test_the_parts_in_chunks_of_classes_give_what_forward_gives(small: MedalS, patch: dict[str, torch.Tensor]) -> None:
    with torch.inference_mode():
        whole = small(**patch)[0]
        features = small.encode(patch["image"], patch["union_prompt"])
        chunks = [slice(0, 2), slice(2, 5)]
        embeddings = [small.mask_embeddings(features, patch["queries"][:, chunk]) for chunk in chunks]
        mixed = None
        for chunk, part in zip(chunks, embeddings, strict=True):
            mixed = small.mix_prompts(part, patch["class_prompts"][:, chunk], mixed)
        voxels = small.fuse(features, mixed)
        parts = torch.cat([small.project(voxels, part) for part in embeddings], dim=1)
    assert torch.allclose(parts, whole, atol=1e-4)


def test_mixing_equals_the_convolution_of_the_summed_prompts(small: MedalS, patch: dict[str, torch.Tensor]) -> None:
    """The rule as the paper states it: sum of prompt x embedding, joined to the voxel embedding, one conv block."""
    with torch.inference_mode():
        features = small.encode(patch["image"], patch["union_prompt"])
        embeddings = small.mask_embeddings(features, patch["queries"])
        summed = torch.einsum("bnhwd,bnc->bchwd", patch["class_prompts"], embeddings)
        stated = small.fusion_conv(torch.cat((features.embedding, summed), dim=1))
        ours = small.fuse(features, small.mix_prompts(embeddings, patch["class_prompts"]))
    assert torch.allclose(ours, stated, atol=1e-4)


def test_without_prompts_the_mixed_voxel_embedding_depends_on_no_text(
    small: MedalS, patch: dict[str, torch.Tensor]
) -> None:
    with torch.inference_mode():
        features = small.encode(patch["image"], torch.zeros_like(patch["union_prompt"]))
        embeddings = small.mask_embeddings(features, patch["queries"])
        empty = small.mix_prompts(embeddings, torch.zeros_like(patch["class_prompts"]))
        assert torch.allclose(small.fuse(features, empty), small.fuse(features), atol=1e-5)


def test_gradients_reach_every_weight_that_has_a_part_in_the_answer() -> None:
    torch.manual_seed(0)
    config = replace(small_config((64, 32, 32), (4, 4, 8, 8, 12, 16), 24), deep_supervision=True)
    network = MedalS(config)
    outputs = network(
        torch.randn(1, 3, 24),
        torch.rand(1, 1, 64, 32, 32) * 255,
        torch.zeros(1, 1, 64, 32, 32),
        (torch.rand(1, 3, 64, 32, 32) > 0.5).float(),
    )
    assert [tuple(logits.shape[2:]) for logits in outputs] == [(64, 32, 32), (32, 16, 16), (16, 8, 8), (8, 4, 4)]
    sum(logits.square().mean() for logits in outputs).backward()
    without = {name for name, weight in network.named_parameters() if weight.grad is None}
    assert all(".norm1." in name for name in without), "only the unused norm1 of the published layers has no gradient"


@pytest.mark.parametrize("size", [(60, 64, 64), (32, 32, 32)])
def test_sizes_the_network_cannot_take_are_named(small: MedalS, size: tuple[int, int, int]) -> None:
    image = torch.zeros(1, 1, *size)
    with pytest.raises(ValueError, match="32"):
        small.encode(image, image)


def test_configuration_survives_its_dictionary() -> None:
    config = MedalSConfig((64, 64, 32), widths=(16, 24, 40), strides=(1, 2, 2), query_dim=100, heads=4, deep_hidden=())
    assert MedalSConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.total_stride == 4


@pytest.mark.parametrize(
    "change", [{"image_size": [33, 64, 64]}, {"heads": 7}, {"widths": [64]}, {"layers": 0}, {"novelty": 1}]
)
def test_configurations_that_cannot_be_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        MedalSConfig.from_dict(MedalSConfig((64, 64, 64)).to_dict() | change)


def test_the_frugal_way_without_gradients_gives_what_training_computes(
    small: MedalS, patch: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("MedalSLib.network.unet._AT_ONCE", 1 << 15)  # several parts at this size too
    image = patch["image"].clone()
    recorded = small(**patch)[0]
    with torch.inference_mode():
        frugal = small(**patch)[0]
    assert recorded.requires_grad
    assert torch.allclose(recorded, frugal, atol=1e-4)
    assert torch.equal(patch["image"], image), "nothing of the caller's is overwritten"
