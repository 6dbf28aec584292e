"""Long work off the main thread: opening an engine, installing a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker

Result = TypeVar("Result")
Send = Callable[[Any], None]


class BackgroundJobs:
    """Runs work on a thread of its own while the application processes its events (see `slicer.background`).

    Args:
        pump: Lets the application process its events.
        poll: Seconds between two rounds.
    """

    def __init__(self, pump: Pump, poll: float = POLL_SECONDS) -> None:
        self._pump = pump
        self._poll = poll
        self._worker = Worker()

    def run(self, work: Callable[[Send], Result], onEvent: Callable[[Any], None] = lambda _event: None) -> Result:
        """Do the work and return its result; what it raises is raised here.

        Args:
            work: Runs on the thread; gets a function that sends an event to the main thread.
            onEvent: Gets each event on the main thread.
        """
        return self._worker.submit(work).drive(self._pump, onEvent, poll=self._poll)

    def close(self) -> None:
        """End the thread."""
        self._worker.close()
