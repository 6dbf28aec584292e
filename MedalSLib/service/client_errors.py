"""What a failed try means: one clear error, with its remedy, for each way in which a server can fail to answer."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import urllib3

from MedalSLib.errors import MedalSError, ServiceError
from MedalSLib.service import protocol

NETWORK_ERRORS = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, UnicodeError)
"""What requests raises on a damaged or cut connection; not everything is wrapped in its own class."""
_TITLE = re.compile(rb"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)


class LostError(ServiceError):
    """The server does not have the session, the run or the image any more: open it again, begin the run again."""

    def __init__(self, cause: str = "The server lost the run.", remedy: str = "") -> None:
        super().__init__(cause, remedy)


class TransientError(Exception):
    """A try that failed in a way that may pass.

    Args:
        error: What to raise if it does not.
        pause: Seconds to wait, None if nobody said.
        loading: Whether the server is well, and only not ready yet.
    """

    def __init__(self, error: MedalSError, pause: float | None = None, loading: bool = False) -> None:
        super().__init__(str(error))
        self.error = error
        self.pause = pause
        self.loading = loading


class PlainHttpError(ServiceError):
    """https was asked of a server that speaks http."""


def explain_answer(url: str, response: requests.Response, content: bytes) -> Exception:
    """Return the exception that an answer other than a success means.

    Args:
        url: Base URL of the server, for the sentence.
        response: The answer.
        content: Its body.
    """
    body: Any = None
    if "json" in response.headers.get("content-type", ""):
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            body = None
    if isinstance(body, dict) and {"kind", "cause"} <= body.keys():
        return _known_error(body, response)
    return _unknown_answer(url, response, content)


def explain_failure(url: str, error: Exception, connect_seconds: float) -> TransientError:
    """Return what one of `NETWORK_ERRORS` means, if it may pass.

    Args:
        url: Base URL of the server, for the sentence.
        error: What requests raised.
        connect_seconds: How long a connection was waited for.

    Raises:
        ServiceError: What repeating cannot change.
    """
    text = str(error)
    if isinstance(error, requests.exceptions.SSLError):
        if "WRONG_VERSION_NUMBER" in text or "record layer" in text or "wrong version number" in text:
            raise PlainHttpError(
                f"The server at {url} does not speak TLS.",
                "Write http:// if you accept that nothing is encrypted.",
            ) from error
        if "CERTIFICATE" in text.upper():
            raise ServiceError(
                f"The certificate of {url} cannot be trusted ({_reason(error)}).",
                "Check the address, or give the hospital's CA certificate as `verify` or in REQUESTS_CA_BUNDLE.",
            ) from error
        return TransientError(network_error(url, "TLS failed"))
    if isinstance(error, requests.exceptions.ProxyError):
        cause = f"The proxy for {url} refused the connection or cannot be reached."
        return TransientError(ServiceError(cause, "Check HTTPS_PROXY, or name the server in NO_PROXY."))
    if isinstance(error, requests.exceptions.InvalidProxyURL):  # before InvalidURL, which it is too
        raise ServiceError("The address of the proxy cannot be used.", "Check HTTPS_PROXY.") from error
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        raise ServiceError(f"“{url}” is not the address of a server.", "Check it.") from error
    if isinstance(error, requests.exceptions.ConnectTimeout):
        cause = f"{url} did not answer within {connect_seconds:g} s."
        return TransientError(ServiceError(cause, "Check the address, the network, the VPN and firewalls."))
    if isinstance(error, requests.exceptions.Timeout):
        return TransientError(network_error(url, "the server stopped answering"))
    return TransientError(_connection_error(url, error))


def network_error(url: str, what: str) -> ServiceError:
    """Return the error for a connection that was there and failed."""
    return ServiceError(f"The connection to {url} failed: {what}.", "Check the network, and whether the server runs.")


def _connection_error(url: str, error: BaseException) -> ServiceError:
    """Say why there is no connection, from whatever requests wrapped the reason in."""
    text = repr(error)
    for link in _chain(error):
        if isinstance(link, socket.gaierror):
            text += " gaierror"
        elif isinstance(link, ConnectionRefusedError):
            text += " refused"
    if "gaierror" in text or "NameResolutionError" in text or "getaddrinfo" in text:
        host = url.partition("://")[2].split("/")[0]
        return ServiceError(f"No computer is called {host}.", "Check the spelling, the network and the VPN.")
    if "refused" in text.lower():
        return ServiceError(
            f"Nothing listens at {url}.", "Check the port, and whether the server was started (medals serve)."
        )
    return network_error(url, "it was cut")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from or wraps."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop()
        if isinstance(link, BaseException) and id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]


def _reason(error: BaseException) -> str:
    found = re.search(r"certificate verify failed: ([^()]+?) \(", str(error))
    return found[1] if found else "it failed the check"


def error_from_body(body: Mapping[str, Any]) -> MedalSError:
    """Rebuild the exception that an error body of the server, or a "failed" event, describes."""
    kind = str(body.get("kind", ""))
    cls = LostError if kind in protocol.RECOVERABLE_KINDS else protocol.ERROR_KINDS.get(kind, ServiceError)
    return cls(str(body.get("cause", "The server gave no reason.")), str(body.get("remedy", "")))


def _known_error(body: dict[str, Any], response: requests.Response) -> Exception:
    """Return an error body as what to raise: what passes by itself, or was damaged in transit, is tried again."""
    error = error_from_body(body)
    passes = protocol.TRANSIENT_KINDS | {"slow", protocol.CORRUPT}
    kind = str(body["kind"])
    return TransientError(error, _retry_after(response), kind == protocol.LOADING) if kind in passes else error


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return min(30.0, float(value)) if value.isdecimal() and len(value) < 6 else None


def _unknown_answer(url: str, response: requests.Response, content: bytes) -> Exception:
    """Return what an answer means that no Medal S server gave."""
    status = response.status_code
    title = _TITLE.search(content[:20000])
    words = f" (“{' '.join(title[1].decode('utf-8', 'replace').split())[:80]}”)" if title else ""
    if status == 407:
        return ServiceError("The proxy wants a password.", "Put it into HTTPS_PROXY, or name the server in NO_PROXY.")
    if status in (502, 503, 504):
        return TransientError(
            ServiceError(
                f"A gateway in front of {url} answers {status}{words}: the server behind it cannot be reached.",
                "Ask the server's administrator whether it runs; check your proxy settings.",
            ),
            _retry_after(response),
        )
    if status == 413:
        return ServiceError(
            f"A gateway in front of {url} takes only smaller requests{words}.",
            "Ask its administrator to let 8 MiB pass (nginx: client_max_body_size).",
        )
    if 300 <= status < 400:
        target = response.headers.get("location", "another address")
        return ServiceError(
            f"{url} sends on to {target[:200]} instead of answering; the key is not sent there.",
            "Log in to the network if it asks for it, or give the server's final address.",
        )
    if title or b"<html" in content[:2000].lower():
        return ServiceError(
            f"A web page{words} answered at {url} instead of a Medal S server.",
            "Check host and port; if it is a proxy's page, name the server in NO_PROXY.",
        )
    return ServiceError(f"What answers at {url} is not a Medal S server (status {status}).", "Check host and port.")
