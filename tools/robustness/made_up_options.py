"""Run commands with arguments that hypothesis makes up from the parser itself, with an engine that costs nothing."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from MedalSLib.cli import build_parser, main
from tools.benchmarks.fixed_engine import FixedEngine
from tools.robustness.damaged_files import Outcomes
from tools.robustness.sample_files import write_samples
from tools.robustness.watching import Watch

_WORDS = (
    "", " ", "liver", "liver, spleen", "everything", "!!!", "1=liver", "CT", "mri", "-1", "0", "1", "2", "nan", "inf",
    "1e999", "999999999999999999999", "0:1,0:1,0:1", "inf:1,2:3,4:5", "1:2", "a:b,c:d,e:f", "Liver=60/150", "*=as is",
    "x" * 300, "\u809d\u81d3", "\udcff", "a\0b", "starter", "no-such-model", "http://127.0.0.1:9", "cpu", "cuda:99",
    "0.5", "published", "../..", "/", ".", "~", "dataset.json", "1,8", "auto", "1;2", "{}", "'",
)  # fmt: skip
_CODES = frozenset((0, 1, 2, 3, 4, 5, 6, 7, 8, 130))
# What would fetch from the net, serve for ever or measure for minutes is not begun: everything up to there is.
_STOPPED = (
    "MedalSLib.service.serving.serve_app",
    "MedalSLib.service.scaleout.serve_on_ray",
    "MedalSLib.network.registry.install",
    "MedalSLib.network.registry.remove",
    "MedalSLib.training.train.train",
    "MedalSLib.training.fine_tune.fine_tune",
    "MedalSLib.training.dry_run.dry_run",
    "tools.benchmarks.commands.bench",
    "tools.benchmarks.service.service_bench",
    "tools.interactive.command.run_interactive",
)


def run_made_up(folder: Path, count: int, seed: int = 0) -> Outcomes:
    """Run command lines and collect those that end in a traceback, print one, or return an unknown exit code.

    Args:
        folder: An empty folder, in which the commands find files and write theirs.
        count: How many command lines.
        seed: Seed of hypothesis.
    """
    import hypothesis

    files = [str(path) for path in write_samples(folder)]
    outcomes = Outcomes()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(command_lines(files, folder))
    def run(line: list[str]) -> None:
        outcomes.counts["run"] += 1
        if fault := failure_of(line, folder):
            outcomes.failures.append(f"{line}: {fault}"[:600])

    run()
    return outcomes


def failure_of(line: Sequence[str], folder: Path) -> str:
    """Run one command line in this process; return what was wrong about its end, empty if nothing was.

    Args:
        line: Its arguments.
        folder: Its working folder.
    """
    here = Path.cwd()
    with Watch() as watch, _no_cost():
        os.chdir(folder)
        try:
            code, fault = main(line), ""
        except SystemExit as stop:  # of argparse
            code, fault = stop.code if isinstance(stop.code, int) else 0, ""
        except BaseException as error:
            code, fault = 1, f"{type(error).__name__}: {error}"
        finally:
            os.chdir(here)
    if fault:
        return fault
    if "Traceback" in watch.said or "failed unexpectedly" in watch.said:
        return watch.said[-400:]
    if code not in _CODES:
        return f"exit code {code}"
    return "" if code == 0 or watch.said or "--quiet" in line else f"exit code {code} without a sentence"


def command_lines(files: Sequence[str], folder: Path) -> Any:
    """Return a strategy for command lines of all commands, with any of their options and values of every kind.

    Args:
        files: Files that are there.
        folder: A folder that is there.
    """
    from hypothesis import strategies

    parsers = list(_parsers(build_parser(), ()))

    @strategies.composite
    def line(draw: Any) -> list[str]:
        names, parser = draw(strategies.sampled_from(parsers))
        given = list(names)
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction | argparse._VersionAction | argparse._SubParsersAction):
                continue
            if action.option_strings:
                if not draw(strategies.booleans()) and not action.required:
                    continue
                given.append(draw(strategies.sampled_from(action.option_strings)))
            elif action.nargs == "?" and not draw(strategies.booleans()):
                continue
            if action.nargs != 0:
                given.append(draw(_values(action, files, folder)))
        return given

    return line()


def _values(action: argparse.Action, files: Sequence[str], folder: Path) -> Any:
    """Return a strategy for the value of an argument: mostly of the kind it should be, sometimes anything."""
    from hypothesis import strategies

    anything = strategies.sampled_from(_WORDS) | strategies.text(max_size=12)
    if action.choices is not None:
        return strategies.sampled_from([str(choice) for choice in action.choices]) | anything
    if action.type is Path or action.dest in ("source", "image", "names", "scan", "model"):
        ends = (".seg.nrrd", ".nii.gz", ".nii", ".npz", ".dcm", ".png", ".xyz", "")
        outputs = strategies.sampled_from([str(folder / f"out{end}") for end in ends])
        return (
            strategies.sampled_from([*files, str(folder), str(folder / "series"), str(folder / "gone")])
            | outputs
            | anything
        )
    if action.type in (int, float):
        return strategies.integers(-3, 9).map(str) | strategies.floats().map(str) | anything
    return anything


def _parsers(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command that can be run, with the words that call it."""
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield names, parser
    for group in groups:
        for name, child in group.choices.items():
            yield from _parsers(child, (*names, name))


@contextmanager
def _no_cost() -> Iterator[None]:
    """Put an engine without a network in the place of the real one, and nothing in that of what takes long."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        stack.enter_context(mock.patch("MedalSLib.engine.open_engine", lambda model, device="auto", **_: FixedEngine()))
        for name in _STOPPED:
            stack.enter_context(mock.patch(name, side_effect=_stopped))
        yield


def _stopped(*_: object, **__: object) -> None:
    from MedalSLib.errors import ResourceError

    raise ResourceError("This is not begun here.", "Nothing is to be done.")
