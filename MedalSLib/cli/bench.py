"""`medals bench`: how fast this machine is, as ratios of two ways within one run."""

from __future__ import annotations

import argparse

from MedalSLib.cli.console import print_json
from MedalSLib.errors import InputError

Commands = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def add_commands(commands: Commands) -> None:
    """Add `medals bench` to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure speed and memory on this machine",
        description="Benchmarks: parallel-classes, new-name, correction, cpu-engine, gpu, memory, start-up.  Networks "
        "have random weights, on which time does not depend.  Figures are seconds by the clock and of the cores, as "
        "JSON; see Documentation/performance.md.",
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
    parser.add_argument("--json", action="store_true", help="print JSON (the only form there is)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    from MedalSLib.evaluation.benchmarks.commands import bench
    from MedalSLib.evaluation.benchmarks.scenes import BenchOptions

    try:
        classes = tuple(int(number) for number in arguments.classes.split(",") if number.strip())
    except ValueError as error:
        raise InputError(f"'{arguments.classes}' is no list of numbers.", "Give some such as 1,8,24.") from error
    options = BenchOptions(
        arguments.width, arguments.patch, classes, arguments.shape, max(1, arguments.repeats), arguments.threads
    )
    print_json(bench(arguments.name, options))
    return 0
