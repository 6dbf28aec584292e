"""Memory of a whole run on a large grid, with networks so small that what is measured is what lies around them."""

from __future__ import annotations

from typing import Any

from tools.benchmarks.measuring import timed, watched_memory
from tools.benchmarks.scenes import BenchOptions, BenchStructure, numbered_image
from tools.benchmarks.stub_network import StubNetwork, two_stage_model

_EDGE = 365
_PATCH = 192
_LIMIT_MB = 6 * 1024


def memory(options: BenchOptions) -> dict[str, Any]:
    """Run two stages with prompts of every class, and watch the resident memory above that of the image.

    Runs may need 6 GiB at most, as with an engine that has a memory limit.
    """
    import torch

    from MedalSLib.inference.compute import Compute
    from MedalSLib.inference.memory import estimate_run, fitting
    from MedalSLib.inference.pipeline import WindowedImage, segment_volume

    edge = options.shape or _EDGE
    patch = min(_PATCH, 32 * max(2, edge // 64)) if options.shape else _PATCH
    model = two_stage_model({1: (patch,) * 3, 2: (patch,) * 3}, StubNetwork())
    rows = []
    for count in options.classes:
        image = numbered_image((edge,) * 3, count)
        items: Any = [BenchStructure(f"CT_Bench {number}") for number in range(count)]
        seen = WindowedImage(image.shape, lambda window, image=image: image)  # type: ignore[misc]
        queries = torch.arange(1, count + 1, dtype=torch.float32)[:, None]
        found: list[Any] = []

        def estimate(way: Any, image: Any = image, items: Any = items) -> Any:
            keys = [item.key for item in items]
            return estimate_run(model, image.shape, (1.0, 1.0, 1.0), keys, prompted=True, compute=way)

        way, steps = fitting(lambda way, of=estimate: of(way).memory_mb, Compute(), count, _LIMIT_MB)  # type: ignore[misc]
        with watched_memory() as peak:
            seconds = timed(
                lambda i=seen, it=items, q=queries, f=found, w=way: f.append(  # type: ignore[misc]
                    segment_volume(model, i, (1.0, 1.0, 1.0), it, q, compute=w)
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
