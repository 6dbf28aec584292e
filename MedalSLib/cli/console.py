"""Output of the commands: JSON on standard output, progress and errors on standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from MedalSLib.errors import InputError, MedalSError, OutputError, ResourceError
from MedalSLib.run import Progress

_LOG_SECONDS = 30.0
_LONGEST_REASON = 300
_CHATTY = ("nibabel.global", "pydicom", "highdicom", "matplotlib", "matplotlib.font_manager", "fontTools", "monai")
OptionsT = TypeVar("OptionsT")
Commands = argparse._SubParsersAction  # argparse has no public name for what add_subparsers returns


def complain(error: MedalSError) -> None:
    """Print an expected error: its cause, then its remedy."""
    print(f"medals: {error.cause}", file=sys.stderr)
    if error.remedy:
        print(f"        {error.remedy}", file=sys.stderr)


def complain_of_fault(error: Exception) -> int:
    """Print what is known of a failure that nobody expected; return the exit code.

    With the environment variable MEDALS_TRACEBACK, the traceback is printed too, for a report.
    """
    if os.environ.get("MEDALS_TRACEBACK"):
        traceback.print_exception(error)
    if isinstance(error, MemoryError):
        complain(ResourceError("There is not enough memory for this.", "Close other programs, or crop the image."))
        return ResourceError.exit_code
    if isinstance(error, OSError) and error.filename is not None:
        complain(OutputError(f"{error.filename} cannot be used: {error.strerror}.", "Check the path and its rights."))
        return OutputError.exit_code
    reason = " ".join(str(error).split())[:_LONGEST_REASON]
    complain(
        MedalSError(
            f"This failed unexpectedly ({type(error).__name__}: {reason}).",
            "Please report it with what the same command prints with MEDALS_TRACEBACK=1 in the environment.",
        )
    )
    return MedalSError.exit_code


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep the warnings and logs of file libraries off the terminal; what matters of them is said in our words."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, disabled in zip(loggers, before, strict=True):
                logger.disabled = disabled


def read_key(path: Path | None) -> dict[str, str]:
    """Return the options of an engine that a file with the key of a server gives, none without a file.

    Raises:
        InputError: It cannot be read.
    """
    if path is None:
        return {}
    from MedalSLib.volume.files import existing

    try:
        return {"api_key": existing(path).read_text(encoding="utf-8").strip()}
    except (OSError, UnicodeError) as error:
        raise InputError(f"The key file {path} cannot be read.", "Give a text file with the key.") from error


def add_orientation(parser: argparse.ArgumentParser) -> None:
    """Add --orientation to a command that reads challenge npz files."""
    parser.add_argument(
        "--orientation",
        metavar="LAS",
        help="of .npz files, which do not say it: where x, y and z grow, one letter each of L/R, A/P and S/I "
        "(default: LPS, left, back, head)",
    )


def options_from(kind: type[OptionsT], arguments: argparse.Namespace) -> OptionsT:
    """Return the options dataclass of a command from arguments of the same names."""
    return kind(**{entry.name: getattr(arguments, entry.name) for entry in fields(kind)})  # type: ignore[arg-type]


def note(text: str, quiet: bool = False) -> None:
    """Print a sentence for the person at the terminal."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def find_tools(what: str) -> None:
    """Put the checkout on the path: what is not for users lies in `tools/`, outside the installed package.

    Args:
        what: What is looked for, for the message.

    Raises:
        ResourceError: This is no checkout.
    """
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / "tools" / "__init__.py").is_file():
        raise ResourceError(
            f"This installation of Medal S is without {what}.",
            "Run this command from a checkout of the repository.",
        )
    if str(checkout) not in sys.path:
        sys.path.insert(0, str(checkout))


class ProgressBar:
    """A bar with stage, patch and time left on a terminal; a line now and then in a log."""

    def __init__(self, quiet: bool = False) -> None:
        from tqdm import tqdm

        self._quiet = quiet
        self._terminal = sys.stderr.isatty()
        self._said = ""
        self._bar = tqdm(
            total=100,
            file=sys.stderr,
            disable=quiet or not self._terminal,
            bar_format="{desc:<22.22} {percentage:3.0f}% |{bar}| {postfix}",
        )

    def __call__(self, progress: Progress) -> None:
        """Show one report of a run."""
        patch = f" {progress.patch}/{progress.patches}" if progress.patches else ""
        left = "" if progress.seconds_left is None else f"{clock(progress.seconds_left)} left"
        if not self._terminal and not self._quiet and progress.stage != self._said:
            self._said = progress.stage
            print(f"{100 * progress.fraction:3.0f}% {progress.stage}", file=sys.stderr, flush=True)
        self._bar.set_description_str(progress.stage + patch, refresh=False)
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.update(100 * progress.fraction - self._bar.n)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the finished bar on the screen."""
        self._bar.close()


class StepBar:
    """A bar for work that counts steps (cases, training steps) on a terminal; a line now and then in a log."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(file=sys.stderr, disable=not self._terminal, dynamic_ncols=True)
        self._said: tuple[str, float] = ("", 0.0)

    def __call__(self, what: str, done: int, total: int, details: str) -> None:
        """Show how far the work has come; a sentence with nothing to count stays on the screen."""
        if not total:
            self._bar.write(what, file=sys.stderr) if self._terminal else note(what)
            return
        if not self._terminal:
            self._log(what, done, total, details)
            return
        self._bar.total = total
        self._bar.set_description_str(what, refresh=False)
        self._bar.set_postfix_str(details, refresh=False)
        self._bar.update(done - self._bar.n)

    def _log(self, what: str, done: int, total: int, details: str) -> None:
        """Write a line when something begins or ends, and every half minute in between."""
        now = time.monotonic()
        if what != self._said[0] or done >= total or now - self._said[1] > _LOG_SECONDS:
            self._said = (what, now)
            print(f"{what} {done}/{total}{f': {details}' if details else ''}", file=sys.stderr, flush=True)

    def __enter__(self) -> StepBar:
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.close()


def clock(seconds: float) -> str:
    """Return a length of time as hours, if there are any, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def cancel_on_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a request to stop after the patch in progress; a second one stops at once."""
    cancel = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield cancel
        return
    before = signal.getsignal(signal.SIGINT)

    def interrupted(number: int, frame: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, before)
        print("\nmedals: stopping after this patch (Ctrl-C again to stop at once)", file=sys.stderr)

    signal.signal(signal.SIGINT, interrupted)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, before)
