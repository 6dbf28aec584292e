"""Serves the page on the loopback, below a random token."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"
_HEADERS = {
    # The token is part of the address, so that it must not go to another site; nothing of the page comes from one.
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws://127.0.0.1:*"
    ),
}


def serve(server: Any, keep_s: float, on_ready: Callable[[str], None]) -> None:
    """Serve until the page was closed for long, or the process is ended.

    Nothing is answered outside the path that begins with the token: neither the page nor its files nor the websocket.

    Args:
        server: The trame server with its page.
        keep_s: Seconds after which it ends when the page was closed; 0 for never.
        on_ready: Called with the address.
    """
    token = secrets.token_urlsafe(24)

    def below_token(wslink_server: Any) -> None:
        from aiohttp import web

        @web.middleware
        async def with_headers(request: web.Request, handler: Any) -> web.StreamResponse:
            response: web.StreamResponse = await handler(request)
            if not response.prepared:
                response.headers.update(_HEADERS)
            return response

        inner, outer = wslink_server.app, web.Application(middlewares=[with_headers])
        # wslink adds the routes of files when it starts, to what is its application then.
        inner.add_routes(wslink_server._default_routes)
        wslink_server._default_routes = []
        outer.add_subapp(f"/{token}", inner)
        wslink_server.set_app(outer)

    def ready(**_state: object) -> None:
        on_ready(f"http://{HOST}:{server.port}/{token}/index.html")

    server.controller.on_server_bind.add(below_token)
    server.controller.on_server_ready.add(ready)
    server.start(
        port=0,
        host=HOST,
        timeout=keep_s,
        open_browser=False,
        show_connection_info=False,
        disable_logging=True,
        backend="aiohttp",
    )
