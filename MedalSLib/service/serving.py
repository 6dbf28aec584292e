"""Running the app under uvicorn: the socket, TLS, and the end."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI

from MedalSLib.errors import ServiceError
from MedalSLib.service.connections import Connection, Door, Listener
from MedalSLib.service.logs import configure_logging
from MedalSLib.service.server import Server
from MedalSLib.service.settings import Settings, check_exposure

SHUTDOWN_SECONDS = 5
SWITCH_SECONDS = 0.0002
"""How long a thread that computes keeps Python's lock while others want it.  Each connection that is accepted needs it
some ten times, and so does each answer; with 0.005, or 0.001, a flood's connections are accepted too slowly."""


def bind(host: str, port: int) -> Listener:
    """Return a listening socket.

    Raises:
        ServiceError: The address is taken, or not one of this machine's.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = Listener(family, kind, proto)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise ServiceError(
            f"The server cannot listen on {host} port {port} ({error.strerror or error}).",
            "Choose another port, or stop the program that uses it.",
        ) from error
    return listener


def make_server(
    app: FastAPI, settings: Settings, on_listening: Callable[[], None] = lambda: None
) -> tuple[uvicorn.Server, Listener]:
    """Return a server that is ready to `run(sockets=[...])`, and its socket.

    Args:
        app: What `create_app` returned.
        settings: The same settings.
        on_listening: Called as soon as connections are accepted.

    Raises:
        ServiceError: Exposed without key or TLS, or the address or the certificate cannot be used.
    """
    check_exposure(settings)
    listener = bind(settings.host, settings.port)
    try:
        door = Door(settings, listener)
        app.state.server.metrics.watch("medals_connections", "Open connections", lambda: len(door))
        return _Server(_configure(app, settings, door), door, on_listening, app.state.server), listener
    except BaseException:
        listener.close()
        raise


def _configure(app: FastAPI, settings: Settings, door: Door) -> uvicorn.Config:
    protocol: Any = partial(Connection, door)
    config = uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        proxy_headers=False,  # `create_app` believes those that are named, here and on Ray
        timeout_keep_alive=30,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.certificate_key,
    )
    try:
        config.load()
    except OSError as error:  # ssl.SSLError is one
        raise ServiceError(f"The TLS certificate cannot be used ({error}).", "Check the two PEM files.") from error
    return config


def serve_app(app: FastAPI, settings: Settings, on_listening: Callable[[int], None] = lambda port: None) -> None:
    """Serve until the process is asked to stop (SIGINT or SIGTERM).

    Args:
        app: What `create_app` returned.
        settings: The same settings.
        on_listening: Told the port as soon as connections are accepted.

    Raises:
        ServiceError: See `make_server`.
    """
    configure_logging()
    sys.setswitchinterval(SWITCH_SECONDS)
    app.state.server.after_first_run = _spare_the_collector
    server, listener = make_server(app, settings, lambda: on_listening(listener.getsockname()[1]))
    with listener:
        server.run(sockets=[listener])


def _spare_the_collector() -> None:
    """Let the garbage collector pass over what stays: looking through a model stops everything for 0.2 s each time."""
    gc.collect()
    gc.freeze()


def tell_systemd(state: str) -> None:
    """Tell systemd how the server is, if it was started as a service of the type notify."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.setblocking(False)
        channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


class _Server(uvicorn.Server):
    """Says when it listens, which uvicorn itself only logs, and looks after its connections."""

    def __init__(self, config: uvicorn.Config, door: Door, announce: Callable[[], None], parts: Server) -> None:
        super().__init__(config)
        self._door = door
        self._announce = announce
        self._parts = parts

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then announce."""
        await super().startup(sockets=sockets)
        if self.started:
            self._announce()
            tell_systemd("READY=1")

    async def on_tick(self, counter: int) -> bool:
        """Do what uvicorn does ten times a second, and look at the connections once."""
        if counter % 10 == 0:
            self._door.sweep()
            if not self._parts.stuck:
                tell_systemd("WATCHDOG=1")
        return await super().on_tick(counter)
