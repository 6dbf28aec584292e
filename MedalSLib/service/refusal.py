"""How the server says no: one exception with a status, a kind, a cause and a remedy."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from MedalSLib.errors import MedalSError
from MedalSLib.service import protocol

_STATUS = {"input": 422, "prompt": 422, "model": 503, "resource": 507, "cancelled": 409}


class Refusal(HTTPException):
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

    def body(self, request_id: str) -> protocol.ErrorBody:
        """Return the error body."""
        return protocol.ErrorBody(self.kind, self.cause, self.remedy, request_id)


def refusal_of(error: MedalSError) -> Refusal:
    """Return an engine's own error as a refusal."""
    kind = protocol.error_kind(error)
    return Refusal(_STATUS.get(kind, 500), kind, error.cause, error.remedy)


def session_lost() -> Refusal:
    """The session ended, or never was, or belongs to another key: all look the same from outside."""
    return Refusal(404, protocol.SESSION_LOST, "The server does not have this session (any more).", "Open it again.")


def run_lost() -> Refusal:
    """The run is not known to this session."""
    return Refusal(404, protocol.RUN_LOST, "The server does not have this run (any more).", "Start it again.")


def damaged(what: str) -> Refusal:
    """A body that does not hold what it was announced to hold."""
    return Refusal(422, protocol.CORRUPT, f"The request was damaged on the way: {what}.", "Send it again.")


def invalid(what: str) -> Refusal:
    """A well-formed body with values that cannot be used."""
    return Refusal(422, "invalid", f"The request cannot be used: {what}.", "Check it against the API description.")


def out_of_memory() -> Refusal:
    """The machine's memory ran out although the budget allowed the request."""
    return Refusal(
        507, "resource", "The server ran out of memory.", "Try again later, or use a smaller image or region.", 5.0
    )
