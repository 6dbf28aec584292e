"""The CPU's forms of the network against each other, and against the largest product the processor manages."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tools.benchmarks.measuring import Seconds, ratio, timed
from tools.benchmarks.operations import operations
from tools.benchmarks.scenes import BenchOptions, random_network

_PRODUCT = 2048
_CLASSES = 8


def cpu_engine(options: BenchOptions) -> dict[str, Any]:
    """Measure a pass of eight classes in eager PyTorch and in OpenVINO, f32 and bf16, with and without prompts."""
    import torch

    from MedalSLib.network import openvino_network

    network = random_network(options)
    size = (options.patch,) * 3
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 1, *size, generator=generator) * 255
    masks = torch.rand(1, _CLASSES, *size, generator=generator) > 0.8
    union = masks.any(dim=1, keepdim=True).float()
    queries = torch.randn(1, _CLASSES, network.config.query_dim, generator=generator)

    def prompted(form: Any) -> Any:
        with torch.inference_mode():
            features = form.encode(image, union)
            embeddings = form.mask_embeddings(features, queries)
            return form.project(form.fuse(features, form.mix_prompts(embeddings, masks)), embeddings)

    def plain(form: Any) -> Any:
        with torch.inference_mode():
            features = form.plain(image)
            return form.project(features.embedding, form.mask_embeddings(features, queries))

    peak = _peak(options.threads)
    rows = []
    with tempfile.TemporaryDirectory(prefix="medals-bench-", ignore_cleanup_errors=True) as folder:
        for words, work in (("prompted", prompted), ("without prompts", plain)):
            expected = work(network)
            eager = timed(partial(work, network), options.repeats)
            gflop = operations(network, size, _CLASSES, work is prompted) / 1e9
            rows.append({"pass": words, "form": "PyTorch f32", **_figures(eager, eager, gflop, peak["f32"])})
            for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
                if not openvino_network.available():
                    continue
                make = partial(openvino_network.OpenVinoNetwork, network, size, dtype, Path(folder))
                first, again = (timed(partial(_made_and_run, make, work)) for _ in range(2))
                form = make()
                with _profiled() as requests:
                    found = work(form)
                    seconds = timed(partial(work, form), options.repeats)
                rows.append(
                    {
                        "pass": words,
                        "form": f"OpenVINO {name}",
                        **_figures(seconds, eager, gflop, peak[name]),
                        "same_labels": round(float(((found > 0) == (expected > 0)).float().mean()), 6),
                        "seconds_by_kind": _rounded(_seconds_by_kind(requests), seconds),
                        "first_pass_ever": first.to_dict(),
                        "first_pass_of_a_process": again.to_dict(),
                    }
                )
    report = {"classes": _CLASSES, "largest_product_gflops_per_cpu_second": peak, "rows": rows}
    if options.scan is not None and openvino_network.available():
        report["same_labels_of_the_bundled_model"] = _same_labels(options.scan, options.threads)
    return report


def _same_labels(scan: str, threads: int) -> dict[str, dict[str, float]]:
    """Compare the bundled model's labels of a CT with those of PyTorch in f32: of all voxels, and of labelled ones."""
    from MedalSLib.engine import open_engine
    from MedalSLib.volume.reading import read_image

    image, labels = read_image(scan), {}
    for form in ("torch", "openvino", "openvino-bf16"):
        with _environment("MEDALS_CPU_ENGINE", form), open_engine("starter", "cpu", threads=threads) as engine:
            names = [name.removeprefix("CT_") for name in engine.info().classes if name.startswith("CT_")]
            with engine.open_session(image.array_kji, image.grid.affine_ras, "CT") as session:
                labels[form] = session.segment(names).labelmap
    exact = labels.pop("torch")
    shares = {}
    for form, found in labels.items():
        same, some = found == exact, (found > 0) | (exact > 0)
        shares[form] = {"all": round(float(same.mean()), 6), "labelled": round(float(same[some].mean()), 6)}
    return shares


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _profiled() -> Iterator[dict[int, Any]]:
    """Have OpenVINO count what it spends on what; yields the last request of each part that is compiled meanwhile."""
    import openvino

    from MedalSLib.network import openvino_network

    requests: dict[int, Any] = {}
    create, settings = openvino.CompiledModel.create_infer_request, openvino_network.cpu_settings

    def noted(compiled: Any) -> Any:
        requests[id(compiled)] = create(compiled)
        return requests[id(compiled)]

    with (
        patch.object(openvino.CompiledModel, "create_infer_request", noted),
        patch.object(openvino_network, "cpu_settings", lambda dtype: settings(dtype) | {"PERF_COUNT": True}),
    ):
        yield requests


def _seconds_by_kind(requests: dict[int, Any]) -> dict[str, float]:
    """Return seconds by kind of operation, summed over the last run of each part."""
    seconds: dict[str, float] = {}
    for request in requests.values():
        for node in request.get_profiling_info():
            seconds[node.node_type] = seconds.get(node.node_type, 0.0) + node.real_time.total_seconds()
    return seconds


def _made_and_run(make: Callable[[], Any], work: Callable[[Any], Any]) -> None:
    work(make())


def _figures(seconds: Seconds, eager: Seconds, gflop: float, peak: float) -> dict[str, Any]:
    speed = gflop / seconds.cpu
    return {
        **seconds.to_dict(),
        "of_eager": ratio(seconds, eager),
        "times_as_fast_by_cpu": round(eager.cpu / seconds.cpu, 2),
        "gflop": round(gflop, 1),
        "gflops_per_cpu_second": round(speed, 1),
        "share_of_largest_product": round(speed / peak, 3),
    }


def _rounded(kinds: dict[str, float], seconds: Seconds) -> dict[str, float]:
    """Round seconds by kind of operation, what PyTorch does around them as the rest; by the clock, of one run."""
    largest = dict(sorted(kinds.items(), key=lambda item: -item[1])[:5])
    largest["everything else"] = max(0.0, seconds.wall - sum(largest.values()))
    return {kind: round(value, 4) for kind, value in largest.items()}


def _peak(threads: int) -> dict[str, float]:
    """Giga-operations a CPU second of one large product by precision, of the quicker of PyTorch and OpenVINO."""
    import torch

    from MedalSLib.network import openvino_network

    found = {}
    for name, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        first, second = (torch.randn(_PRODUCT, _PRODUCT).to(dtype) for _ in range(2))
        seconds = [timed(lambda a=first, b=second: a @ b, 3, warm=True).cpu]  # type: ignore[misc]
        if openvino_network.available():
            multiply = _openvino_product(dtype, threads)
            seconds.append(timed(multiply, 3, warm=True).cpu)
        found[name] = round(2 * _PRODUCT**3 / min(seconds) / 1e9, 1)
    return found


def _openvino_product(dtype: Any, threads: int) -> Callable[[], object]:
    """Return a product of two square matrices that OpenVINO multiplies at each call; 0 threads for torch's choice."""
    import numpy as np
    import openvino
    from openvino import opset13

    from MedalSLib.network.openvino_network import cpu_settings

    rows = np.random.default_rng(0).normal(size=(2, _PRODUCT, _PRODUCT)).astype(np.float32)
    given = opset13.parameter([_PRODUCT, _PRODUCT], np.float32)
    model = openvino.Model([opset13.matmul(given, opset13.constant(rows[0]), False, False)], [given])
    settings = cpu_settings(dtype) | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([rows[1]], share_inputs=True, share_outputs=True)
