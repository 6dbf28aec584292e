"""The local, isolated engine: the server in a child process, so that a crash or a full memory cannot take the host.

The child is started, watched, started again when it ends, and ended with its parent.  Cancel is cooperative first;
a child that does not stop in time is killed, and the next run finds a fresh one.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import MedalSLib
from MedalSLib import errors
from MedalSLib.errors import CancelledError, MedalSError, ResourceError, ServiceError
from MedalSLib.service.child_main import ChildConfig
from MedalSLib.service.client import RemoteEngine, shake_hands
from MedalSLib.service.transport import Transport, TransportOptions

LOG = logging.getLogger("medals.client")
START_SECONDS = 120.0
"""Longest time from the start of the process to its port: a cold disk and a virus scanner included."""
CRASHES_IN_A_ROW = 3
"""The child is given up when it ends this often without having opened an image in between."""
_FACTORY = "MedalSLib.engine:open_engine"


def default_python() -> str:
    """Return the Python that runs child processes: this one, or PythonSlicer beside a 3D Slicer.

    Raises:
        ResourceError: This process is neither.
    """
    own = Path(sys.executable or "")
    if own.name.lower().startswith("python"):
        return str(own)
    suffix = ".exe" if sys.platform == "win32" else ""
    for folder in (own.parent, own.parent / "bin", own.parent.parent / "bin"):
        candidate = folder / f"PythonSlicer{suffix}"
        if candidate.is_file():
            return str(candidate)
    raise ResourceError(f"No Python was found beside {own}.", "Give the path of PythonSlicer.")


class ChildServer:
    """The child process; a thread starts it, waits for its end and starts it again.

    The thread lives as long as the child, because on Linux a child is ended with the thread that started it.

    Args:
        command: Program and arguments.
        config: Key, engine and arguments for the child, sent on its standard input.
    """

    def __init__(self, command: Sequence[str], config: ChildConfig) -> None:
        self._command = list(command)
        self._config = config
        self._condition = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._error: MedalSError | None = None
        self._closing = False
        self._crashes = 0
        self._ended_by_us = False
        self.log_tail: deque[str] = deque(maxlen=40)
        """The last lines the child logged."""
        self.ended = ""
        """How the child ended last, in words; empty if it never did."""
        self.exit_code = 0
        self._begin()

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._supervise, name="medals-child", daemon=True)
        self._thread.start()

    @property
    def given_up(self) -> bool:
        """Whether the child ended again and again, and nobody has asked for it since."""
        return self._error is not None

    @property
    def pid(self) -> int | None:
        """Process number of the running child."""
        process = self._process
        return process.pid if process is not None else None

    def url(self, seconds: float = START_SECONDS, cancel: threading.Event | None = None) -> str:
        """Return the address of the running child, waiting for it; one that was given up is started again.

        Raises:
            MedalSError: It could not be started, or ended again and again.
            CancelledError: `cancel` was set.
        """
        self.revive()
        return self.awaited_url(seconds, cancel)

    def revive(self) -> None:
        """Start a child that was given up again: somebody asks for it anew."""
        with self._condition:
            if self._error is not None and not self._closing and not self._thread.is_alive():
                self._error, self._crashes = None, 0
                self._begin()

    def awaited_url(self, seconds: float = START_SECONDS, cancel: threading.Event | None = None) -> str:
        """Return the address of the running child, waiting for it; who waits for one that is given up is told why.

        Raises:
            MedalSError: As `url`.
            CancelledError: As `url`.
        """
        end = time.monotonic() + seconds
        with self._condition:
            while not self._port and self._error is None:
                self._condition.wait(0.05)
                if cancel is not None and cancel.is_set():
                    raise CancelledError()
                if time.monotonic() > end:
                    raise ServiceError("The local engine did not start in time.", "Start it again.")
            if self._error is not None:
                raise type(self._error)(self._error.cause, self._error.remedy)
            return f"http://127.0.0.1:{self._port}"

    def forget_crashes(self) -> None:
        """Count crashes from zero: the child has just shown that it works."""
        with self._condition:
            self._crashes = 0

    def kill(self) -> None:
        """End the child at once; a new one is started, and this is no crash."""
        with self._condition:
            process = self._process
            self._port = 0
            self._ended_by_us = process is not None
        if process is not None:
            process.kill()

    def close(self, seconds: float = 5.0) -> None:
        """End the child for good."""
        with self._condition:
            self._closing = True
            process = self._process
            self._condition.notify_all()
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(seconds)

    def _supervise(self) -> None:
        """Start the child, wait for its end, and start it again, until it is closed or given up."""
        while True:
            try:
                process = self._start()
            except OSError as error:
                self._fail(ResourceError(f"The local engine cannot be started ({error}).", "Check the Python path."))
                return
            if process is None:
                return
            self._read_port(process)
            code = process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
            with self._condition:
                self._process = None
                self._port = 0
                if self._closing or self._error is not None:
                    return
                wanted, self._ended_by_us = self._ended_by_us, False
            if wanted:
                self.ended = "on demand"
            else:
                self._note_crash(code)
            if self._error is not None:
                return

    def _start(self) -> subprocess.Popen[bytes] | None:
        root = str(Path(MedalSLib.__file__).resolve().parent.parent)
        paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        with self._condition:
            if self._closing:
                return None
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            self._process = process
        # A pipe that nobody reads fills up, and would stop the child in the middle of its work.
        threading.Thread(target=self._drain, args=(process.stderr,), name="medals-child-log", daemon=True).start()
        return process

    def _read_port(self, process: subprocess.Popen[bytes]) -> None:
        """Tell the child what to do, and wait for its port, for why there is none, or for its end."""
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(self._config)).encode("ascii") + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:  # it ended without a word, or was closed: `_supervise` goes on with that
            LOG.debug("the local engine did not say its port: %s", error)
            return
        if "port" not in answer:
            known = getattr(errors, str(answer.get("error")), ServiceError)
            self._fail(known(str(answer.get("cause")), str(answer.get("remedy"))))
            return
        with self._condition:
            self._port = int(answer["port"])
            self._condition.notify_all()

    def _drain(self, pipe: IO[bytes]) -> None:
        try:
            for line in pipe:
                self.log_tail.append(line.decode("utf-8", "replace").rstrip())
        except ValueError:
            LOG.debug("the local engine's log was closed")

    def _fail(self, error: MedalSError) -> None:
        with self._condition:
            self._error = error
            self._condition.notify_all()

    def _note_crash(self, code: int) -> None:
        self.ended, self.exit_code = f"signal {-code}" if code < 0 else f"exit code {code}", code
        LOG.warning("the local engine ended (%s); starting it again", self.ended)
        # Counted, not timed: on a slow machine three attempts to load a model can take minutes.
        with self._condition:
            self._crashes += 1
            crashes = self._crashes
        if crashes >= CRASHES_IN_A_ROW:
            last = self.log_tail[-1][:300] if self.log_tail else "it logged nothing"
            cause = f"The local engine ended {crashes} times in a row ({self.ended}; {last})."
            self._fail(ServiceError(cause, _remedy(code, "close other programs, or use a smaller region")))


def _remedy(code: int, way_out: str) -> str:
    """Say what to do about a child that ended: the kernel kills what takes too much memory with signal 9."""
    if code == -9:
        return f"It probably ran out of memory: {way_out}."
    return "Run again, and it is started anew; if that does not help, install the engine again."


class _ChildTransport(Transport):
    """The way to a child process, which can be killed and is started again by its supervisor."""

    def __init__(self, child: ChildServer, options: TransportOptions, cancel_seconds: float) -> None:
        self._child = child
        super().__init__(child.awaited_url(), options)
        self.cancel_seconds = cancel_seconds
        self.lost_tries = 2

    def locate(self, seconds: float, cancel: threading.Event | None = None) -> str:
        """Return the child's address now, waiting for it: a child that was started again has another port.

        Args:
            seconds: It is waited for so long at most.
            cancel: Ends the waiting.
        """
        self.url = self._child.awaited_url(max(seconds, START_SECONDS), cancel)
        return self.url

    def call_begins(self) -> None:
        """Start a child that was given up again; the tries within a call do not, or they would go on for ever."""
        self._child.revive()

    @property
    def dormant(self) -> bool:
        """Whether the child was given up: only a user's call starts it again."""
        return self._child.given_up

    def give_up(self, error: MedalSError) -> MedalSError:
        """Return an error that says that the child ended, if it did."""
        if not self._child.ended:
            return error
        return ServiceError(
            f"The local engine ended ({self._child.ended}). {error.cause}", "Run again; it was started again."
        )

    def session_opened(self) -> None:
        """Count the child's crashes from zero: its model is loaded and has taken an image."""
        self._child.forget_crashes()

    def cancel_overdue(self) -> None:
        """Kill a child that does not stop; the next run finds a fresh one."""
        LOG.warning("the local engine did not stop in time; ending it")
        self._child.kill()

    def always_lost(self) -> MedalSError:
        """Return what to raise when run after run ended with the child."""
        return ServiceError(
            f"The local engine ended during the run ({self._child.ended or 'unexpectedly'}), and again when repeated.",
            _remedy(self._child.exit_code, "segment fewer structures or a smaller region"),
        )


class IsolatedEngine(RemoteEngine):
    """An engine in a child process; use `open_isolated_engine`.

    Args:
        child: The process.
        options: Key and timeouts.
        startup_seconds: Wait this long for the model.
        cancel_seconds: Kill the child if a cancelled run has not ended after this long.
        cancel: Ends the waiting for the model.
    """

    def __init__(
        self,
        child: ChildServer,
        options: TransportOptions,
        startup_seconds: float,
        cancel_seconds: float,
        cancel: threading.Event | None,
    ) -> None:
        self.child = child
        transport = _ChildTransport(child, options, cancel_seconds)
        # Not the short patience of a typed address: a child that ended is being started again, however long that takes.
        shake_hands(transport, startup_seconds)
        super().__init__(transport, 0, startup_seconds, cancel)
        child.forget_crashes()

    def __enter__(self) -> IsolatedEngine:
        return self

    def close(self) -> None:
        """End the sessions with the child: there is nothing to say to a process that ends."""
        self._closed.set()
        for session in self.live_sessions():
            session.closed = True
        self.transport.close()
        self.child.close()


def open_isolated_engine(
    model: str = "starter",
    device: str = "auto",
    *,
    python: str | None = None,
    startup_seconds: float = 300.0,
    cancel_seconds: float = 5.0,
    cancel: threading.Event | None = None,
    factory: str = _FACTORY,
    **options: Any,
) -> IsolatedEngine:
    """Open an engine in a child process on this machine.

    Args:
        model: "starter", the name of an installed model, or a path.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        python: Python to run; None for this one, or Slicer's.
        startup_seconds: Wait this long for the model.
        cancel_seconds: Kill the child if a cancelled run has not ended after this long.
        cancel: Ends the waiting for the model.
        factory: "module:function" that makes the engine from `model`, `device` and `options`.
        **options: As for `MedalSLib.engine.open_engine` in-process: `threads`, `memory_limit_mb`.

    Raises:
        ModelError: No such model, or it is damaged.
        ResourceError: A package is missing in that Python, or no such device.
        ServiceError: The process does not start.
        CancelledError: `cancel` was set.
    """
    key = secrets.token_urlsafe(32)
    arguments = {"model": model, "device": device, **options}
    config = ChildConfig(key, os.getpid(), factory, arguments, tuple(path for path in sys.path if path))
    child = ChildServer([python or default_python(), "-m", "MedalSLib.service.child_main"], config)
    try:
        child.url(cancel=cancel)
        transport = TransportOptions(key, patience_seconds=120.0, read_seconds=60.0, use_environment=False)
        return IsolatedEngine(child, transport, startup_seconds, cancel_seconds, cancel)
    except BaseException:
        child.close()
        raise
