"""The arguments of `medals bench NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from MedalSLib.cli.console import note, print_json
from MedalSLib.errors import InputError
from tools.benchmarks.commands import bench
from tools.benchmarks.scenes import BenchOptions


def run_bench(argv: Sequence[str]) -> int:
    """Measure what the arguments say, and print the figures as JSON."""
    arguments = _parser().parse_args(argv)
    if arguments.name == "service":
        print_json(_service(arguments))
        return 0
    if arguments.name == "attack":
        from tools.benchmarks.attack import attack_bench

        print_json(attack_bench(arguments.seconds, tuple(filter(None, arguments.ways.split(",")))))
        return 0
    options = BenchOptions(
        arguments.width,
        arguments.patch,
        _numbers(arguments.classes),
        arguments.shape,
        max(1, arguments.repeats),
        arguments.threads,
        arguments.scan,
    )
    print_json(bench(arguments.name, options))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medals bench",
        description="Benchmarks: parallel-classes, new-name, correction, cpu-engine, gpu, memory, start-up, service, "
        "attack.  Networks have random weights, on which time does not depend, but for those of the bundled model "
        "where a benchmark uses it.  Figures are seconds by the clock and of the "
        "cores, as JSON; see Documentation/performance.md.",
    )
    parser.add_argument("name", metavar="NAME", help="which benchmark")
    parser.add_argument(
        "--width", choices=["starter", "published"], default="starter", help="channels (default: %(default)s)"
    )
    parser.add_argument("--patch", type=int, default=64, metavar="N", help="edge of a patch (default: %(default)s)")
    parser.add_argument("--shape", type=int, metavar="N", help="edge of the image (default: what fits the benchmark)")
    parser.add_argument("--classes", default="1,8,24", metavar="N,N", help="numbers of classes (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=1, metavar="N", help="the shortest of N (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--scan", metavar="FILE", help="a CT for new-name, correction and cpu-engine (default: none)")
    parser.add_argument("--json", action="store_true", help="print JSON (the only form there is)")
    service = parser.add_argument_group(
        "service", "what the server costs beside the engine: see Documentation/server.md"
    )
    service.add_argument(
        "--image", default="256,256,150", metavar="I,J,K", help="voxels of the CT (default: %(default)s)"
    )
    service.add_argument(
        "--masks", type=int, default=24, metavar="N", help="structures of a run (default: %(default)s)"
    )
    service.add_argument("--clients", type=int, default=8, metavar="N", help="clients at once (default: %(default)s)")
    service.add_argument("--runs", type=int, default=1000, metavar="N",
                         help="runs before the last look at the memory (default: %(default)s)")  # fmt: skip
    service.add_argument("--seconds", type=float, default=5.0, metavar="S",
                         help="length of each measurement of requests a second (default: %(default)s)")  # fmt: skip
    service.add_argument("--model", default="", help="model of the small runs (default: none, but fixed masks)")
    service.add_argument("--ways", default="", metavar="WAY,WAY", help="attacks (default: all at once)")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in text.split(",") if number.strip())
    except ValueError as error:
        raise InputError(f"'{text}' is no list of numbers.", "Give some such as 1,8,24.") from error


def _service(arguments: argparse.Namespace) -> dict[str, Any]:
    from tools.benchmarks.service import ServiceBenchOptions, service_bench

    shape = _numbers(arguments.image)
    if len(shape) != 3:
        raise InputError(f"'{arguments.image}' is not the size of a volume.", "Give I,J,K, such as 512,512,300.")
    options = ServiceBenchOptions(
        (shape[0], shape[1], shape[2]),
        arguments.masks,
        arguments.clients,
        arguments.seconds,
        arguments.runs,
        arguments.model,
    )
    return service_bench(options, note)
