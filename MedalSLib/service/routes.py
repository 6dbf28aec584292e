"""The routes of the server: what each address does, and nothing about how it is kept safe (see `gate`)."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.security import HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

import MedalSLib
from MedalSLib.engine.interface import Options
from MedalSLib.errors import MedalSError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import BITS, DamagedError, body_digest, check_array, decode_array
from MedalSLib.service.logs import log
from MedalSLib.service.refusal import Refusal, damaged, invalid, out_of_memory, refusal_of, run_lost
from MedalSLib.service.runs import Run
from MedalSLib.service.store import OpenSession

if TYPE_CHECKING:
    from MedalSLib.service.app import Service

PING_SECONDS = 2.0
LONGEST_NAME = 64
LONGEST_STREAM_SECONDS = 25.0
"""An event stream ends after this long and is asked for again, so that even a proxy that collects whole answers
before it hands them on delivers progress."""

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": protocol.ErrorBody, "description": text}
    for status, text in {
        400: "Cannot be read",
        401: "No key, or a wrong one",
        404: "Lost, or never was",
        405: "Not done here",
        408: "Arrived too slowly",
        409: "Does not fit the state of things",
        413: "Too large",
        422: "Damaged, or cannot be used",
        426: "Another protocol version",
        429: "Too many; see Retry-After",
        503: "Busy or loading; see Retry-After",
        507: "Out of memory",
    }.items()
}
router = APIRouter(responses=_ERRORS)
_BEARER = Depends(HTTPBearer(auto_error=False, description="API key"))

Digest = Annotated[str, Path(pattern=f"^{protocol.DIGEST.pattern}$", description="SHA-256 of the image")]
Identifier = Annotated[str, Path(pattern=f"^{protocol.IDENTIFIER.pattern}$", description="Chosen by the client")]


def get_service(request: Request) -> Service:
    """Return the service of the app that answers."""
    return request.app.state.service


def get_owner(request: Request) -> str:
    """Return the name of the key that asks, as the gate found it."""
    return request.scope["medals"].owner


ServiceOf = Annotated["Any", Depends(get_service)]
Owner = Annotated[str, Depends(get_owner)]


def answer(message: Any, status: int = 200) -> Response:
    """Return a message as JSON with its digest."""
    return _json_bytes(json.dumps(protocol.to_json(message)).encode("ascii"), status)


def _json_bytes(body: bytes, status: int = 200) -> Response:
    headers = {protocol.DIGEST_HEADER: body_digest(body)}
    return Response(body, status, headers, media_type="application/json")


# ---------------------------------------------------------------------- without a key


@router.get("/handshake", response_model=protocol.Handshake)
def handshake(service: ServiceOf) -> Response:
    """Say that this is Medal S, and in which versions it speaks."""
    authentication = "key" if service.keys is not None else "none"
    return answer(
        protocol.Handshake(
            protocol.SERVICE,
            protocol.PROTOCOL,
            protocol.OLDEST_PROTOCOL,
            MedalSLib.__version__,
            authentication,
        )
    )


@router.get("/health", response_model=dict[str, str])
def health(service: ServiceOf) -> Response:
    """Say whether the process works; 503 asks for a restart."""
    values = {"status": "stuck" if service.stuck else "ok", "audit": "failing" if service.audit.failures else "ok"}
    return _json_bytes(json.dumps(values).encode("ascii"), 503 if service.stuck else 200)


@router.get("/ready", response_model=dict[str, str])
def ready(service: ServiceOf) -> Response:
    """Say whether the model is loaded; 503 while it is not."""
    state = service.engine.state
    return _json_bytes(json.dumps({"status": state}).encode("ascii"), 200 if state == "ready" else 503)


# ------------------------------------------------------------------------- with a key


@router.get("/metrics", dependencies=[_BEARER], response_class=Response)
def metrics(service: ServiceOf) -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")


@router.get("/v1/info", dependencies=[_BEARER], response_model=protocol.EngineDescription)
def info(service: ServiceOf) -> Response:
    """Say what is loaded and what the server accepts."""
    settings = service.settings
    limits = protocol.Limits(
        settings.chunk_bytes,
        min(settings.image_bytes, settings.memory_limit),
        settings.request_bytes,
        settings.masks,
        settings.lease_seconds,
    )
    return answer(protocol.EngineDescription(protocol.to_json(service.engine.info()), limits))


@router.put("/v1/images/{digest}", dependencies=[_BEARER], response_model=protocol.ImageStatus)
def announce_image(digest: Digest, header: protocol.ImageHeader, service: ServiceOf, owner: Owner) -> Response:
    """Announce an image; the answer says which of its chunks are wanted."""
    return answer(service.store.announce_image(owner, digest, header))


@router.get("/v1/images/{digest}", dependencies=[_BEARER], response_model=protocol.ImageStatus)
def image_status(digest: Digest, service: ServiceOf, owner: Owner) -> Response:
    """Say which chunks of an image are still wanted."""
    return answer(service.store.image_status(owner, digest))


@router.delete("/v1/images/{digest}", dependencies=[_BEARER], status_code=204, response_class=Response)
def delete_image(digest: Digest, service: ServiceOf, owner: Owner) -> Response:
    """Forget an image."""
    service.store.delete_image(owner, digest)
    return Response(status_code=204)


@router.put(
    "/v1/images/{digest}/chunks/{index}",
    dependencies=[_BEARER],
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
    service: ServiceOf,
    owner: Owner,
) -> Response:
    """Take one compressed chunk of an image."""
    body = await request.body()
    return answer(await run_in_threadpool(service.store.put_chunk, owner, digest, index, body))


@router.put("/v1/sessions/{session}", dependencies=[_BEARER], response_model=protocol.SessionStatus)
def open_session(session: Identifier, body: protocol.SessionRequest, service: ServiceOf, owner: Owner) -> Response:
    """Open a session on an image that was sent before."""
    if body.modality is not None and len(body.modality) > LONGEST_NAME:
        raise invalid("the modality is no name")
    if not protocol.DIGEST.fullmatch(body.image):
        raise invalid("the image is not a SHA-256")
    if not all(math.isfinite(value) for row in body.affine for value in row):
        raise invalid("the affine is not finite")
    found, new = service.store.open_session(owner, session, body, service.engine.open_session)
    if new:
        fields = {"session": session, "shape": list(found.image.shape), "modality": found.engine_session.modality}
        service.audit.write(owner, "session_opened", fields)
    return answer(_session_status(service, found))


@router.get("/v1/sessions/{session}", dependencies=[_BEARER], response_model=protocol.SessionStatus)
def session_status(session: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """Say that the session is open."""
    return answer(_session_status(service, service.store.session(owner, session)))


@router.put("/v1/sessions/{session}/lease", dependencies=[_BEARER], response_model=protocol.SessionStatus)
def heartbeat(session: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """Keep the session: its client is still there."""
    return answer(_session_status(service, service.store.session(owner, session)))


@router.delete("/v1/sessions/{session}", dependencies=[_BEARER], status_code=204, response_class=Response)
def close_session(session: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """End a session; its runs are cancelled."""
    closed = service.store.close_session(owner, session)
    if closed is not None:
        for run in list(closed.runs.values()):
            service.queue.cancel(run)
        service.audit.write(owner, "session_closed", {"session": session})
    return Response(status_code=204)


@router.post("/v1/sessions/{session}/estimate", dependencies=[_BEARER], response_model=dict[str, Any])
def estimate(session: Identifier, body: protocol.RunRequest, service: ServiceOf, owner: Owner) -> Response:
    """Say what a run would cost."""
    found = service.store.session(owner, session, used=True)
    options = _check_run(service, found, body)
    needed = len(body.masks) * found.image.voxels
    service.store.reserve(owner, needed)
    try:
        masks = {name: decode_array(encoded, found.image.shape) for name, encoded in body.masks.items()}
        return answer(found.engine_session.estimate(body.prompts, masks or None, options))
    except DamagedError as error:
        raise damaged(str(error)) from error
    except MedalSError as error:
        raise refusal_of(error) from error
    except MemoryError as error:
        raise out_of_memory() from error
    finally:
        service.store.release(needed)


@router.put("/v1/sessions/{session}/runs/{run}", dependencies=[_BEARER], response_model=protocol.RunStatus)
def start_run(
    session: Identifier, run: Identifier, body: protocol.RunRequest, service: ServiceOf, owner: Owner
) -> Response:
    """Queue a run; asked again with the same identifier, say how it goes."""
    found = service.store.session(owner, session, used=True)
    known = found.runs.get(run)
    if known is None:
        _check_run(service, found, body)
        own = Run(run, found, body)
        known = service.store.add_run(found, own)
        if known is own:
            try:
                service.queue.submit(own)
            except Refusal:
                found.runs.pop(run, None)
                raise
        log(logging.INFO, "run_queued", who=owner, run=run, prompts=len(body.prompts), masks=len(body.masks))
    return answer(_run_status(service, known))


@router.get("/v1/sessions/{session}/runs/{run}", dependencies=[_BEARER], response_model=protocol.RunStatus)
def run_status(session: Identifier, run: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """Say how a run goes."""
    return answer(_run_status(service, _find_run(service, owner, session, run)))


@router.delete("/v1/sessions/{session}/runs/{run}", dependencies=[_BEARER], response_model=protocol.RunStatus)
def cancel_run(session: Identifier, run: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """Cancel a run; it ends within one patch."""
    found = _find_run(service, owner, session, run)
    service.queue.cancel(found)
    return answer(_run_status(service, found))


@router.get("/v1/sessions/{session}/runs/{run}/result", dependencies=[_BEARER], response_model=protocol.RunResult)
def run_result(session: Identifier, run: Identifier, service: ServiceOf, owner: Owner) -> Response:
    """Return the masks of a run that is done."""
    found = _find_run(service, owner, session, run)
    if found.result is None or found.state != "done":
        raise Refusal(409, "not_done", f"The run is {found.state}.", "Follow its events until it is done.")
    found.mark_fetched()
    return _json_bytes(found.result)


@router.get(
    "/v1/sessions/{session}/runs/{run}/events",
    dependencies=[_BEARER],
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Events"}},
)
def run_events(
    session: Identifier,
    run: Identifier,
    request: Request,
    service: ServiceOf,
    owner: Owner,
    after: Annotated[int, Query(ge=0, description="Number of the last event that was read")] = 0,
) -> Response:
    """Stream the run's events (server-sent events): queued, started, progress, structure, done, failed, cancelled."""
    found = _find_run(service, owner, session, run)
    resumed = request.headers.get("last-event-id", "")
    last = int(resumed) if resumed.isascii() and resumed.isdecimal() and len(resumed) < 19 else after
    stream = _stream(service, owner, session, found, last)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _stream(service: Service, owner: str, session: str, run: Run, last: int) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    stop = run.listen(lambda: _wake(loop, changed))
    end = loop.time() + LONGEST_STREAM_SECONDS
    try:
        yield ": medals\n\n"
        while loop.time() < end:
            changed.clear()
            over = run.ended  # before the events are read: what is published after this is read in the next turn
            for number, kind, payload in run.events_after(last):
                last = number
                yield f"id: {number}\nevent: {kind}\ndata: {payload}\n\n"
            if over:
                return
            try:
                await asyncio.wait_for(changed.wait(), PING_SECONDS)
            except asyncio.TimeoutError:
                service.store.session(owner, session)  # whoever reads is alive; ends the stream when the session ended
                yield ": ping\n\n"
    except Refusal:
        yield 'event: lost\ndata: {"kind": "session_lost"}\n\n'
    finally:
        stop()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)


def _session_status(service: Service, session: OpenSession) -> protocol.SessionStatus:
    engine_session = session.engine_session
    if engine_session is None:
        raise run_lost()
    warnings = tuple(engine_session.warnings)
    return protocol.SessionStatus(session.id, engine_session.modality, warnings, service.settings.lease_seconds)


def _run_status(service: Service, run: Run) -> protocol.RunStatus:
    return protocol.RunStatus(run.id, run.state, service.queue.position(run))


def _find_run(service: Service, owner: str, session: str, run: str) -> Run:
    found = service.store.session(owner, session, used=True).runs.get(run)
    if found is None:
        raise run_lost()
    return found


def _check_run(service: Service, session: OpenSession, body: protocol.RunRequest) -> Options:
    """Check what a run asks for before any of it is decoded, and return its options.

    Raises:
        Refusal: Something cannot be meant.
    """
    settings = service.settings
    if max(len(body.masks), len(body.locked)) > settings.masks or len(body.prompts) > settings.prompts:
        raise Refusal(
            413,
            "too_large",
            f"A run takes {settings.masks} masks and {settings.prompts} prompts at most.",
            "Split it into several runs.",
        )
    try:
        for encoded in [*body.masks.values(), *body.locked.values()]:
            check_array(encoded, session.image.shape, (BITS,))
    except DamagedError as error:
        raise invalid(str(error)) from error
    options = body.options
    if options.mode not in ("auto", "text", "hybrid", "refine") or options.stages not in ("both", "first"):
        raise invalid("the mode or the stages are not known")
    if options.policy not in ("product", "published"):
        raise invalid("the policy is not known")
    if not 0 <= options.seed < 1 << 63:
        raise invalid("the seed is not between 0 and 2**63")
    return Options(**protocol.to_json(options))
