"""`medals bench`: how fast this machine is.  All of it lies in `tools`, which comes with a checkout alone."""

from __future__ import annotations

import argparse

from MedalSLib.cli.console import Commands, find_tools


def add_commands(commands: Commands) -> None:
    """Add `medals bench` to the parser."""
    # No argument begins with a space, so that all are handed on as they are, options and --help too.
    parser = commands.add_parser(
        "bench", help="measure speed and memory on this machine", add_help=False, prefix_chars=" "
    )
    parser.add_argument("arguments", nargs="*")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and print."""
    find_tools("benchmarks")
    from tools.benchmarks.arguments import run_bench

    return run_bench(arguments.arguments)
