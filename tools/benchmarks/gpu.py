"""The GPU's forms of the network against each other and against the largest product the GPU manages; whole runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from MedalSLib.errors import ResourceError
from tools.benchmarks.operations import operations
from tools.benchmarks.scenes import BenchOptions, random_network
from tools.benchmarks.whole_run import whole_runs

_PRODUCT = 8192
_CHUNK = 8


def gpu(options: BenchOptions) -> dict[str, Any]:
    """Measure one prompted pass for each number of classes, in float32, under autocast and channels last; whole runs.

    Raises:
        ResourceError: There is no CUDA device.
    """
    import torch

    from MedalSLib.network.gpu_network import GpuNetwork

    if not torch.cuda.is_available():
        raise ResourceError("There is no CUDA device.", "Run this benchmark on a computer with an NVIDIA GPU.")
    torch.backends.cudnn.allow_tf32 = False
    bf16 = torch.bfloat16
    peak = _peak()
    network = random_network(options).cuda()
    forms: tuple[tuple[str, Any, Any], ...] = (
        ("PyTorch f32", network, None),
        ("PyTorch autocast bf16", network, bf16),
        ("channels last bf16", GpuNetwork(network, bf16), bf16),
    )
    rows = []
    for count in options.classes:
        scene = _scene(network, options.patch, count)
        for name, form, dtype in forms:
            torch.cuda.reset_peak_memory_stats()
            with torch.inference_mode(), torch.autocast("cuda", dtype=dtype, enabled=dtype is not None):
                seconds = _seconds(lambda form=form, scene=scene: _pass(form, *scene), options.repeats)  # type: ignore[misc]
            tflop = operations(network, (options.patch,) * 3, count) / 1e12
            rows.append(
                {
                    "classes": count,
                    "form": name,
                    "seconds": round(seconds, 4),
                    "tflops": round(tflop / seconds, 1),
                    "share_of_largest_product": round(tflop / seconds / peak, 3),
                    "peak_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
                }
            )
        del scene
    network = forms = ()  # a whole run needs the memory
    torch.cuda.empty_cache()
    return {
        "gpu": torch.cuda.get_device_name(),
        "largest_bf16_product_tflops": round(peak, 1),
        "rows": rows,
        "whole_runs": whole_runs(options, peak),
    }


def _scene(network: Any, edge: int, count: int) -> tuple[Any, ...]:
    import torch

    generator = torch.Generator(device="cuda").manual_seed(1)
    size = (edge,) * 3
    masks = torch.rand(1, count, *size, device="cuda", generator=generator) > 0.8
    image = torch.rand(1, 1, *size, device="cuda", generator=generator) * 255
    queries = torch.randn(1, count, network.config.query_dim, device="cuda", generator=generator)
    return queries, image, masks.any(dim=1, keepdim=True).float(), masks


def _pass(form: Any, queries: Any, image: Any, union: Any, masks: Any) -> None:
    """Run as inference does: prompts and logits a few classes at a time."""
    features = form.encode(image, union)
    embeddings = form.mask_embeddings(features, queries)
    mixed = None
    chunks = [slice(start, start + _CHUNK) for start in range(0, queries.shape[1], _CHUNK)]
    for part in chunks:
        mixed = form.mix_prompts(embeddings[:, part], masks[:, part], mixed)
    voxels = form.fuse(features, mixed)
    for part in chunks:
        form.project(voxels, embeddings[:, part])


def _seconds(work: Callable[[], None], repeats: int) -> float:
    import torch

    work()
    found = []
    for _ in range(max(2, repeats)):
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - begun)
    return min(found)


def _peak() -> float:
    import torch

    first, second = (torch.randn(_PRODUCT, _PRODUCT, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * _PRODUCT**3 / 1e12 / _seconds(lambda: (first @ second, None)[1], 10)
