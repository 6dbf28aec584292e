"""One run on a server, from the client's side: start, follow, cancel, fetch."""

from __future__ import annotations

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.run import Progress, ProgressCallback, RunResult, StructureCallback
from MedalSLib.service import protocol
from MedalSLib.service.client_errors import LostError, error_from_body
from MedalSLib.service.encoding import Shape, decode_mask
from MedalSLib.service.event_stream import ENDED, EventReader, RunEvent
from MedalSLib.service.run_messages import decode_result
from MedalSLib.service.transport import POLL_SECONDS, Patience, Transport

LOG = logging.getLogger("medals.client")
QUIET_SECONDS = 5.0
"""The server's signs of life come every two seconds; after this long without one it is asked."""


class RemoteRun:
    """One try of a run; all callbacks come from the thread that calls `finish`.

    Args:
        transport: The server.
        session_id: The session.
        shape: (K, J, I) of the image.
        report: Told how far it is.
        on_structure: Told each mask as soon as it is final.
        cancel: The user's wish to stop.
        patience: The call's time budget.
    """

    def __init__(
        self,
        transport: Transport,
        session_id: str,
        shape: Shape,
        report: ProgressCallback,
        on_structure: StructureCallback | None,
        cancel: threading.Event | None,
        patience: Patience,
    ) -> None:
        self._transport = transport
        self._session = session_id
        self._path = f"/v1/sessions/{session_id}/runs/{uuid.uuid4().hex}"
        self._shape = shape
        self._report = report
        self._on_structure = on_structure
        self._cancel = cancel
        self._patience = patience
        self._delivered: set[str] = set()
        self._rewound = False

    def finish(self, request: protocol.RunMessage) -> RunResult:
        """Run to the end and return the result.

        Raises:
            LostError: The server lost the run; begin again.
            CancelledError: The user's cancel.
            MedalSError: What the engine or the server said.
        """
        try:
            self._ask("PUT", message=request)
            self._patience.renew()
            self._follow()
            result = self._fetch()
        except LostError:
            if self._cancelled:
                raise CancelledError() from None
            raise
        if request.stream_structures and self._on_structure is not None:
            for name, mask in result.box_masks.items():  # what a broken stream did not bring
                if name not in self._delivered:
                    self._on_structure(name, mask)
        return result

    @property
    def _cancelled(self) -> bool:
        return self._cancel is not None and self._cancel.is_set()

    def _ask(self, method: str, tail: str = "", **values: Any) -> Any:
        return self._transport.request(
            method,
            self._path + tail,
            affinity=self._session,
            cancel=self._cancel,
            patience=self._patience,
            **values,
        )

    def _follow(self) -> None:
        reader = EventReader(self._transport, self._path, self._session)
        reader.start()
        cancelled_at: float | None = None
        asked_at = time.monotonic()
        over = False
        try:
            while not over:
                if self._cancelled and cancelled_at is None:
                    cancelled_at = time.monotonic()
                    self._send_cancel()
                if cancelled_at is not None and time.monotonic() - cancelled_at > self._transport.cancel_seconds:
                    self._transport.cancel_overdue()
                    raise CancelledError()
                try:
                    event = reader.events.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    if cancelled_at is None and time.monotonic() - max(reader.alive, asked_at) > QUIET_SECONDS:
                        over = self._ask_state(reader)
                        asked_at = time.monotonic()
                    continue
                if isinstance(event, Exception):
                    over = isinstance(event, LostError)
                    raise event
                if event.kind == ENDED:
                    over = cancelled_at is None and self._ask_state(reader)
                else:
                    self._patience.renew()
                    over = self._handle(event)
        finally:
            reader.stop()
            if not over and cancelled_at is None:
                self._send_cancel()  # a callback raised, or the network is gone: the run is not waited for

    def _ask_state(self, reader: EventReader) -> bool:
        """Ask how the run is, where its events do not tell; returns whether it is done."""
        state = self._ask("GET")["state"]
        self._patience.renew()
        if state in ("failed", "cancelled"):
            if self._rewound:  # the event that says why does not come
                raise LostError()
            self._rewound = True
            reader.rewind()
        return bool(state == "done")

    def _handle(self, event: RunEvent) -> bool:
        """Pass an event on; returns whether the run is done."""
        try:
            deliver = self._parse(event)
        except (KeyError, TypeError, ValueError) as error:
            # Damaged, but still JSON.  The result is checked by its digest, so an event may be left out.
            LOG.info("an event could not be read: %s", error)
        else:
            deliver()
        return event.kind == "done"

    def _parse(self, event: RunEvent) -> Callable[[], None]:
        """Return what an event calls for; raises if its values are damaged, before any callback is called."""
        values = event.values
        if event.kind == "queued" and int(values["position"]):
            waiting = Progress(f"waiting for the server, {int(values['position'])} before you", 0.0)
            return lambda: self._report(waiting)
        if event.kind == "progress":
            progress = protocol.from_json(Progress, values)
            return lambda: self._report(progress)
        if event.kind == "structure" and self._on_structure is not None:
            found = self._on_structure
            encoded = protocol.from_json(protocol.EncodedArray, values["mask"])
            name, mask = str(values["name"]), decode_mask(encoded, self._shape)
            self._delivered.add(name)
            return lambda: found(name, mask)
        if event.kind == "failed":
            return lambda: self._failed(values)
        if event.kind in ("cancelled", "lost"):
            return self._ended
        return lambda: None

    def _failed(self, values: dict[str, Any]) -> None:
        raise error_from_body(values)

    def _ended(self) -> None:
        # Cancelled by the user, or by a server that shuts down or lost the session: then it is begun again.
        raise CancelledError() if self._cancelled else LostError()

    def _send_cancel(self) -> None:
        """Ask the server to stop, without waiting for it."""

        def send() -> None:
            try:
                self._transport.request("DELETE", self._path, affinity=self._session, patience=5.0)
            except MedalSError as error:
                LOG.info("the server was not told to stop: %s", error.cause)

        threading.Thread(target=send, name="medals-cancel", daemon=True).start()

    def _fetch(self) -> RunResult:
        answer = self._ask("GET", "/result")
        try:
            return decode_result(protocol.from_json(protocol.ResultMessage, answer), self._shape)
        except ValueError as error:
            LOG.warning("the result could not be read: %s", error)
            raise LostError() from error
