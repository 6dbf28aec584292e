"""API keys: several, named, hashed at rest, changed without a restart, compared in constant time.

A key file is text, one key a line: `name sha256:HEX`, and after it, if wanted, `scopes=run,metrics` and
`expires=2027-01-31`.  Lines that start with `#` are comments.  Two lines of one name are two keys of one owner, which
is how a key is rotated: add the new one, hand it out, delete the old one.  A line `name KEY` or just `KEY` (a mounted
secret) is accepted too, and hashed when read.

The keys that `new_key` makes carry 256 random bits, so a fast hash is as good as a slow one: there is nothing to
guess.  A slow hash would let anybody keep the server busy with wrong keys.

A key file that cannot be used lets nobody in: who empties it means to revoke what was in it.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path

from MedalSLib.atomic_files import replacing
from MedalSLib.errors import ServiceError
from MedalSLib.service.logs import log

PREFIX = "medals_"
SHORTEST = 16
"""Characters of a plain key: shorter ones could be guessed, because right keys are never slowed down."""
RUN, SEE_METRICS, ADMIN = "run", "metrics", "admin"
SCOPES = (RUN, SEE_METRICS, ADMIN)
"""What a key may be for: to segment, to read the metrics, to see who uses the server."""
DEFAULT_SCOPES = frozenset({RUN, SEE_METRICS})
_HASHED = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
_LIKE_A_HASH = re.compile(r"[a-z0-9-]+:.*|sha-?\d+=.*|\$.*", re.IGNORECASE)
_HEX = re.compile(r"[0-9a-fA-F]{32,}")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_OPTION = re.compile(r"(scopes|expires)=(\S+)")


@dataclass(frozen=True)
class KeyRecord:
    """One accepted key.

    Attributes:
        name: The owner's.
        digest: SHA-256 of the key.
        scopes: What it may be used for, of `SCOPES`.
        expires: The first day (UTC) on which it is refused, or None.
    """

    name: str
    digest: bytes
    scopes: frozenset[str] = DEFAULT_SCOPES
    expires: date | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and datetime.now(timezone.utc).date() >= self.expires


@dataclass
class KeyUse:
    """How often a name's keys were used since the server was started, and when last."""

    requests: int = 0
    last: float = field(default=0.0)


def new_key() -> str:
    """Return a fresh key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_key(key: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def parse_keys(text: str, source: str) -> tuple[KeyRecord, ...]:
    """Read the lines of a key file.

    Raises:
        ServiceError: A line is neither a hashed nor a plain key, a damaged hash, or too short a key to be safe.
    """
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith("#"):
            records.append(_parse_line(words, f"line {number} of {source}", f"key-{number}"))
    return tuple(records)


def _parse_line(words: list[str], where: str, default_name: str) -> KeyRecord:
    options = {match[1]: match[2] for match in map(_OPTION.fullmatch, words) if match}
    plain = [word for word in words if not _OPTION.fullmatch(word)]
    name, value = (default_name, *plain)[-2:] if plain else ("", "")
    if len(plain) > 2 or not _NAME.fullmatch(name):
        raise ServiceError(f"{where.capitalize()} is not a key.", "Let `medals keys add` make such lines.")
    scopes, expires = parse_options(options, where)
    hashed = _HASHED.fullmatch(value)
    if hashed:
        return KeyRecord(name, bytes.fromhex(hashed[1]), scopes, expires)
    # A hash with a typing error must not become a key: then everybody who reads the file could use it.
    if _LIKE_A_HASH.fullmatch(value) or (len(plain) == 2 and _HEX.fullmatch(value)):
        raise ServiceError(f"The hash in {where} is damaged.", "Write `name sha256:` and 64 hexadecimal digits.")
    if len(value) < SHORTEST:
        raise ServiceError(
            f"The key in {where} is shorter than {SHORTEST} characters and could be guessed.",
            "Make a key with `medals keys add`.",
        )
    return KeyRecord(name, hash_key(value), scopes, expires)


def parse_options(options: dict[str, str], where: str) -> tuple[frozenset[str], date | None]:
    """Return the scopes and the expiry that a line or a command names.

    Args:
        options: "scopes" (separated by commas) and "expires" (year-month-day), both optional.
        where: For the message.

    Raises:
        ServiceError: A scope that is none, or not a date.
    """
    scopes = frozenset(options["scopes"].split(",")) if "scopes" in options else DEFAULT_SCOPES
    if not scopes <= set(SCOPES):
        raise ServiceError(f"There is no such scope as in {where}.", f"Scopes are {', '.join(SCOPES)}.")
    try:
        expires = date.fromisoformat(options["expires"]) if "expires" in options else None
    except ValueError as error:
        raise ServiceError(f"The expiry in {where} is not a date.", "Write it like 2027-01-31.") from error
    return scopes, expires


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
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot("read", path, error) from error
    records = parse_keys(text, str(path))
    if not records:
        raise ServiceError(f"The key file {path} holds no key.", "Add one with `medals keys add`.")
    return records


def add_key(path: Path, name: str, scopes: Collection[str] = (), expires: str = "") -> str:
    """Make a key, append its hash to the key file (mode 0600 if it is new), and return the key, which is kept nowhere.

    Args:
        path: Key file.
        name: The owner.
        scopes: What the key is for, of `SCOPES`; none for `DEFAULT_SCOPES`.
        expires: Year-month-day from which on it is refused; empty for never.

    Raises:
        ServiceError: The name, a scope or the expiry cannot be used, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise ServiceError(f"“{name}” cannot be the name of a key.", "Use up to 64 letters, digits, dots or dashes.")
    options = ({"scopes": ",".join(scopes)} if scopes else {}) | ({"expires": expires} if expires else {})
    parse_options(options, "the command")
    key = new_key()
    line = " ".join([name, f"sha256:{hash_key(key).hex()}", *(f"{what}={value}" for what, value in options.items())])
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+", encoding="utf-8") as file:
            text = file.read()
            file.write(("\n" if text and not text.endswith("\n") else "") + line + "\n")
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
    own = [number for number, line in enumerate(lines) if line.split()[:1] == [name] and len(line.split()) > 1]
    gone = set(own[:-1] if keep_newest else own)
    kept = [line for number, line in enumerate(lines) if number not in gone]
    if not parse_keys("\n".join(kept), str(path)):
        raise ServiceError("The last key cannot be removed: the server would refuse everybody.", "Add another first.")
    with replacing(path) as draft:
        draft.touch(0o600)  # private before anything is in it
        draft.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return len(gone)


class ApiKeys:
    """The keys a running server accepts; `reload` is called once a second, outside of the event loop.

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
        self._uses: dict[str, KeyUse] = {}
        self.problem: ServiceError | None = None
        """Why the key file lets nobody in; None while it can be used."""
        self._records: Sequence[KeyRecord] = self._fixed + (read_key_file(path) if path else ())

    def find(self, key: str) -> KeyRecord | None:
        """Return the record of a key, None for a wrong one; takes the same time for each wrong key."""
        digest = hash_key(key)
        found: KeyRecord | None = None
        for record in self._records:
            if hmac.compare_digest(digest, record.digest):
                found = record
        return None if found is None or found.expired else found

    def names(self) -> set[str]:
        """Return the names of those who have a key that is accepted."""
        return {record.name for record in self._records if not record.expired}

    def note_use(self, name: str) -> None:
        """Remember that a key of this name was used now."""
        with self._lock:
            use = self._uses.setdefault(name, KeyUse())
            use.requests += 1
            use.last = time.time()

    def uses(self) -> dict[str, KeyUse]:
        """Return how each accepted name's keys were used since the server was started."""
        return {name: self._uses.get(name, KeyUse()) for name in sorted(self.names())}

    def reload(self) -> None:
        """Read the file again; a file that cannot be used lets nobody in, until it can."""
        if self._path is None:
            return
        try:
            records = self._fixed + read_key_file(self._path)
        except ServiceError as error:
            if self.problem is None or self.problem.cause != error.cause:
                log(logging.ERROR, "keys_unusable", cause=error.cause)
            self.problem, self._records = error, self._fixed
            return
        if self.problem is not None or records != self._records:
            log(logging.INFO, "keys_reloaded", keys=len(records))
        self._records, self.problem = records, None
