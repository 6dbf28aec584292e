"""HTTP for the client: the headers every request carries, and retries that are safe.

Every request of the protocol may be repeated (see `protocol`), so whatever looks like the network's fault is tried
again until `patience` is over.  Redirects are never followed: the key must not travel to another host.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping
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
        read_seconds: Wait this long for the next bytes of an answer.
        patience_seconds: Repeat what failed through the network, or was refused as busy, for this long.
        verify: As in requests: True for the system's certificates, a path to a CA bundle, or False (not advised).
        proxies: As in requests; None for the environment's (HTTPS_PROXY, NO_PROXY).
        use_environment: Whether the environment's proxies and certificates count; False for a child on the loopback.
    """

    api_key: str = field(default="", repr=False)
    connect_seconds: float = 10.0
    read_seconds: float = 120.0
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
        self._local = threading.local()
        self._sessions: weakref.WeakSet[requests.Session] = weakref.WeakSet()

    # What a server that starts its own child process does otherwise (see `MedalSLib.service.child`):

    def locate(self, cancel: threading.Event | None = None) -> str:
        """Return the base URL for the next try; `cancel` ends a waiting for it."""
        return self.url

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
        for session in list(self._sessions):
            session.close()

    @property
    def _choices(self) -> dict[str, Any]:
        """What was asked for, given with each request: on a session, requests lets the environment override it."""
        verify = None if self.options.verify is True else self.options.verify
        return {"verify": verify, "proxies": None if self.options.proxies is None else dict(self.options.proxies)}

    def _session(self) -> requests.Session:
        """Return this thread's HTTP session: those of requests are not safe to share between threads."""
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = self.options.use_environment
            session.auth = _Bearer(self.options.api_key)
            self._local.session = session
            self._sessions.add(session)
        return session

    def request(
        self,
        method: str,
        path: str,
        *,
        message: Any = None,
        data: bytes | None = None,
        affinity: str = "",
        with_key: bool = True,
        patience: float | None = None,
        read_seconds: float | None = None,
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
            patience: Seconds to repeat for; None for the options' value, 0 for a single try.
            read_seconds: Wait this long for an answer; None for the options' value.
            cancel: Ends the repeating.

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
        end = time.monotonic() + (self.options.patience_seconds if patience is None else patience)
        pause = FIRST_PAUSE
        timeout = (self.options.connect_seconds, read_seconds or self.options.read_seconds)
        auth = _Bearer(self.options.api_key if with_key else "")
        while True:
            if cancel is not None and cancel.is_set():
                raise CancelledError()
            try:
                return self._try(method, path, body, headers, auth, timeout, cancel)
            except TransientError as fault:
                wait = pause * (0.5 + random.random() / 2) if fault.pause is None else fault.pause
                if time.monotonic() + wait >= end:
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
        timeout: tuple[float, float],
        cancel: threading.Event | None,
    ) -> Any:
        try:
            response = self._session().request(
                method,
                self.locate(cancel) + path,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                auth=auth,
                **self._choices,
            )
        except NETWORK_ERRORS as error:
            raise explain_failure(self.url, error, self.options.connect_seconds) from error
        if not 200 <= response.status_code < 300:
            raise explain_answer(self.url, response, response.content)
        announced = response.headers.get(protocol.DIGEST_HEADER)
        if response.status_code == 204:
            return None
        if announced is not None and announced != body_digest(response.content):
            raise TransientError(network_error(self.url, "the answer was damaged on the way"))
        try:
            return json.loads(response.content)
        except (ValueError, RecursionError) as error:
            raise explain_answer(self.url, response, response.content) from error

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
            with self._session().get(
                self.locate() + path,
                headers=headers,
                timeout=timeout,
                stream=True,
                allow_redirects=False,
                **self._choices,
            ) as response:
                if response.status_code != 200 or "text/event-stream" not in response.headers.get("content-type", ""):
                    raise explain_answer(self.url, response, response.content)
                yield response.iter_content(chunk_size=None)
        except NETWORK_ERRORS as error:
            raise explain_failure(self.url, error, self.options.connect_seconds) from error
