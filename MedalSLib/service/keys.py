"""API keys: several, named, hashed at rest, changed without a restart, compared in constant time.

A key file is text, one key a line: `name sha256:HEX`.  Lines that start with `#` are comments.  Two lines of one name
are two keys of one owner, which is how a key is rotated: add the new one, hand it out, delete the old one.  A line
`name KEY` or just `KEY` (a mounted secret) is accepted too, and hashed when read.

The keys that `new_key` makes carry 256 random bits, so a fast hash is as good as a slow one: there is nothing to
guess.  A slow hash would let anybody keep the server busy with wrong keys.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from MedalSLib.atomic_files import replacing
from MedalSLib.errors import ServiceError

LOG = logging.getLogger("medals.service")
PREFIX = "medals_"
SHORTEST = 8
_HASHED = re.compile(r"sha256:([0-9a-f]{64})")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class KeyRecord:
    """One accepted key: its owner's name and the SHA-256 of the key."""

    name: str
    digest: bytes


def new_key() -> str:
    """Return a fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def parse_keys(text: str, source: str) -> tuple[KeyRecord, ...]:
    """Read the lines of a key file.

    Raises:
        ServiceError: A line is neither a hashed nor a plain key, or a plain key is too short to be safe.
    """
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        name, value = (words[0], words[1]) if len(words) == 2 else (f"key-{number}", words[0])
        hashed = _HASHED.fullmatch(value)
        if len(words) > 2 or not _NAME.fullmatch(name):
            raise ServiceError(
                f"Line {number} of {source} is not a key.",
                "Write `name sha256:HEX`; `medals keys add` makes such lines.",
            )
        if hashed is None and len(value) < SHORTEST:
            raise ServiceError(
                f"The key in line {number} of {source} is shorter than {SHORTEST} characters and could be guessed.",
                "Make a key with `medals keys add`.",
            )
        records.append(KeyRecord(name, bytes.fromhex(hashed[1]) if hashed else hash_key(value)))
    return tuple(records)


def _cannot(what: str, path: Path, error: Exception) -> ServiceError:
    return ServiceError(
        f"The key file {path} cannot be {what} ({error}).", "Check the path, its permissions, the disk."
    )


def read_key_file(path: Path) -> tuple[KeyRecord, ...]:
    """Read a key file.

    Raises:
        ServiceError: It cannot be read, holds no key, or a line is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot("read", path, error) from error
    records = parse_keys(text, str(path))
    if not records:
        raise ServiceError(f"The key file {path} holds no key.", "Add one with `medals keys add`.")
    return records


def add_key(path: Path, name: str) -> str:
    """Make a key, append its hash to the key file (mode 0600 if it is new), and return the key, which is kept nowhere.

    Raises:
        ServiceError: The name cannot be used, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ServiceError(f"“{name}” cannot be the name of a key.", "Use up to 64 letters, digits, dots or dashes.")
    key = new_key()
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+", encoding="utf-8") as file:
            text = file.read()
            file.write(("\n" if text and not text.endswith("\n") else "") + f"{name} sha256:{hash_key(key).hex()}\n")
    except OSError as error:
        raise _cannot("written", path, error) from error
    return key


def remove_keys(path: Path, name: str, keep_newest: bool = False) -> int:
    """Delete an owner's keys and return how many went.

    Args:
        path: Key file.
        name: The owner.
        keep_newest: Keep the key that was added last (the end of a rotation).

    Raises:
        ServiceError: The file cannot be read, or no other key would be left.
        OutputError: It cannot be written.
    """
    read_key_file(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    own = [number for number, line in enumerate(lines) if line.split()[:1] == [name] and len(line.split()) == 2]
    gone = set(own[:-1] if keep_newest else own)
    kept = [line for number, line in enumerate(lines) if number not in gone]
    if not parse_keys("\n".join(kept), str(path)):
        raise ServiceError("The last key cannot be removed: the server would refuse everybody.", "Add another first.")
    with replacing(path) as draft:
        draft.touch(0o600)  # private before anything is in it
        draft.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return len(gone)


class ApiKeys:
    """The keys a running server accepts; a changed key file counts from the next request on.

    Args:
        path: Key file, or None.
        plain: Names and plain keys that live in memory only.

    Raises:
        ServiceError: The key file cannot be used.
    """

    def __init__(self, path: Path | None = None, plain: tuple[tuple[str, str], ...] = ()) -> None:
        self._path = path
        self._fixed = tuple(KeyRecord(name, hash_key(key)) for name, key in plain)
        self._lock = threading.Lock()
        self._stamp = self._file_stamp()
        self._records = self._fixed + (read_key_file(path) if path else ())

    def owner(self, key: str) -> str | None:
        """Return the name of the key's owner, None for a wrong key; takes the same time for each wrong key."""
        self._reload()
        digest = hash_key(key)
        found: str | None = None
        for record in self._records:
            if hmac.compare_digest(digest, record.digest):
                found = record.name
        return found

    def _file_stamp(self) -> tuple[int, int, int] | None:
        if self._path is None:
            return None
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino

    def _reload(self) -> None:
        """Read the file again if it changed; a file that cannot be read leaves the keys as they are, and is logged."""
        if self._path is None:
            return
        with self._lock:
            stamp = self._file_stamp()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            try:
                self._records = self._fixed + read_key_file(self._path)
                LOG.info("keys_reloaded", extra={"fields": {"keys": len(self._records)}})
            except ServiceError as error:
                LOG.error("keys_not_reloaded", extra={"fields": {"cause": error.cause}})
