"""The parts of a network that inference calls, whichever form of it runs (see `backends`)."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from MedalSLib.network.medals import VoxelFeatures


class Network(Protocol):
    """The parts of `MedalSLib.network.medals.MedalS` that inference calls."""

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """See `MedalS.encode`."""
        ...

    def plain(self, image: Tensor) -> VoxelFeatures:
        """See `MedalS.plain`."""
        ...

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """See `MedalS.mask_embeddings`."""
        ...

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """See `MedalS.mix_prompts`."""
        ...

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """See `MedalS.fuse`."""
        ...

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        """See `MedalS.project`."""
        ...
