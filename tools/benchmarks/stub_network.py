"""A stub network that reads the structures off a `scenes.numbered_image`: what remains is the work around it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from MedalSLib.network.manifest import StageManifest
from tools.benchmarks.scenes import write_logits

_SPACINGS = {1: (1.5, 1.5, 3.0), 2: (1.0, 1.0, 1.0)}


def two_stage_model(patches: dict[int, tuple[int, int, int]], network: Any) -> Any:
    """Return a model of both stages with the published spacings.

    Args:
        patches: Patch (H, W, D) of each stage.
        network: Runs in both.
    """
    stages = [StageManifest(str(stage), _SPACINGS[stage], patch, "") for stage, patch in patches.items()]
    return SimpleNamespace(manifest=SimpleNamespace(stages=stages, text_stages="both"), network=lambda stage: network)


class StubNetwork:
    """Finds the voxels whose intensity is the number that a query [1] is; needs two channels and no weights."""

    config = SimpleNamespace(embedding_dim=2)

    def encode(self, image: Any, union_prompt: Any) -> Any:
        """See `MedalS.encode`."""
        import torch

        from MedalSLib.network.medals import VoxelFeatures

        voxels = torch.cat((image, torch.ones_like(image)), dim=1)
        return VoxelFeatures(image.new_zeros((len(image), 1, 1)), (1, 1, 1), voxels)

    def plain(self, image: Any) -> Any:
        """See `MedalS.plain`."""
        return self.encode(image, None)

    def mask_embeddings(self, features: Any, queries: Any) -> Any:
        """See `MedalS.mask_embeddings`."""
        return queries

    def mix_prompts(self, embeddings: Any, class_prompts: Any, total: Any = None) -> Any:
        """See `MedalS.mix_prompts`."""
        part = class_prompts.any(dim=1, keepdim=True).to(embeddings.dtype)
        return part if total is None else total.add_(part)

    def fuse(self, features: Any, mixed: Any = None) -> Any:
        """See `MedalS.fuse`."""
        return features.embedding

    def project(self, voxels: Any, embeddings: Any) -> Any:
        """See `MedalS.project`."""
        logits = voxels.new_empty((1, embeddings.shape[1], *voxels.shape[2:]))
        for number, out in zip(embeddings[0, :, 0], logits[0], strict=True):
            write_logits(voxels[0, 0], number, out)
        return logits
