"""What `medals bench` does, with plain arguments and a JSON-ready report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from MedalSLib.errors import InputError
from tools.benchmarks.scenes import BenchOptions

Benchmark = Callable[[BenchOptions], dict[str, Any]]


def _parallel_classes(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.parallel_classes import parallel_classes

    return parallel_classes(options)


def _new_name(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.sessions import new_name

    return new_name(options)


def _correction(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.sessions import correction

    return correction(options)


def _cpu_engine(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.cpu_engine import cpu_engine

    return cpu_engine(options)


def _gpu(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.gpu import gpu

    return gpu(options)


def _memory(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.memory import memory

    return memory(options)


def _start_up(options: BenchOptions) -> dict[str, Any]:
    from tools.benchmarks.start_up import start_up

    return start_up(options)


BENCHMARKS: dict[str, tuple[Benchmark, str]] = {
    "parallel-classes": (_parallel_classes, "many classes at once against one after the other"),
    "new-name": (_new_name, "another name on an open image against the first"),
    "correction": (_correction, "a brush stroke on one structure against a full run"),
    "cpu-engine": (_cpu_engine, "OpenVINO against PyTorch"),
    "gpu": (_gpu, "channels last in half precision against PyTorch's ways"),
    "memory": (_memory, "memory of a run on a large grid, apart from the networks'"),
    "start-up": (_start_up, "how long the program takes to start"),
}


def bench(name: str, options: BenchOptions | None = None) -> dict[str, Any]:
    """Run a benchmark.

    Args:
        name: One of `BENCHMARKS`.
        options: What to measure.

    Returns:
        Name, settings and figures: `wall_s` by the clock, `cpu_s` summed over the cores.

    Raises:
        InputError: No such benchmark, or a size that the networks cannot take.
    """
    options = options or BenchOptions()
    if name not in BENCHMARKS:
        # `medals bench service` is the service's own, which this room may not import.
        raise InputError(f"There is no benchmark '{name}'.", f"Choose one of {', '.join(BENCHMARKS)}, service.")
    if options.patch < 64 or options.patch % 32:
        raise InputError(f"A patch of {options.patch} voxels does not fit the networks.", "Take 64, 96, 128, ...")
    if not options.classes or min(options.classes) < 1:
        raise InputError("The numbers of classes are not all positive.", "Give some such as 1,8,24.")
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    return {"benchmark": name, "settings": options.settings(), **BENCHMARKS[name][0](options)}
