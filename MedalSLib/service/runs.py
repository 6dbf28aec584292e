"""Runs: their event log, and the queue in which they wait for the one engine."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from MedalSLib.service import protocol
from MedalSLib.service.refusal import Refusal

if TYPE_CHECKING:
    from MedalSLib.service.store import OpenSession

ENDED = frozenset({"done", "failed", "cancelled"})
_REPLACED = frozenset({"queued", "progress"})
"""Events of which only the newest matters: a slow reader is not sent the others, and the log stays short."""


class Run:
    """One run of one session: its state, its numbered events, and its result until the session ends."""

    def __init__(self, run_id: str, session: OpenSession, request: protocol.RunRequest) -> None:
        self.id = run_id
        self.session = session
        self.request: protocol.RunRequest | None = request
        self.state = "queued"
        self.cancel = threading.Event()
        self.cancelled_at: float | None = None
        self.result: bytes | None = None
        self.fetched = False
        self._lock = threading.Lock()
        self._events: OrderedDict[str, tuple[int, str, str]] = OrderedDict()
        self._next = 1
        self._listeners: list[Callable[[], None]] = []

    @property
    def owner(self) -> str:
        """Name of the key that started the run."""
        return self.session.owner

    @property
    def ended(self) -> bool:
        """Whether the run is over, one way or the other."""
        return self.state in ENDED

    def publish(self, kind: str, payload: dict[str, Any], name: str = "", state: str | None = None) -> None:
        """Append an event; `state` changes the run's state with it.

        Events after the end are dropped.  A later event of one structure replaces the earlier one.
        """
        with self._lock:
            if self.ended:
                return
            if state is not None:
                self.state = state
            slot = kind if kind in _REPLACED else f"{kind} {name}"
            self._events.pop(slot, None)
            self._events[slot] = (self._next, kind, json.dumps(payload))
            self._next += 1
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def events_after(self, last: int) -> list[tuple[int, str, str]]:
        """Return (number, kind, JSON) of the events after a number."""
        with self._lock:
            return [event for event in self._events.values() if event[0] > last]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` (from any thread) after each event; returns a function that stops it."""
        with self._lock:
            self._listeners.append(listener)

        def stop() -> None:
            with self._lock:
                self._listeners.remove(listener)

        return stop

    def request_cancel(self) -> None:
        """Ask the run to stop; the engine notices within one patch."""
        if self.cancelled_at is None:
            self.cancelled_at = time.monotonic()
        self.cancel.set()

    @property
    def bytes(self) -> int:
        """Memory of the result and of the masks in the event log."""
        with self._lock:
            events = sum(len(payload) for _, _, payload in self._events.values())
        return events + (len(self.result) if self.result is not None else 0)

    def mark_fetched(self) -> None:
        """Note that the client has the result, and drop the masks in the event log: it has those too."""
        self.fetched = True
        with self._lock:
            for slot in [slot for slot in self._events if slot.startswith("structure ")]:
                del self._events[slot]


class RunQueue:
    """Runs one run at a time, owners in turn, each owner's runs in order.

    Args:
        perform: Runs one run to its end and publishes how it ended; never raises.
        length: Most runs queued and running.
        per_owner: Most runs queued and running of one owner.
    """

    def __init__(self, perform: Callable[[Run], None], length: int, per_owner: int) -> None:
        self._perform = perform
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
            Refusal: The queue is full (503), or the owner has too many runs in it (429).
        """
        with self._condition:
            order = self._order()
            if self._stopped or len(order) >= self._length:
                raise Refusal(
                    503,
                    "busy",
                    f"The server is busy: {len(order)} runs are waiting.",
                    "Try again in a moment.",
                    self.retry_after(),
                )
            if sum(other.owner == run.owner for other in order) >= self._per_owner:
                raise Refusal(
                    429,
                    "rate_limited",
                    f"{self._per_owner} runs of this key are waiting already.",
                    "Wait until one has ended.",
                    self.retry_after(),
                )
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
        """The runs in the order in which they will be done, the running one first."""
        order = [self._running] if self._running is not None else []
        lines = [list(line) for line in self._waiting.values()]
        for turn in range(max(map(len, lines), default=0)):
            order += [line[turn] for line in lines if turn < len(line)]
        return order

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
            self._perform(run)
            with self._condition:
                self._seconds.append(time.monotonic() - begun)
                self._running = None
                self._announce()
