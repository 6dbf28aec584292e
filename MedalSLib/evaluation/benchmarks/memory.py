"""Memory of a whole run on a large grid, with networks so small that what is measured is what lies around them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from MedalSLib.evaluation.benchmarks.measuring import timed, watched_memory
from MedalSLib.evaluation.benchmarks.scenes import BenchOptions, BenchStructure, tell, told_image

_EDGE = 365
_PATCH = 192
_LIMIT_MB = 6 * 1024


def memory(options: BenchOptions) -> dict[str, Any]:
    """Run two stages with prompts of every class, and watch the resident memory above that of the image.

    Runs are told to need no more than 6 GiB, as an engine with a memory limit tells them.
    """
    import torch

    from MedalSLib.inference.compute import Compute
    from MedalSLib.inference.memory import estimate_run, fitting
    from MedalSLib.inference.segment import segment_volume

    edge = options.shape or _EDGE
    patch = min(_PATCH, 32 * max(2, edge // 64)) if options.shape else _PATCH
    stages = [
        SimpleNamespace(stage="1", spacing_hwd=(1.5, 1.5, 3.0), patch_hwd=(patch,) * 3, resampling="published"),
        SimpleNamespace(stage="2", spacing_hwd=(1.0, 1.0, 1.0), patch_hwd=(patch,) * 3, resampling="published"),
    ]
    rows = []
    for count in options.classes:
        image = told_image((edge,) * 3, count)
        model = SimpleNamespace(manifest=SimpleNamespace(stages=stages), network=lambda stage: _Telling())
        items: Any = [BenchStructure(f"CT_Bench {number}") for number in range(count)]
        queries = torch.arange(1, count + 1, dtype=torch.float32)[:, None]
        found: list[Any] = []

        def estimate(way: Any, model: Any = model, image: Any = image, items: Any = items) -> Any:
            return estimate_run(model, image.shape, (1.0, 1.0, 1.0), items, prompted=True, compute=way)

        way, steps = fitting(lambda way, of=estimate: of(way).memory_mb, Compute(), count, _LIMIT_MB)  # type: ignore[misc]
        with watched_memory() as peak:
            seconds = timed(
                lambda m=model, i=image, it=items, q=queries, f=found, w=way: f.append(  # type: ignore[misc]
                    segment_volume(m, i, (1.0, 1.0, 1.0), it, q, compute=w)
                )
            )
        largest = {what: round(size) for what, size in estimate(way).largest.items() if what != "network"}
        rows.append(
            {
                "classes": count,
                "above_image_mb": round(peak.above_mb),
                "image_mb": round(image.nbytes / 2**20),
                "found": sum(item.found for item in found[0].structures.values()),
                "runs": found[0].runs,
                "steps": list(steps),
                "largest_mb_estimated": largest,
                **seconds.to_dict(),
            }
        )
    return {"grid": [edge] * 3, "network_patch": patch, "rows": rows}


class _Telling:
    """Finds the voxels whose intensity is a query's number; needs two channels and no weights."""

    config = SimpleNamespace(embedding_dim=2)

    def encode(self, image: Any, union_prompt: Any) -> Any:
        import torch

        from MedalSLib.network.medals import VoxelFeatures

        voxels = torch.cat((image, torch.ones_like(image)), dim=1)
        return VoxelFeatures(torch.zeros(len(image), 1, 1), (1, 1, 1), voxels)

    def plain(self, image: Any) -> Any:
        return self.encode(image, None)

    def mask_embeddings(self, features: Any, queries: Any) -> Any:
        return queries

    def mix_prompts(self, embeddings: Any, class_prompts: Any, total: Any = None) -> Any:
        part = class_prompts.any(dim=1, keepdim=True).to(embeddings.dtype)
        return part if total is None else total.add_(part)

    def fuse(self, features: Any, mixed: Any = None) -> Any:
        return features.embedding

    def project(self, voxels: Any, embeddings: Any) -> Any:
        import torch

        logits = torch.empty((1, embeddings.shape[1], *voxels.shape[2:]))
        for number, out in zip(embeddings[0, :, 0], logits[0], strict=True):
            tell(voxels[0, 0], number, out)
        return logits
