"""The server's connections: how many there may be, and how long one may wait, stall or only be held open.

uvicorn limits neither the time a request's head takes nor the time an answer is not read, and its one limit on
connections refuses everybody while idle ones stay.  Here a new connection always finds a place while another is idle:
the one that has been idle the longest makes room.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import random
import socket
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from MedalSLib.service.http_errors import error_response, try_later
from MedalSLib.service.logs import log
from MedalSLib.service.middleware import RateLimiter
from MedalSLib.service.settings import SLOWEST, Settings

_FRESH_SECONDS = 1.0
_ACCEPTED_IN_A_ROW = 16
_ARRIVALS_PER_SECOND, _ARRIVALS_AT_ONCE = 100.0, 512
"""New connections of one address in the long run, and at once: a client keeps the few that it has."""


class Listener(socket.socket):
    """A listening socket that knows the connections whose TLS handshake is not over, which uvicorn does not see yet."""

    def __init__(self, *details: Any) -> None:
        super().__init__(*details)
        self.greeting: dict[Any, tuple[socket.socket, float]] = {}
        """Connections by the other end's address, with the time they were accepted."""
        self.admits: Callable[[str], bool] = lambda address: True
        """Whether one more connection of an address is accepted; what is not costs hardly anything here."""
        self._in_a_row = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection and remember it until it can speak HTTP.

        Raises:
            BlockingIOError: There is none, or enough were accepted in a row: asyncio would go on until there is none,
                and serve nobody meanwhile.
        """
        while self._in_a_row < _ACCEPTED_IN_A_ROW:
            self._in_a_row += 1
            connection, address = super().accept()
            if self.admits(address[0]):
                self.greeting[address[:2]] = (connection, time.monotonic())
                return connection, address
            connection.close()
        self._in_a_row = 0
        raise BlockingIOError


class Door:
    """Keeps the connections of one server inside the settings' limits.

    Args:
        settings: Limits.
        listener: The server's socket.
    """

    def __init__(self, settings: Settings, listener: Listener) -> None:
        self.settings = settings
        self._listener = listener
        listener.admits = self._admits
        self._arrivals = RateLimiter(_ARRIVALS_PER_SECOND, _ARRIVALS_AT_ONCE)
        self._proxies = [ipaddress.ip_network(proxy) for proxy in settings.proxies]
        self._connections: set[Connection] = set()
        self._by_address: defaultdict[str, set[Connection]] = defaultdict(set)

    def _admits(self, address: str) -> bool:
        return self._is_proxy(address) or not self._arrivals.wait(address)

    def __len__(self) -> int:
        return len(self._connections) + len(self._listener.greeting)

    def enter(self, connection: Connection) -> bool:
        """Let a connection in, at the cost of an idle one if there are too many; returns whether there was room."""
        self._listener.greeting.pop(connection.peer, None)
        address = connection.peer[0]
        own = self._by_address[address]
        own.add(connection)
        self._connections.add(connection)
        if len(own) > self.settings.connections_per_address and not self._is_proxy(address):
            return self._make_room(own, connection)
        if len(self._connections) > self.settings.connections:
            return self._make_room(self._connections, connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)
        own = self._by_address[connection.peer[0]]
        own.discard(connection)
        if not own:
            del self._by_address[connection.peer[0]]

    def sweep(self) -> None:
        """Close what waits for longer than it may; called once a second."""
        for connection in list(self._connections):
            connection.check(self.settings)
        self._sweep_greetings()

    def _sweep_greetings(self) -> None:
        now = time.monotonic()
        waiting = self._listener.greeting
        for peer, (connection, _) in list(waiting.items()):
            if connection.fileno() == -1:  # closed in the meantime
                del waiting[peer]
        by_address = Counter(peer[0] for peer in waiting)
        for peer, (connection, since) in list(waiting.items()):  # the oldest first
            too_many = by_address[peer[0]] > self.settings.connections_per_address
            if too_many or len(waiting) > self.settings.connections or now - since > self.settings.head_seconds:
                del waiting[peer]
                by_address[peer[0]] -= 1
                with contextlib.suppress(OSError):  # closed in the meantime
                    connection.shutdown(socket.SHUT_RDWR)

    def _is_proxy(self, address: str) -> bool:
        with contextlib.suppress(ValueError):
            return any(ipaddress.ip_address(address) in proxy for proxy in self._proxies)
        return False

    def _make_room(self, among: Collection[Connection], newest: Connection) -> bool:
        idle = [connection for connection in among if connection is not newest and connection.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda connection: connection.quiet_since)
        if newest.quiet_since - oldest.quiet_since < _FRESH_SECONDS:
            oldest = random.choice(idle)  # in a flood, the oldest is as likely as any to be somebody else's
        self.leave(oldest)  # now, and not when its end is noticed: others may come before that
        oldest.transport.abort()
        return True


class Connection(H11Protocol):
    """A connection of uvicorn's that knows how long it has been waiting for a request, or for its answer to be read.

    Args:
        door: Lets it in.
        **details: As of uvicorn's own.
    """

    def __init__(self, door: Door, **details: Any) -> None:
        super().__init__(**details)
        self._door = door
        self.peer: tuple[Any, ...] = ("unknown", 0)
        self.quiet_since = 0.0
        self._unread = (0, 0.0)
        self._refused = False

    @property
    def idle(self) -> bool:
        """Whether no request is being answered, and nothing of an answer is left to be read."""
        answering = self.cycle is not None and not self.cycle.response_complete
        return not answering and not self.transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, or refuse in the client's own words where there is no room."""
        super().connection_made(transport)
        self.peer = (transport.get_extra_info("peername") or ("unknown", id(self)))[:2]
        self.quiet_since = self.loop.time()
        if not self._door.enter(self):
            self._refused = True
            log(logging.WARNING, "connection_refused")
            busy = try_later(503, "The server has too many connections.", "Try again in a moment.", 2.0)
            status, headers, body = error_response(busy, uuid.uuid4().hex)
            lines = [b"HTTP/1.1 %d Busy" % status, *(b"%s: %s" % header for header in headers), b"connection: close"]
            transport.write(b"\r\n".join([*lines, b"", body]))
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._door.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Go on with a request."""
        if self._refused:
            return
        if self.timeout_keep_alive_task is not None:  # the head of a further request begins
            self.quiet_since = self.loop.time()
        super().data_received(data)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self.quiet_since = self.loop.time()
        super().on_response_complete()

    def check(self, settings: Settings) -> None:
        """Close the connection if its head takes too long, or if its answer is not read."""
        now = self.loop.time()
        left = self.transport.get_write_buffer_size()
        before, since = self._unread
        if not left or not since:
            self._unread = (left, now)
        elif now - since > settings.body_seconds:
            if before - left < SLOWEST * settings.body_seconds:
                self.transport.abort()
            self._unread = (left, now)
        if self.idle and self.timeout_keep_alive_task is None and now - self.quiet_since > settings.head_seconds:
            self.transport.abort()
