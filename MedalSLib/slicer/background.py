"""Work off the main thread while Slicer's interface stays alive.

Slicer's event loop never releases the GIL, so a plain background thread starves beside it.  Waiting on an event does
release it: the main thread waits a few hundredths of a second at a time and lets the application process its events
in between.  Only the main thread touches nodes; the worker sees arrays.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Pump = Callable[[], None]

POLL_SECONDS = 0.03
_BUDGET_SECONDS = 0.05


class Call(Generic[Result]):
    """One piece of work on the worker thread.

    Args:
        work: Runs on the worker thread; gets a function that sends an event to the main thread.
    """

    def __init__(self, work: Callable[[Callable[[Any], None]], Result]) -> None:
        self._work = work
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._done = threading.Event()
        self._result: Result | None = None
        self._error: BaseException | None = None

    def execute(self) -> None:
        """Do the work; called by the worker thread."""
        try:
            self._result = self._work(self._events.put)
        except BaseException as error:  # carried to the main thread, raised by `drive`
            self._error = error
        finally:
            self._done.set()

    def drive(
        self,
        pump: Pump,
        onEvent: Callable[[Any], None] = lambda _event: None,
        onFailure: Callable[[], None] = lambda: None,
        poll: float = POLL_SECONDS,
    ) -> Result:
        """Wait on the main thread for the end of the work, pumping the application's events.

        Args:
            pump: Lets the application process its events, such as `slicer.app.processEvents`.
            onEvent: Gets each event on the main thread, in order.
            onFailure: Called once if `onEvent` or `pump` raises: asks the work to stop.  The wait goes on until it
                has, then the exception is raised.
            poll: Seconds to wait between two rounds.

        Returns:
            What the work returned; what it raised is raised here.
        """
        failure: BaseException | None = None
        finished = drained = False
        while not (finished and (drained or failure is not None)):
            finished = self._done.wait(poll if drained else 0.0)
            try:
                drained = failure is not None or self._deliver(onEvent)
                if not (finished and drained):
                    pump()
            except BaseException as error:
                if failure is None:
                    onFailure()
                failure = failure or error
        if failure is not None:
            raise failure
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set when there was no error

    def _deliver(self, onEvent: Callable[[Any], None]) -> bool:
        """Hand out events for a short while, so that the interface answers between them; True if none is left."""
        end = time.monotonic() + _BUDGET_SECONDS
        while time.monotonic() < end:
            try:
                event = self._events.get_nowait()
            except queue.Empty:
                return True
            onEvent(event)
        return False


class Worker:
    """One lasting thread: a GPU library's plans are kept by thread, so the second run starts ten times faster."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Call[Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[[Callable[[Any], None]], Result]) -> Call[Result]:
        """Queue a piece of work."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._loop, name="MedalS worker", daemon=True)
            self._thread.start()
        call = Call(work)
        self._calls.put(call)
        return call

    def close(self) -> None:
        """End the thread after the work in hand."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread = None

    def _loop(self) -> None:
        while (call := self._calls.get()) is not None:
            call.execute()
