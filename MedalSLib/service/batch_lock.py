"""One batch at a time in a folder: a lock that ends with its process, however that ends, and says whose it is."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from MedalSLib.atomic_files import write_text
from MedalSLib.errors import OutputError

LOCK = ".batch.lock"
OWNER = ".batch.owner.json"


@contextmanager
def only_batch_in(folder: Path) -> Iterator[None]:
    """Keep other batches out of a folder for the length of a block.

    The operating system holds the lock, so nothing is left of it when a batch is killed.

    Raises:
        OutputError: Another batch works there; says whose and since when.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OutputError(
            f"Another batch works in {folder} ({_describe(folder / OWNER)}).", "Wait for it, or stop it."
        ) from None
    except (OSError, NotImplementedError) as error:
        raise OutputError(f"The folder {folder} cannot be locked ({error}).", "Choose a folder elsewhere.") from error
    try:
        write_text(folder / OWNER, json.dumps(_owner()))
        yield
    finally:
        (folder / OWNER).unlink(missing_ok=True)
        lock.release()


def _owner() -> dict[str, Any]:
    user = "somebody"
    with suppress(OSError, KeyError):  # a container's user need not have a name
        user = getpass.getuser()
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"user": user, "host": socket.gethostname(), "process": os.getpid(), "since": since}


def _describe(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        age = datetime.now(timezone.utc) - datetime.fromisoformat(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "it has just begun"
    minutes = max(0, int(age.total_seconds() // 60))
    return (
        f"of {owner.get('user')} on {owner.get('host')}, process {owner.get('process')}, "
        f"begun {minutes // 60} h {minutes % 60} min ago"
    )
