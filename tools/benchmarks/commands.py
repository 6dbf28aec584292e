"""What `medals bench` does, with plain arguments and a JSON-ready report."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from MedalSLib.errors import InputError
from tools.benchmarks.scenes import BenchOptions

Benchmark = Callable[[BenchOptions], dict[str, Any]]
BENCHMARKS = {
    "parallel-classes": "tools.benchmarks.parallel_classes:parallel_classes",
    "new-name": "tools.benchmarks.sessions:new_name",
    "correction": "tools.benchmarks.sessions:correction",
    "cpu-engine": "tools.benchmarks.cpu_engine:cpu_engine",
    "gpu": "tools.benchmarks.gpu:gpu",
    "memory": "tools.benchmarks.memory:memory",
    "start-up": "tools.benchmarks.start_up:start_up",
}
"""Module and function by the name of the benchmark; only the one that runs is imported."""


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by its name.

    Raises:
        InputError: There is none of this name.
    """
    if name not in BENCHMARKS:
        # `medals bench service` has arguments of its own and is called directly.
        raise InputError(f"There is no benchmark '{name}'.", f"Choose one of {', '.join(BENCHMARKS)}, service.")
    module, _, function = BENCHMARKS[name].partition(":")
    return getattr(import_module(module), function)


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
    run = benchmark(name)
    if options.patch < 64 or options.patch % 32:
        raise InputError(f"A patch of {options.patch} voxels does not fit the networks.", "Take 64, 96, 128, ...")
    if not options.classes or min(options.classes) < 1:
        raise InputError("The numbers of classes are not all positive.", "Give some such as 1,8,24.")
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    return {"benchmark": name, "settings": options.settings(), **run(options)}
