"""The routes of the server: what each address does.  Keys, sizes and rates are checked before, in `middleware`."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import chain
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import MedalSLib
from MedalSLib.service import protocol
from MedalSLib.service.encoding import DamagedError, body_digest
from MedalSLib.service.event_format import format_event
from MedalSLib.service.http_errors import (
    HttpError,
    invalid,
    run_lost,
    too_large,
)
from MedalSLib.service.logs import log
from MedalSLib.service.middleware import KEYS_PATH
from MedalSLib.service.run_messages import check_request, decode_request
from MedalSLib.service.server import Server
from MedalSLib.service.sessions import OpenSession, Run
from MedalSLib.service.settings import Settings

PING_SECONDS = 2.0
LONGEST_NAME = 64
LONG_JSON = 8192
"""Bytes of JSON that are parsed at once in the event loop."""
MOST_VALUES = 50_000
"""Commas and brackets in a request: 512 masks and as many locked ones have less than 30,000."""
_COUNTED_AT_ONCE = 1 << 19
"""Bytes of a long body looked through before another thread may run."""
LONGEST_STREAM_SECONDS = 25.0
"""An event stream ends after this long and is asked for again, so that even a proxy that collects whole answers
before it hands them on delivers progress."""

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": protocol.ErrorBody, "description": text}
    for status, text in {
        400: "Cannot be read",
        401: "No API key, or an unknown one",
        403: "Not with this API key",
        404: "Not found or expired",
        405: "Method not allowed",
        408: "Arrived too slowly",
        409: "Conflicts with the current state",
        413: "Too large",
        422: "Damaged, or cannot be used",
        426: "Another protocol version",
        429: "Too many requests; see Retry-After",
        503: "Busy or loading; see Retry-After",
        507: "Out of memory",
    }.items()
}


class _Body(Request):
    """A request whose body, if it is long, is parsed and checked in a thread: the event loop has others to serve."""

    async def json(self) -> Any:
        """Return the body's values."""
        body = await self.body()
        if len(body) <= LONG_JSON:
            return json.loads(body)
        server: Server = self.app.state.server
        async with server.thinking.turn(self.scope["medals"].owner):
            return await run_in_threadpool(_parse_run, body)


def _parse_run(body: bytes) -> Any:
    """Return the values of a long body, which only a `RunMessage` can be.

    Raises:
        HttpError: It is none, or it holds more values than any has.
    """
    starts = range(0, len(body), _COUNTED_AT_ONCE)
    if sum(body.count(sign, start, start + _COUNTED_AT_ONCE) for start in starts for sign in b",[{") > MOST_VALUES:
        raise too_large("The request holds too many values.", "Split it into several runs.")
    try:
        values = from_json(body)  # a fifth of json.loads' time, in which no other thread runs
        protocol.from_json(protocol.RunMessage, values)  # stops at the first error, where pydantic collects them all
    except ValueError as error:
        raise invalid(str(error)) from error
    return values


class _BodyRoute(APIRoute):
    """Reads its body by `_Body`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the framework's handler with another class of requests."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_Body(request.scope, request.receive))

        return handle


public_router = APIRouter(responses=_ERRORS)
"""Answered without a key."""
# The dependency only describes the key in the OpenAPI document: the middleware has checked it already.
keyed_router = APIRouter(
    responses=_ERRORS,
    dependencies=[Depends(HTTPBearer(auto_error=False, description="API key"))],
    route_class=_BodyRoute,
)

Digest = Annotated[str, Path(pattern=f"^{protocol.DIGEST.pattern}$", description="SHA-256 of the image")]
Identifier = Annotated[str, Path(pattern=f"^{protocol.IDENTIFIER.pattern}$", description="Chosen by the client")]


@dataclass(frozen=True)
class Caller:
    """The name of the key that asks, and the server that answers; what belongs to other keys is not found."""

    owner: str
    server: Server


# Dependencies of the routes: what they need is looked up from the request, or answered with 404.


async def get_server(request: Request) -> Server:
    """Return the server that answers."""
    return request.app.state.server


async def get_caller(request: Request) -> Caller:
    """Return who asks, as the middleware found it."""
    return Caller(request.scope["medals"].owner, request.app.state.server)


ServerOf = Annotated[Server, Depends(get_server)]
CallerOf = Annotated[Caller, Depends(get_caller)]


def get_session(session: Identifier, caller: CallerOf) -> OpenSession:
    """Return a session of the key that asks, and renew its lease."""
    return caller.server.store.session(caller.owner, session)


def get_used_session(session: Identifier, caller: CallerOf) -> OpenSession:
    """Return a session of the key that asks, and renew its lease and its idle time."""
    return caller.server.store.session(caller.owner, session, used=True)


SessionOf = Annotated[OpenSession, Depends(get_session)]
UsedSessionOf = Annotated[OpenSession, Depends(get_used_session)]


def get_run(run: Identifier, session: UsedSessionOf) -> Run:
    """Return a run of a session of the key that asks."""
    found = session.runs.get(run)
    if found is None:
        raise run_lost()
    return found


def get_last_event(
    request: Request,
    after: Annotated[int, Query(ge=0, description="Number of the last event that was read")] = 0,
) -> int:
    """Return the number of the last event that was read: `Last-Event-ID` (of the SSE standard), else the query's."""
    resumed = request.headers.get("last-event-id", "")
    return int(resumed) if resumed.isascii() and resumed.isdecimal() and len(resumed) < 19 else after


RunOf = Annotated[Run, Depends(get_run)]


def answer(message: Any, status: int = 200) -> Response:
    """Return a message as JSON with its digest."""
    return _json_bytes(json.dumps(message if isinstance(message, dict) else protocol.to_json(message)).encode(), status)


def _json_bytes(body: bytes, status: int = 200) -> Response:
    headers = {protocol.DIGEST_HEADER: body_digest(body)}
    return Response(body, status, headers, media_type="application/json")


@public_router.get("/handshake", response_model=protocol.Handshake)
async def handshake(server: ServerOf) -> Response:
    """Say that this is Medal S, and in which versions it speaks."""
    authentication = "key" if server.keys is not None else "none"
    return answer(
        protocol.Handshake(
            protocol.SERVICE,
            protocol.PROTOCOL,
            protocol.OLDEST_PROTOCOL,
            MedalSLib.__version__,
            authentication,
        )
    )


@public_router.get("/health", response_model=dict[str, str])
async def health(server: ServerOf) -> Response:
    """Say whether the process works; 503 asks for a restart, which helps neither a full disk nor a damaged file."""
    values = {
        "status": "stuck" if server.stuck else "ok",
        "audit": "failing" if server.audit.failures else "ok",
        "keys": "failing" if server.keys_failing else "ok",
    }
    return answer(values, 503 if server.stuck else 200)


@public_router.get("/ready", response_model=dict[str, str])
async def ready(server: ServerOf) -> Response:
    """Say whether the model is loaded; 503 while it is not."""
    state = server.engine.state
    return answer({"status": state}, 200 if state == "ready" else 503)


@keyed_router.get("/metrics", response_class=Response)
def metrics(caller: CallerOf) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(caller.server.metrics.text(), media_type="text/plain; version=0.0.4")


@keyed_router.get(KEYS_PATH, response_model=dict[str, protocol.KeyUsage])
async def keys(server: ServerOf) -> Response:
    """Say how each name's keys were used since the server was started (for keys of the scope "admin")."""
    uses = server.keys.uses() if server.keys is not None else {}
    told = {
        name: asdict(
            protocol.KeyUsage(
                use.requests,
                datetime.fromtimestamp(use.last, timezone.utc).isoformat(timespec="seconds") if use.last else None,
            )
        )
        for name, use in uses.items()
    }
    return answer(told)


@keyed_router.get("/v1/info", response_model=protocol.EngineDescription)
def info(caller: CallerOf) -> Response:
    """Say what is loaded and what the server accepts."""
    settings = caller.server.settings
    limits = protocol.Limits(
        settings.chunk_bytes,
        min(settings.image_bytes, settings.memory_limit),
        settings.request_bytes,
        settings.masks,
        settings.lease_seconds,
    )
    return answer(protocol.EngineDescription(caller.server.engine.info(), limits))


@keyed_router.put("/v1/images/{digest}", response_model=protocol.ImageStatus)
def announce_image(digest: Digest, header: protocol.ImageHeader, caller: CallerOf) -> Response:
    """Announce an image; the answer says which of its chunks are wanted.

    Args:
        digest: SHA-256 of the image.
        header: Its type and shape.
        caller: The key that asks.
    """
    return answer(caller.server.store.announce_image(caller.owner, digest, header))


@keyed_router.get("/v1/images/{digest}", response_model=protocol.ImageStatus)
def image_status(digest: Digest, caller: CallerOf) -> Response:
    """Say which chunks of an image are still wanted."""
    return answer(caller.server.store.image_status(caller.owner, digest))


@keyed_router.delete("/v1/images/{digest}", status_code=204, response_class=Response)
def delete_image(digest: Digest, caller: CallerOf) -> Response:
    """Forget an image."""
    caller.server.store.delete_image(caller.owner, digest)
    return Response(status_code=204)


@keyed_router.put(
    "/v1/images/{digest}/chunks/{index}",
    response_model=protocol.ImageStatus,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_chunk(
    digest: Digest,
    index: Annotated[int, Path(ge=0, le=1 << 24)],
    request: Request,
    caller: CallerOf,
) -> Response:
    """Take one compressed chunk of an image.

    Args:
        digest: SHA-256 of the image.
        index: Which chunk.
        request: Its body is the chunk.
        caller: The key that asks.
    """
    body = await request.body()
    async with caller.server.decoding.turn(caller.owner):
        status = await run_in_threadpool(caller.server.store.put_chunk, caller.owner, digest, index, body)
    return answer(status)


@keyed_router.put("/v1/sessions/{session}", response_model=protocol.SessionStatus)
async def open_session(session: Identifier, body: protocol.SessionRequest, caller: CallerOf) -> Response:
    """Open a session on an image that was sent before.

    Args:
        session: Identifier the client chose.
        body: Image, affine and modality.
        caller: The key that asks.
    """
    if body.modality is not None and len(body.modality) > LONGEST_NAME:
        raise invalid("the modality is no name")
    if not protocol.DIGEST.fullmatch(body.image):
        raise invalid("the image is not a SHA-256")
    if not all(math.isfinite(value) for row in body.affine for value in row):
        raise invalid("the affine is not finite")

    async def work() -> Response:
        async with caller.server.opening.turn(caller.owner):
            return await run_in_threadpool(_open_session, session, body, caller)

    return await caller.server.answers.of((caller.owner, session, body), work)


def _open_session(identifier: str, body: protocol.SessionRequest, caller: Caller) -> Response:
    server = caller.server
    found, new = server.store.open_session(caller.owner, identifier, body, server.engine.open_session)
    if new:
        fields = {"session": identifier, "shape": list(found.image.shape), "modality": found.engine.modality}
        server.audit.write(caller.owner, "session_opened", fields)
    return answer(_session_status(server, found))


@keyed_router.get("/v1/sessions/{session}", response_model=protocol.SessionStatus)
def session_status(session: SessionOf, server: ServerOf) -> Response:
    """Say that the session is open."""
    return answer(_session_status(server, session))


@keyed_router.put("/v1/sessions/{session}/lease", response_model=protocol.SessionStatus)
def heartbeat(session: SessionOf, server: ServerOf) -> Response:
    """Keep the session: its client is still there."""
    return answer(_session_status(server, session))


@keyed_router.delete("/v1/sessions/{session}", status_code=204, response_class=Response)
def close_session(session: Identifier, caller: CallerOf) -> Response:
    """End a session; its runs are cancelled."""
    closed = caller.server.store.close_session(caller.owner, session)
    if closed is not None:
        for run in list(closed.runs.values()):
            caller.server.queue.cancel(run)
        caller.server.audit.write(caller.owner, "session_closed", {"session": session})
    return Response(status_code=204)


@keyed_router.post("/v1/sessions/{session}/estimate", response_model=dict[str, Any])
async def estimate(session: UsedSessionOf, body: protocol.RunMessage, server: ServerOf) -> Response:
    """Say what a run would cost.

    Args:
        session: The session.
        body: What would be run.
        server: The server.
    """
    async with server.thinking.turn(session.owner):
        return await run_in_threadpool(_estimate, session, body, server)


def _estimate(session: OpenSession, body: protocol.RunMessage, server: Server) -> Response:
    _check_run(server.settings, session, body)
    with server.store.reserved(session.owner, sum(map(len, body.mask_groups)) * session.image.voxels):
        request = decode_request(body, session.image.shape)
        return answer(session.engine.estimate(request.prompts, request.masks, request.options))


@keyed_router.put("/v1/sessions/{session}/runs/{run}", response_model=protocol.RunStatus)
def start_run(
    run: Identifier, session: UsedSessionOf, body: protocol.RunMessage, request: Request, server: ServerOf
) -> Response:
    """Queue a run; asked again with the same identifier, say how it goes.

    Args:
        run: Identifier the client chose.
        session: The session.
        body: What is run.
        request: Its body's size is what is kept in memory until the run begins.
        server: The server.
    """
    known = session.runs.get(run)
    if known is None:
        _check_run(server.settings, session, body)
        new = Run(run, session, body, request.scope["medals"].received)
        known = server.store.add_run(session, new)
        if known is new:  # else the same request came twice at once, and the other one has queued it
            try:
                server.queue.submit(new)
            except HttpError:
                session.runs.pop(run, None)
                raise
        log(logging.INFO, "run_queued", who=session.owner, run=run, prompts=len(body.prompts), masks=len(body.masks))
    return answer(_run_status(server, known))


@keyed_router.get("/v1/sessions/{session}/runs/{run}", response_model=protocol.RunStatus)
def run_status(run: RunOf, server: ServerOf) -> Response:
    """Say how a run goes."""
    return answer(_run_status(server, run))


@keyed_router.delete("/v1/sessions/{session}/runs/{run}", response_model=protocol.RunStatus)
def cancel_run(run: RunOf, server: ServerOf) -> Response:
    """Cancel a run; it ends within one patch."""
    server.queue.cancel(run)
    return answer(_run_status(server, run))


@keyed_router.get("/v1/sessions/{session}/runs/{run}/result", response_model=protocol.ResultMessage)
def run_result(run: RunOf) -> Response:
    """Return the masks of a run that is done."""
    if run.result is None or run.state != "done":
        raise HttpError(409, "not_done", f"The run is {run.state}.", "Follow its events until it is done.")
    run.mark_fetched()
    return _json_bytes(run.result)


@keyed_router.get(
    "/v1/sessions/{session}/runs/{run}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events"}},
)
def run_events(run: RunOf, last: Annotated[int, Depends(get_last_event)], server: ServerOf) -> Response:
    """Stream the run's events (server-sent events): queued, started, progress, structure, done, failed, cancelled.

    Args:
        run: The run.
        last: Number of the last event that was read.
        server: The server.
    """
    stream = _stream(server, run, last)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(server: Server, run: Run, last: int) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    stop = run.listen(lambda: _wake(loop, changed))
    end = loop.time() + LONGEST_STREAM_SECONDS
    try:
        yield ": medals\n\n"
        while loop.time() < end:
            changed.clear()
            # Before the events are read: an event published after this line is read in the next turn of the loop.
            over = run.ended
            for number, kind, payload in run.events_after(last):
                last = number
                yield format_event(number, kind, payload)
            if over:
                return
            try:
                await asyncio.wait_for(changed.wait(), PING_SECONDS)
            except asyncio.TimeoutError:
                # Renews the lease of a client that reads; ends the stream with the session.
                await run_in_threadpool(server.store.session, run.owner, run.session.id)
                yield ": ping\n\n"
    except HttpError:
        yield 'event: lost\ndata: {"kind": "session_lost"}\n\n'
    finally:
        stop()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    """Set the event of a stream from the thread that published an event."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)


def _session_status(server: Server, session: OpenSession) -> protocol.SessionStatus:
    warnings = tuple(session.engine.warnings)
    return protocol.SessionStatus(session.id, session.engine.modality, warnings, server.settings.lease_seconds)


def _run_status(server: Server, run: Run) -> protocol.RunStatus:
    return protocol.RunStatus(run.id, run.state, server.queue.position(run))


def _check_run(settings: Settings, session: OpenSession, body: protocol.RunMessage) -> None:
    """Check what a run asks for before any of it is decoded.

    Raises:
        HttpError: Something cannot be meant.
    """
    if max(map(len, body.mask_groups)) > settings.masks or len(body.prompts) > settings.prompts:
        most = f"A run takes {settings.masks} masks and {settings.prompts} prompts at most."
        raise too_large(most, "Split it into several runs.")
    if sum(map(len, chain(body.prompts, *body.mask_groups))) > settings.text_characters:
        most = f"The prompts and names of a run may have {settings.text_characters} characters together."
        raise too_large(most, "Split it into several runs.")
    try:
        check_request(body, session.image.shape)
    except DamagedError as error:
        raise invalid(str(error)) from error
    if not 0 <= body.options.seed < 1 << 63:
        raise invalid("the seed is not between 0 and 2**63")
