"""The interface's turn in the middle of long work on nodes, which only the main thread may touch.

Slicer's own calls cannot be cut, so the work around them is: arrays are handled on a helper thread, and between two
calls the application processes its events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker

Result = TypeVar("Result")

TURN_SECONDS = 0.02
"""Work between two turns; a turn itself may draw the views, so there should not be too many of them."""
AT_ONCE_VOXELS = 1_000_000
"""Arrays up to this size take a millisecond or two, which handing them to another thread would not shorten."""


class Turns:
    """Divides work on the main thread into pieces; without arguments, the work is done in one piece.

    Args:
        pump: Lets the application process its events, such as `slicer.app.processEvents`.
        worker: Where arrays are handled meanwhile.
        check: Called after each turn: raises if what happened in it ends the work.
    """

    def __init__(
        self, pump: Pump | None = None, worker: Worker | None = None, check: Callable[[], None] = lambda: None
    ) -> None:
        self._pump = pump
        self._worker = worker
        self._check = check
        self._due = time.monotonic() + TURN_SECONDS

    def pause(self) -> None:
        """Let the application process its events, unless it did so a moment ago.

        Nodes and segments may be gone afterwards, and whoever calls this may get what `check` raises.
        """
        if self._pump is not None and time.monotonic() >= self._due:
            try:
                self._pump()
            finally:
                self._due = time.monotonic() + TURN_SECONDS
            self._check()

    def aside(self, work: Callable[[], Result], voxels: int) -> Result:
        """Do work that touches arrays and no nodes, the interface alive meanwhile; return what it returns.

        Args:
            work: Runs on the helper thread, or here if it is little.
            voxels: How many it looks at.
        """
        if self._pump is None or self._worker is None or voxels <= AT_ONCE_VOXELS:
            result = work()
        else:
            result = self._worker.submit(lambda _send: work()).drive(self.pause, poll=POLL_SECONDS)
        self.pause()
        return result
