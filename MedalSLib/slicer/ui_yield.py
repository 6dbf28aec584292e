"""Keeps the GUI responsive during long main-thread work by processing events between its steps.

Only the main thread may touch MRML nodes, and a call into Slicer cannot be interrupted.  So arrays are handled on a
helper thread, and the application processes its events between two calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker

Result = TypeVar("Result")

EVENT_INTERVAL_SECONDS = 0.02
"""Least time between two rounds of events; a round may render the views, so there should not be too many of them."""
INLINE_VOXELS = 1_000_000
"""Arrays up to this size take a millisecond or two: handing them to another thread would cost more than it saves."""


class UiYield:
    """Divides work on the main thread into steps; without arguments, the work is done in one go.

    Args:
        pump: Lets the application process its events, such as `slicer.app.processEvents`.
        worker: Helper thread for work on arrays.
        check: Called after each round of events: raises if what the user did meanwhile ends the work.
    """

    def __init__(
        self, pump: Pump | None = None, worker: Worker | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        self._pump = pump
        self._worker = worker
        self._check = check
        self._due = time.monotonic() + EVENT_INTERVAL_SECONDS

    def processEvents(self) -> None:
        """Let the application process its events, unless it did so a moment ago.

        The user may have removed nodes and segments by then: look them up again afterwards.  Raises what `check`
        raises.
        """
        if self._pump is not None and time.monotonic() >= self._due:
            try:
                self._pump()
            finally:
                self._due = time.monotonic() + EVENT_INTERVAL_SECONDS
            self._check()

    def offload(self, work: Callable[[], Result], voxels: int) -> Result:
        """Do work on arrays while the GUI stays alive, and return its result; see `processEvents`.

        Args:
            work: Touches no node; runs on the helper thread, or here if it is little.
            voxels: How many voxels it looks at.
        """
        if self._pump is None or self._worker is None or voxels <= INLINE_VOXELS:
            result = work()
        else:
            result = self._worker.submit(lambda _send: work()).drive(self.processEvents, poll=POLL_SECONDS)
        self.processEvents()
        return result
