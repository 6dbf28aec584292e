"""The server as an ASGI app: `create_app(engine_factory, settings)` wires the rooms' parts to the routes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

import MedalSLib
from MedalSLib.errors import MedalSError
from MedalSLib.service.gate import Gate, error_response
from MedalSLib.service.keys import ApiKeys
from MedalSLib.service.loading import EngineFactory, LoadedEngine
from MedalSLib.service.logs import AuditLog
from MedalSLib.service.metrics import Metrics
from MedalSLib.service.performing import Performer
from MedalSLib.service.refusal import Refusal, invalid, refusal_of
from MedalSLib.service.routes import router
from MedalSLib.service.runs import Run, RunQueue
from MedalSLib.service.settings import Settings
from MedalSLib.service.store import Store

SWEEP_SECONDS = 1.0


class Service:
    """Everything one server holds; the routes find it as `app.state.service`.

    Args:
        engine_factory: Makes the engine, in a thread, when the server starts.
        settings: Limits and keys.
    """

    def __init__(self, engine_factory: EngineFactory, settings: Settings) -> None:
        self.settings = settings
        self.keys = ApiKeys(settings.key_file, settings.keys) if settings.authenticated else None
        self.metrics = Metrics()
        self.audit = AuditLog(settings.audit_file)
        self.engine = LoadedEngine(engine_factory)
        self.store = Store(settings, lambda what: self.metrics.evictions.labels(what).inc())
        perform = Performer(self.store.reserve, self.store.release, self._run_ended, self.store.relieve)
        self.queue = RunQueue(perform, settings.queue_length, settings.runs_per_key)
        self.metrics.watch("medals_sessions", "Open sessions", self.store.session_count)
        self.metrics.watch("medals_memory_bytes", "Memory granted", self.store.used_bytes)
        self.metrics.watch("medals_queue_length", "Runs queued or running", lambda: len(self.queue))
        self.metrics.watch("medals_audit_failures", "Audit entries not written", lambda: self.audit.failures)

    @property
    def stuck(self) -> bool:
        """Whether a cancelled run has not ended for so long that only a restart will help."""
        run = self.queue.running
        return (
            run is not None
            and run.cancelled_at is not None
            and time.monotonic() - run.cancelled_at > self.settings.stuck_seconds
        )

    def _run_ended(self, run: Run, seconds: float, names: tuple[str, ...]) -> None:
        self.store.close_evicted()  # a session that ended under its run waits for this moment
        self.metrics.runs.labels(run.state).inc()
        self.metrics.run_seconds.observe(seconds)
        fields = {"run": run.id, "session": run.session.id, "outcome": run.state, "seconds": round(seconds, 2)}
        self.audit.write(run.owner, "run_ended", {**fields, "structures": list(names)})

    async def sweep_forever(self) -> None:
        """Free what nobody uses any more, once a second."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for session in await asyncio.to_thread(self.store.sweep):
                self.audit.write(session.owner, "session_expired", {"session": session.id})

    def close(self) -> None:
        """End the runs, the sessions and the engine."""
        self.queue.stop()
        self.store.close()
        self.engine.close()


def create_app(engine_factory: EngineFactory, settings: Settings | None = None) -> FastAPI:
    """Return the server as an ASGI app.

    Args:
        engine_factory: Makes the engine, in a thread, when the server starts.
        settings: Limits and keys; the defaults are for the loopback.

    Raises:
        ServiceError: The key file cannot be used.
    """
    service = Service(engine_factory, settings or Settings())

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        sweeper = asyncio.create_task(service.sweep_forever())
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Medal S",
        summary="Text- and mask-prompted segmentation of 3-D medical images",
        version=MedalSLib.__version__,
        lifespan=lifespan,
        docs_url=None,  # their scripts come from the internet, which a hospital's server may not reach
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(HTTPException, _answer_refusal)
    app.add_exception_handler(MedalSError, _answer_refusal)
    app.add_exception_handler(RequestValidationError, _answer_refusal)
    app.add_middleware(Gate, settings=service.settings, keys=service.keys, metrics=service.metrics)
    return app


async def _answer_refusal(request: Request, error: Exception) -> Response:
    if isinstance(error, Refusal):
        refusal = error
    elif isinstance(error, MedalSError):
        refusal = refusal_of(error)
    elif isinstance(error, RequestValidationError):
        refusal = invalid(_where(error))
    elif isinstance(error, HTTPException) and error.status_code in (404, 405):
        refusal = Refusal(error.status_code, "no_route", "There is nothing at this address.", "See /openapi.json.")
    else:
        refusal = Refusal(400, "invalid", "The request cannot be read.", "See /openapi.json.")
    status, headers, body = error_response(refusal, request.scope["medals"].request_id)
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
