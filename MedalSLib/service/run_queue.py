"""The queue in which runs wait for the one engine."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from MedalSLib.service.http_errors import try_later
from MedalSLib.service.sessions import Run


class RunQueue:
    """Runs one run at a time, owners in turn, each owner's runs in order.

    Args:
        work_on: Runs one run to its end and publishes how it ended; never raises.
        length: Most runs queued and running.
        per_owner: Most runs queued and running of one owner.
    """

    def __init__(self, work_on: Callable[[Run], None], length: int, per_owner: int) -> None:
        self._work_on = work_on
        self._length = length
        self._per_owner = per_owner
        self._condition = threading.Condition()
        self._waiting: OrderedDict[str, deque[Run]] = OrderedDict()
        self._running: Run | None = None
        self._seconds: deque[float] = deque(maxlen=16)
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="medals-runner", daemon=True)
        self._thread.start()

    @property
    def running(self) -> Run | None:
        """The run the engine works on."""
        return self._running

    def __len__(self) -> int:
        with self._condition:
            return len(self._order())

    def retry_after(self) -> float:
        """Return in how many seconds a place will probably be free."""
        mean = sum(self._seconds) / len(self._seconds) if self._seconds else 5.0
        return min(60.0, max(1.0, mean))

    def submit(self, run: Run) -> None:
        """Queue a run.

        Raises:
            HttpError: The queue is full (503), or the owner has too many runs in it (429).
        """
        with self._condition:
            order = self._order()
            if self._stopped or len(order) >= self._length:
                waiting = f"The server is busy: {len(order)} runs are waiting."
                raise try_later(503, waiting, "Try again in a moment.", self.retry_after())
            if sum(other.owner == run.owner for other in order) >= self._per_owner:
                waiting = f"{self._per_owner} runs of this key are waiting already."
                raise try_later(429, waiting, "Wait until one has ended.", self.retry_after())
            self._waiting.setdefault(run.owner, deque()).append(run)
            self._announce()
            self._condition.notify_all()

    def cancel(self, run: Run) -> None:
        """Take a waiting run out, or ask the running one to stop."""
        run.request_cancel()
        with self._condition:
            waiting = self._waiting.get(run.owner)
            if waiting is not None and run in waiting:
                waiting.remove(run)
                if not waiting:
                    del self._waiting[run.owner]
                run.request = None
                run.publish("cancelled", {}, state="cancelled")
                self._announce()

    def position(self, run: Run) -> int:
        """Return how many runs come before this one."""
        with self._condition:
            order = self._order()
            return order.index(run) if run in order else 0

    def stop(self, seconds: float = 5.0) -> None:
        """Cancel everything and wait for the engine to notice."""
        with self._condition:
            self._stopped = True
            runs = self._order()
            self._condition.notify_all()
        for run in runs:
            self.cancel(run)
        self._thread.join(seconds)

    def _order(self) -> list[Run]:
        """The runs in the order in which they will be done, the running one first; owners take turns."""
        rounds = itertools.zip_longest(*self._waiting.values())
        waiting = [run for turn in rounds for run in turn if run is not None]
        return waiting if self._running is None else [self._running, *waiting]

    def _announce(self) -> None:
        for position, run in enumerate(self._order()):
            if run.state == "queued":
                run.publish("queued", {"position": position})

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._stopped:
                    self._condition.wait()
                if self._stopped:
                    return
                owner, line = next(iter(self._waiting.items()))
                run = line.popleft()
                self._waiting.move_to_end(owner)
                if not line:
                    del self._waiting[owner]
                self._running = run
                run.publish("started", {}, state="running")
                self._announce()
            begun = time.monotonic()
            self._work_on(run)
            with self._condition:
                self._seconds.append(time.monotonic() - begun)
                self._running = None
                self._announce()
