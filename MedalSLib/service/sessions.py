"""What the server holds in memory for its clients: images, sessions on them, and the sessions' runs."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Session
from MedalSLib.service import protocol
from MedalSLib.service.encoding import Shape
from MedalSLib.service.http_errors import session_lost

ENDED = frozenset({"done", "failed", "cancelled"})
"""States of a run that is over."""
_REPLACED = frozenset({"queued", "progress"})
"""Events of which only the newest matters: a slow reader is not sent the others, and the log stays short."""


@dataclass(eq=False)
class StoredImage:
    """An image that is being uploaded or is complete; once complete its bytes never change."""

    owner: str
    digest: str
    dtype: str
    shape: Shape
    data: np.ndarray
    missing: set[int]
    chunks: tuple[tuple[int, int], ...]
    last_used: float
    complete: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bytes(self) -> int:
        """Memory of the voxels, and of what is known about them."""
        return self.data.nbytes + 2048 + 256 * len(self.chunks)

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return self.shape[0] * self.shape[1] * self.shape[2]

    def array(self) -> np.ndarray:
        """Return the voxels (K, J, I)."""
        return self.data.view(self.dtype).reshape(self.shape)


@dataclass(eq=False)
class OpenSession:
    """A session of the engine, what it costs, and its runs."""

    owner: str
    id: str
    request: protocol.SessionRequest
    image: StoredImage
    cost: int
    last_contact: float
    last_used: float
    engine_session: Session | None = None
    opened: threading.Event = field(default_factory=threading.Event)
    runs: OrderedDict[str, Run] = field(default_factory=OrderedDict)

    @property
    def engine(self) -> Session:
        """The engine's session.

        Raises:
            HttpError: 404, it was closed meanwhile.
        """
        if self.engine_session is None:
            raise session_lost()
        return self.engine_session

    @property
    def busy(self) -> bool:
        """Whether it is being opened or has a run that is not over."""
        return not self.opened.is_set() or any(not run.ended for run in self.runs.values())

    @property
    def bytes(self) -> int:
        """Memory of the session and the results it holds."""
        return self.cost + sum(run.bytes for run in list(self.runs.values()))


class Run:
    """One run of one session: its state, its numbered events, and its result until the session ends.

    The events are a log that any number of readers follow, each from the number it has read (`events_after`), so a
    client whose connection broke misses nothing.

    Args:
        run_id: Identifier chosen by the client.
        session: The session it runs in.
        request: What is asked for; None once the run has begun or was cancelled, to free its masks.
        request_bytes: Memory of the request.
    """

    def __init__(self, run_id: str, session: OpenSession, request: protocol.RunMessage, request_bytes: int = 0) -> None:
        self.id = run_id
        self.session = session
        self.request: protocol.RunMessage | None = request
        self.request_bytes = request_bytes
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
        """Append an event; events after the run's end are dropped.

        Args:
            kind: "queued", "started", "progress", "structure", "done", "failed" or "cancelled".
            payload: Its values.
            name: Structure it is about; a later event about a structure replaces the earlier one.
            state: The run's state from now on, None for no change.
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
        """Memory of the request, of the result and of the masks in the event log."""
        with self._lock:
            events = sum(len(payload) for _, _, payload in self._events.values())
        asked = self.request_bytes if self.request is not None else 0
        return asked + events + (len(self.result) if self.result is not None else 0)

    def mark_fetched(self) -> None:
        """Note that the client has the result, and drop the masks in the event log: it has those too."""
        self.fetched = True
        with self._lock:
            for slot in [slot for slot in self._events if slot.startswith("structure ")]:
                del self._events[slot]
