"""What happens to every request before its route: request id, key, version, rate and size, and an answer to any error.

An ASGI middleware of its own rather than a framework's: a body is refused while it arrives, not after it was taken into
memory.
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
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from MedalSLib.service import protocol
from MedalSLib.service.http_errors import HttpError, damaged, error_response, too_large, try_later
from MedalSLib.service.keys import ApiKeys
from MedalSLib.service.logs import log, log_exception
from MedalSLib.service.server_metrics import Metrics
from MedalSLib.service.settings import MEBIBYTE, Settings, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

ANONYMOUS = "local"
"""Owner of everything on a server without keys."""
PUBLIC = frozenset({"/handshake", "/health", "/ready", "/openapi.json"})
_CHUNK_PATH = re.compile(r"/v1/images/[^/]*/chunks/[^/]*")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})
_BODIES_IN_FLIGHT = 1024 * MEBIBYTE


@dataclass
class _Exchange:
    """What is noted of one request for its answer, the log and the metrics."""

    request_id: str
    owner: str = ""
    status: int = 0
    received: int = 0
    sent: int = 0
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
    """

    def __init__(self, app: App, settings: Settings, keys: ApiKeys | None, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._metrics = metrics
        self._requests = RateLimiter(settings.requests_per_second, settings.request_burst)
        self._failures = RateLimiter(settings.failures_per_minute / 60, settings.failures_per_minute)
        self._in_flight = 0

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

        try:
            self._admit(scope, headers, exchange)
            scope["medals"] = exchange
            await self._app(scope, self._limited(scope, headers, receive, exchange), noted_send)
        except HttpError as error:
            await self._answer(error, exchange, noted_send)
        except Exception as error:
            log_exception("request_crashed", error, request_id=exchange.request_id)
            cause, remedy = "The server failed unexpectedly.", "Tell the administrator the request id."
            await self._answer(HttpError(500, "service", cause, remedy), exchange, noted_send)
        finally:
            self._in_flight -= exchange.received
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
        address = scope["client"][0] if scope.get("client") else "unknown"
        wait = self._failures.wait(address, take=0)
        if wait:
            raise try_later(429, "Too many wrong keys came from this address.", "Wait a minute.", wait)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        owner = keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            self._metrics.wrong_keys.inc()
            if key:
                self._failures.wait(address)
            raise HttpError(
                401,
                "unauthorized",
                "The server does not know this API key." if key else "The server needs an API key.",
                "Check the key, or ask the server's administrator for one.",
            )
        return owner

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive, exchange: _Exchange) -> Receive:
        """Return a `receive` that refuses a body that is too long, too slow, or not the one that was sent.

        Raises:
            HttpError: The announced length is too long already.
        """
        settings = self._settings
        limit = settings.request_bytes
        if _CHUNK_PATH.fullmatch(scope["path"]):
            limit = settings.chunk_bytes + settings.chunk_bytes // 64 + 1024
        announced = headers.get("content-length", "0")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_long(limit)
        expected = headers.get(protocol.DIGEST_HEADER.lower(), "")
        digest = hashlib.sha256() if expected.startswith("sha-256=:") else None
        complete = False

        async def limited() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), settings.body_seconds)
            except asyncio.TimeoutError as error:
                raise HttpError(408, "slow", "The request stopped arriving.", "Check the network.", 1.0) from error
            if message["type"] != "http.request":
                complete = True
                return message
            body = message.get("body", b"")
            exchange.received += len(body)
            self._in_flight += len(body)
            if exchange.received > limit:
                raise _too_long(limit)
            if self._in_flight > _BODIES_IN_FLIGHT:
                raise try_later(503, "The server receives too much at once.", "Try again.", 1.0)
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
