"""What happens to every request before its route: request id, key, version, rate and size, and an answer to any error.

An ASGI middleware of its own rather than a framework's: a body is refused while it arrives, not after it was taken into
memory, and its memory is granted by the same budget as everything else.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import logging
import re
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool

from MedalSLib.service import protocol
from MedalSLib.service.http_errors import HttpError, damaged, error_response, to_http_error, too_large, try_later
from MedalSLib.service.keys import ADMIN, RUN, SEE_METRICS, ApiKeys
from MedalSLib.service.logs import log, log_exception
from MedalSLib.service.server_metrics import Metrics
from MedalSLib.service.settings import MEBIBYTE, SLOWEST, Settings, is_loopback
from MedalSLib.service.store import Store

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ANONYMOUS = "local"
"""Owner of everything on a server without keys."""
PUBLIC = frozenset({"/handshake", "/health", "/ready", "/openapi.json"})
KEYS_PATH = "/v1/keys"
_SCOPES = {"/metrics": SEE_METRICS, KEYS_PATH: ADMIN}
"""What a key must be for, where that is not `RUN`."""
_CHUNK_PATH = re.compile(r"/v1/images/[^/]*/chunks/[^/]*")
_RUN_PATH = re.compile(r"/v1/sessions/[^/]*/(estimate|runs/[^/]*)")
_SHORT_BODY = 8192
"""Bytes of the requests that carry no masks."""
_BODY_COPIES = 3
"""Times a body is in memory while it is read: as it came, in one piece, and as the values it stands for."""
_GRANT_STEP = MEBIBYTE
_SPARE_CONNECTIONS = 32
"""Connections that are left to those who only ask how the server is."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass
class _Exchange:
    """What is noted of one request for its answer, the log and the metrics."""

    request_id: str
    owner: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0
    granted: int = 0
    body_pending: bool = False


class RateLimiter:
    """Lets each name do `burst` things at once and `per_second` in the long run.

    Args:
        per_second: Tokens that come back a second.
        burst: Tokens of a name that was quiet.
        names: Most names remembered; the longest quiet is forgotten first.
        clock: Monotonic seconds.
    """

    def __init__(
        self, per_second: float, burst: int, names: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = burst
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, take: int = 1) -> float:
        """Take tokens and return 0.0, or take none and return the seconds until there are enough.

        With `take=0` nothing is taken: says whether the name is refused now.
        """
        now = self._clock()
        with self._lock:
            tokens, then = self._buckets.pop(name, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - then) * self._rate)
            enough = tokens >= max(take, 1)
            self._buckets[name] = (tokens - take if enough else tokens, now)
            while len(self._buckets) > self._names:
                self._buckets.popitem(last=False)
        return 0.0 if enough else (max(take, 1) - tokens) / self._rate


class Middleware:
    """Checks each request before the app sees it, and answers for whatever fails in the app.

    Args:
        app: The app it wraps.
        settings: Limits.
        keys: Accepted keys; None lets everybody in (a server on the loopback).
        metrics: Where requests are counted.
        store: Grants the memory of bodies.
    """

    def __init__(self, app: App, settings: Settings, keys: ApiKeys | None, metrics: Metrics, store: Store) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._store = store
        self._requests = RateLimiter(settings.requests_per_second, settings.request_burst)
        self._failures = RateLimiter(settings.failures_per_minute / 60, settings.failures_per_minute)
        self._answering: Counter[str] = Counter()
        metrics.watch("medals_answering", "Requests with a key that are being answered", self._answering.total)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        offered = headers.get(protocol.REQUEST_ID_HEADER.lower(), "")
        exchange = _Exchange(offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex)
        exchange.body_pending = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        begun = time.monotonic()

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    # A body that was refused before it was read must not be taken for the next request.
                    *([(b"connection", b"close")] if exchange.body_pending else []),
                    (protocol.REQUEST_ID_HEADER.lower().encode(), exchange.request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            else:
                exchange.sent += len(message.get("body", b""))
            await send(message)

        counted = ""
        try:
            self._admit(scope, headers, exchange)
            scope["medals"] = exchange
            if exchange.owner:
                self._count(exchange.owner)
                counted = exchange.owner
            await self._app(scope, self._limited(scope, headers, receive, exchange), noted_send)
        except HttpError as error:
            await self._answer(error, exchange, noted_send)
        except Exception as error:
            log_exception("request_crashed", error, request_id=exchange.request_id)
            cause, remedy = "The server failed unexpectedly.", "Tell the administrator the request id."
            await self._answer(to_http_error(error) or HttpError(500, "service", cause, remedy), exchange, noted_send)
        finally:
            if counted:
                self._answering[counted] -= 1
            if exchange.granted:
                self._store.give_back(exchange.owner, exchange.granted)
            self._note(scope, exchange, time.monotonic() - begun)

    def _admit(self, scope: Scope, headers: dict[str, str], exchange: _Exchange) -> None:
        """Check who asks and in which version.

        Raises:
            HttpError: 400, 401, 426 or 429.
        """
        path = scope["path"]
        if self._keys is None and is_loopback(self._settings.host):
            # DNS rebinding: a web page whose name was made to point here still sends its own name.
            host = re.sub(r":\d+$", "", headers.get("host", ""))
            if host.casefold() not in _LOCAL_NAMES:
                raise HttpError(400, "invalid", "The request names another host.", "Use http://127.0.0.1.")
        if path in PUBLIC:
            return
        exchange.owner = ANONYMOUS if self._keys is None else self._owner(self._keys, scope, headers)
        wait = self._requests.wait(exchange.owner)
        if wait:
            raise try_later(429, "Too many requests with this key.", "Slow down.", wait)
        spoken = headers.get(protocol.PROTOCOL_HEADER.lower(), str(protocol.PROTOCOL))
        version = int(spoken) if re.fullmatch(r"[0-9]{1,6}", spoken) else -1
        problem = protocol.version_problem(protocol.PROTOCOL, protocol.OLDEST_PROTOCOL, version, version)
        if problem:
            raise HttpError(426, "version", problem)

    def _owner(self, keys: ApiKeys, scope: Scope, headers: dict[str, str]) -> str:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        record = keys.find(key.strip()) if scheme.lower() == "bearer" else None
        if record is None:
            raise self._refusal(keys, key, scope["client"][0] if scope.get("client") else "unknown")
        if _SCOPES.get(scope["path"], RUN) not in record.scopes:
            raise HttpError(403, "forbidden", "This key is not for that.", "Ask the administrator for another key.")
        keys.note_use(record.name)
        return record.name

    def _refusal(self, keys: ApiKeys, key: str, address: str) -> HttpError:
        """Return the answer to a key that is not known; only such ones are counted and slowed down."""
        if keys.problem is not None:
            cause = "The server's key file cannot be used, so that it knows no key."
            return try_later(503, cause, "Tell the server's administrator.", 5.0)
        self._metrics.wrong_keys.inc()
        wait = self._failures.wait(address) if key else 0.0
        if wait:
            return try_later(429, "Too many wrong keys came from this address.", "Check the key; wait a minute.", wait)
        return HttpError(
            401,
            "unauthorized",
            "The server does not know this API key." if key else "The server needs an API key.",
            "Check the key, or ask the server's administrator for one.",
        )

    def _count(self, owner: str) -> None:
        """Count a request that is being answered.

        Raises:
            HttpError: 429 or 503, there are too many.
        """
        if self._answering[owner] >= self._settings.requests_at_once:
            raise try_later(429, "Too many requests of this key are being answered.", "Ask for less at once.", 1.0)
        if self._answering.total() >= self._settings.connections - _SPARE_CONNECTIONS:
            raise try_later(503, "The server answers too many requests.", "Try again in a moment.", 1.0)
        self._answering[owner] += 1

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive, exchange: _Exchange) -> Receive:
        """Return a `receive` that refuses a body that is too long, too slow, or not the one that was sent.

        Raises:
            HttpError: The announced length is too long already.
        """
        settings = self._settings
        limit = settings.request_bytes if _RUN_PATH.fullmatch(scope["path"]) else _SHORT_BODY
        if _CHUNK_PATH.fullmatch(scope["path"]):
            limit = settings.chunk_bytes + settings.chunk_bytes // 64 + 1024
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_long(limit)
        expected = headers.get(protocol.DIGEST_HEADER.lower(), "")
        digest = hashlib.sha256() if expected.startswith("sha-256=:") else None
        complete = False
        begun = time.monotonic()

        async def limited() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            patience = begun + settings.body_seconds + exchange.received / SLOWEST - time.monotonic()
            try:
                message = await asyncio.wait_for(receive(), min(settings.body_seconds, max(0.0, patience)))
            except asyncio.TimeoutError as error:
                raise HttpError(408, "slow", "The request arrives too slowly.", "Check the network.", 1.0) from error
            if message["type"] != "http.request":
                complete = True
                return message
            body = message.get("body", b"")
            exchange.received += len(body)
            if exchange.received > limit:
                raise _too_long(limit)
            if exchange.received * _BODY_COPIES > exchange.granted and exchange.received > _SHORT_BODY:
                wanted = min(limit, exchange.received + _GRANT_STEP) * _BODY_COPIES - exchange.granted
                await run_in_threadpool(self._store.take, exchange.owner, wanted)
                exchange.granted += wanted
            if digest is not None:
                digest.update(body)
            complete = not message.get("more_body", False)
            exchange.body_pending = not complete
            if complete and digest is not None:
                actual = f"sha-256=:{base64.b64encode(digest.digest()).decode('ascii')}:"
                if not hmac.compare_digest(actual.encode(), expected.encode("latin-1")):
                    raise damaged("its SHA-256 is another one")
            return message

        return limited

    async def _answer(self, error: HttpError, exchange: _Exchange, send: Send) -> None:
        if exchange.status:
            return  # the answer has begun: all that is left is to end the connection, which the server does
        status, headers, body = error_response(error, exchange.request_id)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _note(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in {"GET", "PUT", "POST", "DELETE"} else "other"
        self._metrics.requests.labels(method, route, str(exchange.status)).inc()
        self._metrics.received.inc(exchange.received)
        self._metrics.sent.inc(exchange.sent)
        log(
            logging.INFO if exchange.status < 500 else logging.WARNING,
            "request",
            request_id=exchange.request_id,
            who=exchange.owner,
            method=method,
            route=route,
            status=exchange.status,
            received=exchange.received,
            sent=exchange.sent,
            ms=round(seconds * 1000, 1),
        )


def _too_long(limit: int) -> HttpError:
    return too_large(f"The request is longer than {limit} bytes.", "Send less at once.")
