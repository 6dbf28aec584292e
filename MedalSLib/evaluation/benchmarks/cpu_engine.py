"""The CPU's forms of the network against each other, and against the largest product the processor manages."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from MedalSLib.evaluation.benchmarks.measuring import ratio, timed
from MedalSLib.evaluation.benchmarks.operations import operations
from MedalSLib.evaluation.benchmarks.scenes import BenchOptions, random_network

_PRODUCT = 2048


def cpu_engine(options: BenchOptions) -> dict[str, Any]:
    """Measure one prompted pass of eight classes in eager PyTorch and in OpenVINO, f32 and bf16."""
    import torch

    from MedalSLib.network import openvino_network

    network = random_network(options)
    size, classes = (options.patch,) * 3, 8
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, *size, generator=generator) * 255
    masks = torch.rand(1, classes, *size, generator=generator) > 0.8
    union = masks.any(dim=1, keepdim=True).float()
    queries = torch.randn(1, classes, network.config.query_dim, generator=generator)

    def passed(form: Any) -> Any:
        with torch.inference_mode():
            features = form.encode(image, union)
            embeddings = form.mask_embeddings(features, queries)
            return form.project(form.fuse(features, form.mix_prompts(embeddings, masks)), embeddings)

    expected = passed(network)
    eager = timed(lambda: passed(network), options.repeats)
    rows: list[dict[str, Any]] = [{"form": "PyTorch f32", **eager.to_dict(), "of_eager": ratio(eager, eager)}]
    flops = operations(network, options.patch, classes)
    peak = _peak()
    if openvino_network.available():
        with tempfile.TemporaryDirectory(prefix="medals-bench-", ignore_cleanup_errors=True) as folder:
            for name, dtype in (("OpenVINO f32", torch.float32), ("OpenVINO bf16", torch.bfloat16)):
                made: list[Any] = []

                def make(dtype: Any = dtype, made: list[Any] = made) -> None:
                    made.append(openvino_network.OpenVinoNetwork(network, size, dtype, Path(folder)))

                first, second = timed(make), timed(make)
                found = passed(made[-1])
                seconds = timed(lambda form=made[-1]: passed(form), options.repeats)  # type: ignore[misc]
                rows.append(
                    {
                        "form": name,
                        **seconds.to_dict(),
                        "of_eager": ratio(seconds, eager),
                        "times_as_fast_by_cpu": round(eager.cpu / seconds.cpu, 2),
                        "same_labels": round(float(((found > 0) == (expected > 0)).float().mean()), 6),
                        "compile_first": first.to_dict(),
                        "compile_again": second.to_dict(),
                    }
                )
    for row in rows:
        row["gflops_per_cpu_second"] = round(flops / row["cpu_s"] / 1e9, 1)
    return {"classes": classes, "gflop": round(flops / 1e9, 1), "largest_product": peak, "rows": rows}


def _peak() -> dict[str, float]:
    """Giga-operations a CPU second of one large product, in both precisions."""
    import torch

    found = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        first, second = (torch.randn(_PRODUCT, _PRODUCT).to(dtype) for _ in range(2))
        seconds = timed(lambda a=first, b=second: a @ b, 2, warm=True)  # type: ignore[misc]
        found[f"{name}_gflops_per_cpu_second"] = round(2 * _PRODUCT**3 / seconds.cpu / 1e9, 1)
    return found
