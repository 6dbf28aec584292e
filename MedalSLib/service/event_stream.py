"""Following a run: its server-sent events, read in a thread, taken up again where a broken connection ended."""

from __future__ import annotations

import codecs
import json
import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from MedalSLib.errors import MedalSError, ServiceError
from MedalSLib.service.client_errors import TransientError, network_error
from MedalSLib.service.event_format import checksum
from MedalSLib.service.transport import FIRST_PAUSE, LONGEST_PAUSE, Transport

LOG = logging.getLogger("medals.client")
SILENCE_SECONDS = 30.0
"""The server sends something every two seconds; a proxy may collect it for as long as one stream lasts (25 s)."""
_LONGEST_EVENT = 1 << 30

ENDED = "stream ended"
"""Kind of the reader's own event: a stream ended, and no final event came with it."""
KINDS = frozenset({"queued", "started", "progress", "structure", "done", "failed", "cancelled", "lost"})
FINAL = frozenset({"done", "failed", "cancelled", "lost"})


@dataclass(frozen=True)
class RunEvent:
    """One event of a run: its number, kind and values."""

    number: int
    kind: str
    values: dict[str, Any]


def parse_events(pieces: Iterable[bytes]) -> Iterator[RunEvent | None]:
    """Yield the events of a stream as they arrive, None for a sign of life.

    An event that was cut off in the middle is left out.

    Raises:
        ValueError: The stream is damaged.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    text = ""
    for piece in pieces:
        text += decoder.decode(piece)
        if len(text) > _LONGEST_EVENT:
            raise ValueError("an event has no end")
        *blocks, text = text.split("\n\n")
        for block in blocks:
            yield _parse_event(block)


def _parse_event(block: str) -> RunEvent | None:
    fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
    if not fields:
        return None
    number, kind, payload = fields.get("id", "0"), fields.get("event", ""), fields.get("data", "{}")
    if fields.keys() - {"id", "event", "data", "check"} or (
        "check" in fields and fields["check"] != checksum(number, kind, payload)
    ):
        raise ValueError("the event was damaged")
    values = json.loads(payload)
    if kind not in KINDS or not isinstance(values, dict):
        raise ValueError("not an event")
    return RunEvent(int(number), kind, values)


class EventReader:
    """Reads a run's events in a thread and puts them into `events`, ending with a final event or an exception.

    Args:
        transport: The server.
        path: Path of the run.
        affinity: The session's identifier.
    """

    def __init__(self, transport: Transport, path: str, affinity: str) -> None:
        self._transport = transport
        self._path = path
        self._affinity = affinity
        self._stop = threading.Event()
        self._last = 0
        self.alive = time.monotonic()
        """When the server's last sign of life came."""
        self.events: queue.SimpleQueue[RunEvent | Exception] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._follow, name="medals-events", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def rewind(self) -> None:
        """Read all events again, in the next stream."""
        self._last = 0

    def stop(self) -> None:
        """Stop reading, as soon as the connection shows the next sign of life."""
        self._stop.set()

    def _follow(self) -> None:
        pause = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                for event in self._read_stream():
                    self.alive = time.monotonic()
                    pause = FIRST_PAUSE
                    if event is not None and event.kind in FINAL:
                        return
                self.events.put(RunEvent(0, ENDED, {}))
                wait = FIRST_PAUSE
            except TransientError as fault:
                # How long that may go on is for the one who waits to say.
                LOG.info("the run's progress broke off: %s", fault)
                wait = pause if fault.pause is None else fault.pause
                pause = min(LONGEST_PAUSE, pause * 2)
            except MedalSError as error:
                self.events.put(error)
                return
            except BaseException as error:  # the thread that waits for events must not wait for ever
                self.events.put(ServiceError(f"Reading the run's progress failed ({type(error).__name__}: {error})."))
                raise
            self._stop.wait(wait)

    def _read_stream(self) -> Iterator[RunEvent | None]:
        path = f"{self._path}/events?after={self._last}"
        with self._transport.stream(path, self._affinity, SILENCE_SECONDS) as pieces:
            try:
                for event in parse_events(pieces):
                    if event is not None:
                        self._last = max(self._last, event.number)
                        self.events.put(event)
                    yield event
                    if self._stop.is_set():
                        return
            except ValueError as error:
                what = "the events were damaged on the way"
                raise TransientError(network_error(self._transport.url, what)) from error
