"""Follows an installer's process: its lines are read on a thread, so that the application goes on and can stop it."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable

from MedalSLib.errors import CancelledError

POLL_SECONDS = 0.03


def follow(
    process: subprocess.Popen[str],
    log: Callable[[str], None],
    pump: Callable[[], None],
    cancel: threading.Event,
) -> None:
    """Wait for a process while the application goes on.

    Args:
        process: Its output is a pipe of texts.
        log: Gets each line.
        pump: Lets the application process its events.
        cancel: Set it to end the process.

    Raises:
        CancelledError: `cancel` was set.
        CalledProcessError: The process failed; `stderr` has its last lines.
    """
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    last: list[str] = []
    while not cancel.is_set():
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=POLL_SECONDS)
            if line is None:
                break
            last = [*last[-39:], line]
            log(line)
        pump()
    if cancel.is_set():
        _end(process)
        raise CancelledError("The installation was stopped.")
    if code := process.wait():
        raise subprocess.CalledProcessError(code, process.args, stderr="\n".join(last))


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    while True:
        with contextlib.suppress(UnicodeDecodeError):  # a code page that is not UTF-8: the line is not worth a failure
            line = process.stdout.readline()
            if not line:
                break
            lines.put(line.rstrip())
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and those that it started: PythonSlicer is a launcher, and the installer runs below it."""
    number = str(process.pid)
    command = ["taskkill", "/F", "/T", "/PID", number] if sys.platform == "win32" else ["pkill", "-KILL", "-P", number]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(command, capture_output=True, check=False, timeout=10)
    process.kill()
    process.wait()
