"""HTTP for the client: the headers every request carries, and retries that are safe.

Every request of the protocol may be repeated (see `protocol`), so whatever looks like the network's fault is tried
again, on a fresh connection, until the call's `Patience` is over.  That holds whatever the network does: each try runs
in a thread of its own, which is left behind if it does not end.  Redirects are never followed: the key must not travel
to another host.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import queue
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.auth import AuthBase

from MedalSLib.errors import CancelledError, MedalSError, ServiceError
from MedalSLib.service import protocol
from MedalSLib.service.client_errors import (
    NETWORK_ERRORS,
    TransientError,
    explain_answer,
    explain_failure,
    network_error,
)
from MedalSLib.service.encoding import body_digest

LOG = logging.getLogger("medals.client")
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
POLL_SECONDS = 0.05
"""How often a wish to stop is looked at while a request is waited for."""
_PIECE = 1 << 16


class Patience:
    """The time budget of one call: how long it goes on without getting any further.

    Args:
        seconds: Seconds without progress after which the call gives up.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """Begin anew: the call got further."""
        self._end = time.monotonic() + self._seconds

    @property
    def left(self) -> float:
        """Seconds that are left, negative when it is over."""
        return self._end - time.monotonic()


class _Upload(io.BytesIO):
    """A body that is sent in pieces, so that a slow network is not taken for a dead one."""

    def __init__(self, body: bytes, moved: Callable[[], None]) -> None:
        super().__init__(body)
        self._moved = moved

    def read(self, size: int | None = -1) -> bytes:
        """Return the next piece."""
        self._moved()
        return super().read(size)


class _Bearer(AuthBase):
    """Sends the key; being an `auth`, it also keeps requests from replacing it with an entry of ~/.netrc."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


@dataclass(frozen=True)
class TransportOptions:
    """How the client talks to a server.

    Attributes:
        api_key: Key, or "" for a server without.
        connect_seconds: Wait this long for a connection.
        read_seconds: Wait this long for the next bytes of an answer; a server answers everything within ten seconds.
        patience_seconds: Repeat what failed through the network, or was refused as busy, for this long.
        verify: As in requests: True for the system's certificates, a path to a CA bundle, or False (not advised).
        proxies: As in requests; None for the environment's (HTTPS_PROXY, NO_PROXY).
        use_environment: Whether the environment's proxies and certificates count; False for a child on the loopback.
    """

    api_key: str = field(default="", repr=False)
    connect_seconds: float = 10.0
    read_seconds: float = 15.0
    patience_seconds: float = 60.0
    verify: bool | str = True
    proxies: Mapping[str, str] | None = None
    use_environment: bool = True


class Transport:
    """Requests to one server, from any thread.

    Args:
        url: Base URL.
        options: Key, timeouts, TLS.
    """

    def __init__(self, url: str, options: TransportOptions) -> None:
        self.url = url
        self.options = options
        self.cancel_seconds = 5.0
        """How long a cancelled run is waited for before `segment` returns without its answer."""
        self.lost_tries = 5
        """How often work that the server lost is begun again."""
        self.signed = False
        """Whether the server's answers carry their digest; known from the first one on."""
        self._idle: deque[requests.Session] = deque()

    # What a server that starts its own child process does otherwise (see `MedalSLib.service.child`):

    def locate(self, seconds: float, cancel: threading.Event | None = None) -> str:
        """Return the base URL for the next try.

        Args:
            seconds: It is waited for it so long at most.
            cancel: Ends the waiting.
        """
        return self.url

    def call_begins(self) -> None:
        """Called before the first try of each request."""

    @property
    def dormant(self) -> bool:
        """Whether there is no server now, and nobody has asked for one yet."""
        return False

    def give_up(self, error: MedalSError) -> MedalSError:
        """Return what to raise when the patience is over."""
        return error

    def session_opened(self) -> None:
        """Called when the server has opened a session."""

    def cancel_overdue(self) -> None:
        """Called when a cancelled run did not end in `cancel_seconds`; a server finishes its patch by itself."""
        LOG.info("the server has not confirmed the end of the cancelled run yet")

    def always_lost(self) -> MedalSError:
        """Return what to raise when the server lost the session or the run `lost_tries` times."""
        return ServiceError(
            "The server loses the image again and again.", "It is probably out of memory: tell its administrator."
        )

    def close(self) -> None:
        """Close the connections that are kept open for further requests."""
        while self._idle:
            self._idle.pop().close()

    @property
    def _choices(self) -> dict[str, Any]:
        """What was asked for, given with each request: on a session, requests lets the environment override it."""
        verify = None if self.options.verify is True else self.options.verify
        return {"verify": verify, "proxies": None if self.options.proxies is None else dict(self.options.proxies)}

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """Yield an HTTP session that nobody else uses; after a failure, none that was open before is used again."""
        try:
            session = self._idle.pop()
        except IndexError:
            session = requests.Session()
            session.trust_env = self.options.use_environment
            session.auth = _Bearer(self.options.api_key)
        try:
            yield session
        except BaseException:
            session.close()
            self.close()
            raise
        self._idle.append(session)

    def request(
        self,
        method: str,
        path: str,
        *,
        message: Any = None,
        data: bytes | None = None,
        affinity: str = "",
        with_key: bool = True,
        patience: Patience | float | None = None,
        try_seconds: float = 1.0,
        startup_seconds: float = 0.0,
        cancel: threading.Event | None = None,
    ) -> Any:
        """Send a request until it is answered, and return the answer's JSON (None if it is empty).

        Args:
            method: HTTP method.
            path: Path below the base URL.
            message: Dataclass of the protocol to send as JSON.
            data: Bytes to send instead.
            affinity: Session the request belongs to.
            with_key: Whether to show the key; False until the server is known to be one of ours.
            patience: The call's time budget, or its seconds; None for the options' value, 0 for a single try.
            try_seconds: A try has this long, even where the patience is over before.
            startup_seconds: Wait this long for a server that says that it is loading.
            cancel: Ends the waiting, at once.

        Raises:
            LostError: The server does not have the session, run or image any more.
            MedalSError: The engine's own error, or a refusal that repeating does not change.
            ServiceError: No answer of a Medal S server within the patience.
            CancelledError: `cancel` was set.
        """
        body = data if message is None else json.dumps(protocol.to_json(message)).encode("ascii")
        headers = self._headers(affinity)
        if body is not None:
            headers["Content-Type"] = "application/json" if message is not None else "application/octet-stream"
            headers[protocol.DIGEST_HEADER] = body_digest(body)
        if not isinstance(patience, Patience):
            patience = Patience(self.options.patience_seconds if patience is None else patience)
        loading = Patience(startup_seconds)
        pause = FIRST_PAUSE
        auth = _Bearer(self.options.api_key if with_key else "")
        self.call_begins()
        while True:
            if cancel is not None and cancel.is_set():
                raise CancelledError()
            try:
                return self._try(method, path, body, headers, auth, patience, try_seconds, cancel)
            except TransientError as fault:
                wait = pause * (0.5 + random.random() / 2) if fault.pause is None else fault.pause
                if fault.loading and loading.left > wait:
                    patience.renew()
                if wait >= patience.left:
                    raise self.give_up(fault.error) from fault.__cause__
                pause = min(LONGEST_PAUSE, pause * 2)
                if cancel is not None and cancel.wait(wait):
                    raise CancelledError() from fault
                if cancel is None:
                    time.sleep(wait)

    def _headers(self, affinity: str) -> dict[str, str]:
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # what is large is compressed already, and digests are of what travels
            protocol.PROTOCOL_HEADER: str(protocol.PROTOCOL),
            protocol.REQUEST_ID_HEADER: uuid.uuid4().hex,
        }
        if affinity:
            headers[protocol.AFFINITY_HEADER] = affinity
        return headers

    def _try(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        auth: AuthBase,
        patience: Patience,
        try_seconds: float,
        cancel: threading.Event | None,
    ) -> Any:
        """Make one try in a thread; it may last as long as bytes move, and else as long as the patience."""
        seconds = max(patience.left, try_seconds)
        url = self.locate(seconds, cancel)
        timeout = (min(self.options.connect_seconds, seconds), min(self.options.read_seconds, seconds))
        moving = Patience(timeout[1])
        done: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

        def work() -> None:
            try:
                done.put((self._exchange(method, url + path, body, headers, auth, timeout, moving.renew), None))
            except BaseException as error:  # raised again where it is waited for
                done.put((None, error))

        threading.Thread(target=work, name="medals-request", daemon=True).start()
        while True:
            with contextlib.suppress(queue.Empty):
                answer, error = done.get(timeout=POLL_SECONDS)
                if error is not None:
                    raise error
                return answer
            if cancel is not None and cancel.is_set():
                raise CancelledError()
            if max(patience.left, moving.left) < -1.0:  # the socket's own timeouts come first, with better words
                raise TransientError(network_error(self.url, "the server stopped answering"))

    def _exchange(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: dict[str, str],
        auth: AuthBase,
        timeout: tuple[float, float],
        moved: Callable[[], None],
    ) -> Any:
        data: Any = body if body is None or len(body) < _PIECE else _Upload(body, moved)
        try:
            with self._session() as session:
                response = session.request(
                    method,
                    url,
                    data=data,
                    headers=headers,
                    timeout=timeout,
                    allow_redirects=False,
                    auth=auth,
                    stream=True,
                    **self._choices,
                )
                pieces = []
                for piece in response.iter_content(_PIECE):
                    moved()
                    pieces.append(piece)
        except NETWORK_ERRORS as error:
            raise explain_failure(self.url, error, self.options.connect_seconds) from error
        return self._read(response, b"".join(pieces))

    def _read(self, response: requests.Response, content: bytes) -> Any:
        """Return the JSON of a whole answer, or raise what it means; a damaged one is not believed."""
        announced = response.headers.get(protocol.DIGEST_HEADER)
        empty = response.status_code == 204
        if not empty and (announced is not None or self.signed) and announced != body_digest(content):
            meant = explain_answer(self.url, response, content) if announced is None else None  # a gateway's, probably
            if isinstance(meant, TransientError):
                raise meant
            what = network_error(self.url, "the answer was damaged on the way")
            raise TransientError(meant if isinstance(meant, MedalSError) else what)
        if not 200 <= response.status_code < 300:
            raise explain_answer(self.url, response, content)
        if empty:
            return None
        try:
            values = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise explain_answer(self.url, response, content) from error
        self.signed = announced is not None
        return values

    @contextmanager
    def stream(self, path: str, affinity: str, read_seconds: float) -> Iterator[Iterator[bytes]]:
        """Open an event stream and yield its pieces as they arrive; a single try.

        Args:
            path: Path below the base URL.
            affinity: Session the request belongs to.
            read_seconds: Wait this long for the next piece.

        Raises:
            TransientError: It broke, in a way that may pass.
            MedalSError: As in `request`.
        """
        headers = {**self._headers(affinity), "Accept": "text/event-stream"}
        timeout = (self.options.connect_seconds, read_seconds)
        try:
            with (
                self._session() as session,
                session.get(
                    self.locate(read_seconds) + path,
                    headers=headers,
                    timeout=timeout,
                    stream=True,
                    allow_redirects=False,
                    **self._choices,
                ) as response,
            ):
                if response.status_code != 200 or "text/event-stream" not in response.headers.get("content-type", ""):
                    self._read(response, response.content)
                    raise TransientError(network_error(self.url, "the answer was damaged on the way"))
                yield response.iter_content(chunk_size=None)
        except NETWORK_ERRORS as error:
            raise explain_failure(self.url, error, self.options.connect_seconds) from error
