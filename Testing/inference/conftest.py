"""Networks small enough to know what they must answer, and models made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import small_config
from torch import Tensor, nn

from MedalSLib.network.manifest import StageManifest
from MedalSLib.network.medals import MedalS, VoxelFeatures, plain_features
from MedalSLib.vocabulary import Structure, describe


class BandNetwork(nn.Module):
    """Finds the voxels whose intensity lies within a query's (center, half width), surely inside and surely outside.

    Args:
        echo: Add this much to the logits of a class where its prompt is shown.
    """

    def __init__(self, echo: float = 0.0) -> None:
        super().__init__()
        self.echo = echo
        self.encoded: list[bool] = []
        self.shapes: list[tuple[int, ...]] = []
        self.register_parameter("anchor", nn.Parameter(torch.zeros(1)))

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        self.encoded += [bool(union.any()) for union in union_prompt]
        self.shapes.append(tuple(image.shape))
        x = image / 255
        return VoxelFeatures(x.mean() + torch.zeros(1, 1, 1), (1, 1, 1), torch.cat((torch.ones_like(x), x, x * x), 1))

    def plain(self, image: Tensor) -> VoxelFeatures:
        return plain_features(self, image)

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        center, half = queries[..., :1] / 255, queries[..., 1:2] / 255
        return 4000 * torch.cat((half * half - center * center, 2 * center, -torch.ones_like(center)), -1)

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        part = class_prompts.float().sum(1, keepdim=True)
        return part if total is None else total + part

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        shown = torch.zeros_like(features.embedding[:, :1]) if mixed is None else mixed
        return torch.cat((features.embedding, shown), 1)

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        logits = torch.einsum("bcxyz,bnc->bnxyz", voxels[:, :3], embeddings)
        return logits + self.echo * voxels[:, 3:]


@dataclass
class FakeModel:
    """A model of given networks by stage, with small patches."""

    networks: dict[str, nn.Module]
    patch: tuple[int, int, int] = (16, 16, 16)
    spacings: dict[str, float] = field(default_factory=lambda: {"1": 2.0, "2": 1.0})

    @property
    def manifest(self) -> Any:
        stages = [StageManifest(stage, (self.spacings[stage],) * 3, self.patch, "") for stage in self.networks]
        return SimpleNamespace(stages=stages, text_stages="both")

    def network(self, stage: str) -> nn.Module:
        return self.networks[stage]


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Networks this small run several times faster on one thread, most of all on a busy machine."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def band_model() -> Callable[..., FakeModel]:
    """Return `make(stages="12", echo=0.0, patch=...)`."""

    def make(stages: Sequence[str] = "12", echo: float = 0.0, **options: Any) -> FakeModel:
        return FakeModel({stage: BandNetwork(echo) for stage in stages}, **options)

    return make


@pytest.fixture
def wanted() -> Callable[..., Structure]:
    """Returns a structure that is asked for: `wanted(key, kind="semantic")`."""
    return lambda key, kind="semantic": replace(describe(key), kinds=(kind,))


@pytest.fixture
def band_network() -> type[BandNetwork]:
    return BandNetwork


@pytest.fixture(scope="session")
def tiny_network() -> MedalS:
    """A real Medal S of few channels with random weights, patch 16^3."""
    torch.manual_seed(0)
    config = small_config((16, 16, 16), widths=(6, 8, 10), query_dim=12, layers=1)
    return MedalS(config).eval()


@pytest.fixture
def boxes_image() -> np.ndarray:
    """(D, H, W) = (24, 36, 40) image of 0 with a box of intensity 100 and, apart from it, one of 200."""
    image = np.zeros((24, 36, 40), dtype=np.float32)
    image[4:14, 5:17, 6:18] = 100
    image[8:20, 20:32, 24:36] = 200
    return image
