"""The door of the server, before any route: request ids, keys, versions, rates, sizes, and an answer to everything.

An ASGI middleware, so that a body is refused while it arrives and not after it was taken into memory.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from MedalSLib.service import protocol
from MedalSLib.service.encoding import body_digest
from MedalSLib.service.keys import ApiKeys
from MedalSLib.service.limits import RateLimiter
from MedalSLib.service.logs import log, log_exception
from MedalSLib.service.metrics import Metrics
from MedalSLib.service.refusal import Refusal, damaged
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


def error_response(refusal: Refusal, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of a refusal."""
    body = json.dumps(protocol.to_json(refusal.body(request_id))).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (protocol.DIGEST_HEADER.lower().encode(), body_digest(body).encode()),
    ]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(refusal.retry_after))).encode()))
    if refusal.status_code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return refusal.status_code, headers, body


class Gate:
    """Lets a request in if it may come in, and answers for everything that goes wrong behind it.

    Args:
        app: What is behind the gate.
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
                    # What was refused unread is not read afterwards either.
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
        except Refusal as refusal:
            await self._refuse(refusal, exchange, noted_send)
        except Exception as error:
            log_exception("request_crashed", error, request_id=exchange.request_id)
            crash = Refusal(500, "service", "The server failed unexpectedly.", "Tell the administrator the request id.")
            await self._refuse(crash, exchange, noted_send)
        finally:
            self._in_flight -= exchange.received
            self._note(scope, exchange, time.monotonic() - begun)

    def _admit(self, scope: Scope, headers: dict[str, str], exchange: _Exchange) -> None:
        """Check who asks and in which version.

        Raises:
            Refusal: 400, 401, 426 or 429.
        """
        path = scope["path"]
        if self._keys is None and is_loopback(self._settings.host):
            # A web page whose name was made to point here (DNS rebinding) still sends its own name.
            host = re.sub(r":\d+$", "", headers.get("host", ""))
            if host.casefold() not in _LOCAL_NAMES:
                raise Refusal(400, "invalid", "The request names another host.", "Use http://127.0.0.1.")
        if path in PUBLIC:
            return
        exchange.owner = ANONYMOUS if self._keys is None else self._owner(self._keys, scope, headers)
        wait = self._requests.wait(exchange.owner)
        if wait:
            raise Refusal(429, "rate_limited", "Too many requests with this key.", "Slow down.", wait)
        spoken = headers.get(protocol.PROTOCOL_HEADER.lower(), str(protocol.PROTOCOL))
        version = int(spoken) if re.fullmatch(r"[0-9]{1,6}", spoken) else -1
        problem = protocol.version_problem(protocol.PROTOCOL, protocol.OLDEST_PROTOCOL, version, version)
        if problem:
            raise Refusal(426, "version", problem)

    def _owner(self, keys: ApiKeys, scope: Scope, headers: dict[str, str]) -> str:
        address = scope["client"][0] if scope.get("client") else "unknown"
        wait = self._failures.wait(address, take=0)
        if wait:
            raise Refusal(429, "rate_limited", "Too many wrong keys came from this address.", "Wait a minute.", wait)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        owner = keys.owner(key.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            self._metrics.wrong_keys.inc()
            if key:
                self._failures.wait(address)
            raise Refusal(
                401,
                "unauthorized",
                "The server does not know this API key." if key else "The server needs an API key.",
                "Check the key, or ask the server's administrator for one.",
            )
        return owner

    def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive, exchange: _Exchange) -> Receive:
        """Return a `receive` that refuses a body that is too long, too slow, or not the one that was sent.

        Raises:
            Refusal: The announced length is too long already.
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
                raise Refusal(408, "slow", "The request stopped arriving.", "Check the network.", 1.0) from error
            if message["type"] != "http.request":
                complete = True
                return message
            body = message.get("body", b"")
            exchange.received += len(body)
            self._in_flight += len(body)
            if exchange.received > limit:
                raise _too_long(limit)
            if self._in_flight > _BODIES_IN_FLIGHT:
                raise Refusal(503, "busy", "The server receives too much at once.", "Try again.", 1.0)
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

    async def _refuse(self, refusal: Refusal, exchange: _Exchange, send: Send) -> None:
        if exchange.status:
            return  # the answer has begun: all that is left is to end the connection, which the server does
        status, headers, body = error_response(refusal, exchange.request_id)
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


def _too_long(limit: int) -> Refusal:
    return Refusal(413, "too_large", f"The request is longer than {limit} bytes.", "Send less at once.")
