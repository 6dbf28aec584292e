"""The server's errors: one exception with a status, a kind, a cause and a remedy, and the answer it becomes."""

from __future__ import annotations

import errno
import json
import sys

from starlette.exceptions import HTTPException

from MedalSLib.errors import MedalSError
from MedalSLib.service import protocol
from MedalSLib.service.encoding import DamagedError, body_digest

_STATUS = {"input": 422, "prompt": 422, "model": 503, "resource": 507, "cancelled": 409}

_SIGNS_OF_LITTLE_MEMORY = (
    "can't allocate memory",
    "start new thread",
    "bad_alloc",
    "bad allocation",
    "create a primitive",
)
"""Of allocators, threads and oneDNN, which only say so in a RuntimeError."""


class HttpError(HTTPException):
    """A request that is answered with an error body.

    Args:
        status: HTTP status.
        kind: Kind of `protocol.ErrorBody`.
        cause: What went wrong.
        remedy: What to do about it.
        retry_after: Seconds until it makes sense to ask again, None if it never does.
    """

    def __init__(self, status: int, kind: str, cause: str, remedy: str = "", retry_after: float | None = None) -> None:
        super().__init__(status, cause)
        self.kind = kind
        self.cause = cause
        self.remedy = remedy
        self.retry_after = retry_after


def error_response(error: HttpError, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the answer to a request that failed."""
    message = protocol.ErrorBody(error.kind, error.cause, error.remedy, request_id)
    body = json.dumps(protocol.to_json(message)).encode("ascii")
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (protocol.DIGEST_HEADER.lower().encode(), body_digest(body).encode()),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, round(error.retry_after))).encode()))
    if error.status_code == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status_code, headers, body


def to_http_error(error: Exception) -> HttpError | None:
    """Return the answer to a request or a run that ended with an exception; None for one that nobody expected."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, MedalSError):
        kind = protocol.error_kind(error)
        return HttpError(_STATUS.get(kind, 500), kind, error.cause, error.remedy)
    if isinstance(error, DamagedError):
        return damaged(str(error))
    if memory_ran_out(error):  # although the budget allowed it
        remedy = "Try again later, or use fewer structures, a smaller image or region."
        return HttpError(507, "resource", "The server ran out of memory.", remedy, 5.0)
    return None


def memory_ran_out(error: BaseException) -> bool:
    """Tell whether an exception means that there is too little memory, whatever its class and words."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if "torch" in sys.modules:  # else no exception comes from there
        from MedalSLib.inference.memory import out_of_memory

        if out_of_memory(error):
            return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in words for sign in _SIGNS_OF_LITTLE_MEMORY)


def session_lost() -> HttpError:
    """The session ended, never existed, or belongs to another key: the answer does not tell which."""
    return HttpError(404, protocol.SESSION_LOST, "The server does not have this session (any more).", "Open it again.")


def run_lost() -> HttpError:
    """The run is not known to this session."""
    return HttpError(404, protocol.RUN_LOST, "The server does not have this run (any more).", "Start it again.")


def damaged(what: str) -> HttpError:
    """A body that does not hold what it was announced to hold."""
    return HttpError(422, protocol.CORRUPT, f"The request was damaged on the way: {what}.", "Send it again.")


def invalid(what: str) -> HttpError:
    """A well-formed body with values that cannot be used."""
    return HttpError(422, "invalid", f"The request cannot be used: {what}.", "Check it against the API description.")


def too_large(cause: str, remedy: str) -> HttpError:
    """More than one of the server's limits allows, whenever it is asked."""
    return HttpError(413, "too_large", cause, remedy)


def try_later(status: int, cause: str, remedy: str, retry_after: float) -> HttpError:
    """More than can be done now.

    Args:
        status: 429 if this key or address asks for too much, 503 if the server has too much to do.
        cause: What is too much.
        remedy: What to do about it.
        retry_after: Seconds until it makes sense to ask again.
    """
    return HttpError(status, "rate_limited" if status == 429 else "busy", cause, remedy, retry_after)
