"""The server as an ASGI app: routes, middleware and error answers around a `Server`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import MedalSLib
from MedalSLib.errors import MedalSError
from MedalSLib.service.encoding import DamagedError
from MedalSLib.service.http_errors import HttpError, error_response, invalid, to_http_error
from MedalSLib.service.middleware import Middleware
from MedalSLib.service.routes import keyed_router, public_router
from MedalSLib.service.server import EngineFactory, Server
from MedalSLib.service.settings import Settings


def create_app(engine_factory: EngineFactory, settings: Settings | None = None) -> FastAPI:
    """Return the server as an ASGI app.

    Args:
        engine_factory: Makes the engine, in a thread, when the server starts.
        settings: Limits and keys; the defaults are for the loopback.

    Raises:
        ServiceError: The key file cannot be used.
    """
    server = Server(engine_factory, settings or Settings())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        server.engine.start()
        sweeper = asyncio.create_task(server.sweep_forever())
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(server.close)

    app = FastAPI(
        title="Medal S",
        summary="Text- and mask-prompted segmentation of 3-D medical images",
        version=MedalSLib.__version__,
        lifespan=lifespan,
        docs_url=None,  # their scripts come from the internet, which a hospital's server may not reach
        redoc_url=None,
    )
    app.state.server = server
    app.include_router(public_router)
    app.include_router(keyed_router)
    for error in (HTTPException, MedalSError, RequestValidationError, DamagedError, MemoryError):
        app.add_exception_handler(error, _answer_error)
    app.add_middleware(
        Middleware, settings=server.settings, keys=server.keys, metrics=server.metrics, store=server.store
    )
    if server.settings.proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=list(server.settings.proxies))
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    # The framework answers 400 for whatever happens while it reads a body; the reason is the cause.
    answer = to_http_error(error) or (error.__cause__ if isinstance(error.__cause__, HttpError) else None)
    if isinstance(error, RequestValidationError):
        answer = invalid(_where(error))
    elif answer is None:  # of the framework itself: no such route or method, or a body that cannot be parsed
        status = getattr(error, "status_code", 400)
        known = status in (404, 405)
        cause = "There is nothing at this address." if known else "The request cannot be read."
        answer = HttpError(status if known else 400, "no_route" if known else "invalid", cause, "See /openapi.json.")
    status, headers, body = error_response(answer, request.scope["medals"].request_id)
    response = Response(body, status)
    response.raw_headers = list(headers)
    if isinstance(error, HTTPException) and error.headers:
        response.raw_headers += [(k.lower().encode(), v.encode()) for k, v in error.headers.items()]
    return response


def _where(error: RequestValidationError) -> str:
    """Say which field is wrong and why, without quoting what was sent."""
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][:3] if isinstance(part, int) or str(part).isidentifier())
    return f"{place or 'body'}: {first['type'].replace('_', ' ')}"
