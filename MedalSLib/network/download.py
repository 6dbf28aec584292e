"""Resumable downloads of a Hugging Face repository's files.

Done with requests instead of huggingface_hub: the core has requests anyway (Slicer ships it), and the hub's client
offers no way to cancel a download, while ours must be able to stop within a moment and go on later.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from MedalSLib.atomic_files import writing
from MedalSLib.errors import CancelledError, ModelError
from MedalSLib.network.manifest import file_sha256

if TYPE_CHECKING:
    import requests  # at run time imported where something is fetched: listing models and names needs it not

_TRUE = {"1", "on", "yes", "true"}
_TIMEOUT = (10.0, 60.0)  # seconds to connect, and between two blocks
_BLOCK = 1 << 20
_PAUSES = (0.0, 0.5, 2.0, 8.0)  # seconds before each attempt


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        path: Path in the repository.
        url: Where it is fetched from, at a fixed revision.
        size: Bytes.
        identity: What changes with the content: the SHA-256 of large files, else the Git object's name.
        sha256: SHA-256 where the server states it, else "".
    """

    path: str
    url: str
    size: int
    identity: str
    sha256: str


def _is_offline() -> bool:
    """Return whether the user forbade the network (`MEDALS_OFFLINE` or `HF_HUB_OFFLINE` set to 1)."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("MEDALS_OFFLINE", "HF_HUB_OFFLINE"))


def endpoint() -> str:
    """Return the hub's address: `HF_ENDPOINT` names a mirror."""
    return os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def list_repository(repository: str) -> tuple[str, list[RemoteFile]]:
    """Ask the hub for a repository's current revision and its files.

    Raises:
        ModelError: The network is forbidden or unreachable, or there is no such repository.
    """
    import requests

    base = f"{endpoint()}/api/models/{repository}"
    with requests.Session() as session:
        revision = str(_json(session, f"{base}/revision/main")["sha"])
        entries = _json(session, f"{base}/tree/{revision}?recursive=true")
    files = []
    for entry in entries:
        if entry["type"] != "file":
            continue
        large = entry.get("lfs") or {}
        files.append(
            RemoteFile(
                path=entry["path"],
                url=f"{endpoint()}/{repository}/resolve/{revision}/{quote(entry['path'])}",
                size=int(large.get("size", entry["size"])),
                identity=str(large.get("oid", entry["oid"])),
                sha256=str(large.get("oid", "")),
            )
        )
    return revision, files


def download(
    file: RemoteFile,
    target: Path,
    on_bytes: Callable[[int], None] | None = None,
    cancel: threading.Event | None = None,
) -> str:
    """Fetch a file; what an earlier attempt got of the same content is not fetched again.

    Args:
        file: What to fetch.
        target: Where the file will be once it is whole; until then its parts lie beside it.
        on_bytes: Called with the number of further bytes that are there.
        cancel: Set it to stop within a block; the part stays for the next attempt.

    Returns:
        SHA-256 of the file.

    Raises:
        CancelledError: `cancel` was set.
        ModelError: The network is forbidden or fails, or the content is not what the server announced.
        OutputError: There is no space left, or the folder cannot be written.
    """
    report = on_bytes or (lambda count: None)
    part = target.with_name(f"{target.name}.{file.identity[:16]}.part")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _is(target, file):
            report(file.size)
        else:
            report(part.stat().st_size if part.exists() else 0)
            _fetch(file, part, report, cancel)
            if not _is(part, file):
                part.unlink()
                raise ModelError(
                    f"{file.path} arrived damaged: wrong checksum.",
                    "Try again; if it stays, the server or a proxy is at fault.",
                )
            part.replace(target)
        return file_sha256(target, cancel=cancel)


def _is(path: Path, file: RemoteFile) -> bool:
    """Return whether a local file has the content that the hub announced."""
    if path.stat().st_size != file.size:
        return False
    if file.sha256:
        return file_sha256(path) == file.sha256
    content = path.read_bytes()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest() == file.identity


def _fetch(file: RemoteFile, part: Path, report: Callable[[int], None], cancel: threading.Event | None) -> None:
    """Append what is missing to `part`, going on after broken connections."""
    import requests

    pause = cancel or threading.Event()
    failure: Exception | None = None
    with requests.Session() as session:
        for seconds in _PAUSES:
            pause.wait(seconds)
            have = part.stat().st_size if part.exists() else 0
            if have > file.size:
                part.unlink()
                report(-have)
                have = 0
            if 0 < have == file.size:
                return
            try:
                _append(session, file, part, have, report, cancel)
            except requests.HTTPError as error:
                failure = error
                if error.response.status_code < requests.codes.internal_server_error:
                    break
            except requests.RequestException as error:
                failure = error
            else:
                if part.stat().st_size == file.size:
                    return
    raise ModelError(
        f"The download of {file.path} broke off ({failure or 'the connection was closed early'}).",
        "Run the same command again: it goes on where it stopped.",
    ) from failure


def _append(
    session: requests.Session,
    file: RemoteFile,
    part: Path,
    have: int,
    report: Callable[[int], None],
    cancel: threading.Event | None,
) -> None:
    """Ask for the bytes from `have` on, and write them behind those that are there."""
    import requests

    _check(cancel)
    wanted = {"Range": f"bytes={have}-"} if have else {}
    with session.get(file.url, headers=wanted, stream=True, timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == requests.codes.partial_content
        if have and not resumed:
            report(-have)  # the server sends all of it again
        with part.open("ab" if resumed else "wb") as out:
            for block in answer.iter_content(_BLOCK):
                _check(cancel)
                out.write(block)
                report(len(block))


def _json(session: requests.Session, url: str) -> Any:
    import requests

    if _is_offline():
        raise ModelError(
            "Downloads are switched off (MEDALS_OFFLINE or HF_HUB_OFFLINE is set).",
            "Fetch the files on another computer and install from that folder, or unset the variable.",
        )
    try:
        answer = session.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        raise ModelError(
            f"The model's files cannot be listed at {url} ({error}).",
            "Check the connection or the proxy; HF_ENDPOINT may name a mirror, and a folder can be installed instead.",
        ) from error


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("The installation was cancelled.", "What was fetched is kept for the next attempt.")
