"""What users type as a server's address, and what is meant by it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from MedalSLib.errors import ServiceError
from MedalSLib.service.protocol import DEFAULT_PORT

_SCHEME = re.compile(r"^(https?)(?::/{0,2}|/{2})", re.IGNORECASE)
_OTHER_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")
_KNOWN_TAILS = re.compile(r"/(?:v1(?:/.*)?|docs|openapi\.json|handshake|health|ready|metrics)?/*$")
_LOCAL = re.compile(r"^(localhost|127(\.\d+){3}|\[::1\])$", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """A server's address.

    Attributes:
        url: Base URL without a slash at the end.
        guessed: Whether the scheme was not typed, so that the other one may be tried.
    """

    url: str
    guessed: bool

    @property
    def local(self) -> bool:
        """Whether it leads to this machine."""
        host = urlsplit(self.url).hostname or ""
        return bool(_LOCAL.match(f"[{host}]" if ":" in host else host))

    @property
    def encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        return self.url.startswith("https://")

    def with_scheme(self, scheme: str) -> Address:
        """Return the same address under another scheme."""
        return Address(f"{scheme}://{self.url.partition('://')[2]}", self.guessed)


def parse_address(typed: str) -> Address:
    """Understand a server's address: a URL, "host:port" or "host", with or without a path copied from a browser.

    Without a scheme, an address on this machine is taken as http and any other as https; without a port and scheme,
    the port is `DEFAULT_PORT`.

    Raises:
        ServiceError: Not an address.
    """
    text = typed.strip().strip("\"'<>").strip()
    found = _SCHEME.match(text)
    if found is None and _OTHER_SCHEME.match(text):
        raise ServiceError(f"“{typed}” is not the address of a server.", "Addresses begin with https:// or http://.")
    rest = (text[found.end() :] if found else text).lstrip("/")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise _wrong(typed) from error
    if not host or not re.fullmatch(r"[^\s/?#@\\]+", host) or parts.username is not None:
        raise _wrong(typed)
    name = f"[{host}]" if ":" in host else host
    guessed = found is None
    scheme = found[1].lower() if found else ("http" if _LOCAL.match(name) else "https")
    if port is None and guessed:
        port = DEFAULT_PORT
    path = _KNOWN_TAILS.sub("", parts.path)
    return Address(f"{scheme}://{name}{f':{port}' if port is not None else ''}{path}", guessed)


def _wrong(typed: str) -> ServiceError:
    return ServiceError(
        f"“{typed}” is not the address of a server.", f"Write it like https://server.example:{DEFAULT_PORT}."
    )
