"""Structured logs and the audit log: one JSON object a line, never with a pixel, a prompt, a file or a patient's name.

What a user typed may hold a name, so prompts are never logged; the audit log holds the published names of the
structures that were segmented.  Tracebacks are logged as places in the code, without the exception's text, because
that may quote data.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

LOG = logging.getLogger("medals.service")
AUDIT_LOG = logging.getLogger("medals.audit")


def log(level: int, event: str, **fields: Any) -> None:
    """Write an event with its fields to the service's log."""
    LOG.log(level, event, extra={"fields": fields})


def places(error: BaseException) -> list[str]:
    """Return where an exception came through as "file:line function", innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]


def log_exception(event: str, error: BaseException, **fields: Any) -> None:
    """Write an unexpected exception: its type and the places it came through, not its text."""
    log(logging.ERROR, event, error=type(error).__name__, places=places(error), **fields)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; `extra={"fields": {...}}` of the logging call is merged in."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line.update(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = type(record.exc_info[1]).__name__
            line["places"] = places(record.exc_info[1])
        return json.dumps(line, default=str)


def configure_logging(level: int = logging.INFO) -> None:
    """Send the server's logs, and those of the HTTP server under it, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in ("medals", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)


def _open_private(path: str, flags: int) -> int:
    """Open a file for nobody else (mode 0600), and take from others what an older version gave them."""
    handle = os.open(path, flags, 0o600)
    with contextlib.suppress(OSError, AttributeError):  # not ours to change, or Windows
        mode = os.fstat(handle).st_mode & 0o777
        if mode & 0o007:
            os.fchmod(handle, mode & ~0o007)
    return handle


class AuditLog:
    """Who did what and when; one JSON object a line, in a file of its own or among the logs.

    The file is private (mode 0600 if it is new): it says who was examined when, if not who they are.

    A full disk does not stop the clinic: the entry goes to standard error instead, `failures` counts it, and
    `/health` and the metrics show it.

    Args:
        path: File to append to; None for the logs.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.failures = 0

    def write(self, who: str, what: str, fields: Mapping[str, Any]) -> None:
        """Append an entry.

        Args:
            who: Name of the key.
            what: The event: "session_opened", "run_ended", ...
            fields: Further values; the caller keeps out pixels, prompts and names.
        """
        entry = {
            "time": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "who": who,
            "what": what,
            **fields,
        }
        if self._path is None:
            AUDIT_LOG.info(what, extra={"fields": entry})
            return
        try:
            with self._lock, open(self._path, "a", encoding="utf-8", opener=_open_private) as file:
                file.write(json.dumps(entry, default=str) + "\n")
        except OSError as error:
            self.failures += 1
            log(logging.ERROR, "audit_not_written", error=type(error).__name__, code=error.errno)
            AUDIT_LOG.error(what, extra={"fields": entry})
