"""The client: an engine and sessions that live on a server, with numpy and requests only.

What a server, a network or a proxy can do wrong ends either in the same result as if nothing had happened, or in a
`ServiceError` that says what to do; the image stays here, and the session stays usable.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Engine, EngineInfo
from MedalSLib.errors import ServiceError
from MedalSLib.run import ProgressCallback
from MedalSLib.service import protocol
from MedalSLib.service.addresses import Address, parse_address
from MedalSLib.service.client_errors import PlainHttpError
from MedalSLib.service.describing import UploadDescription, describe_upload
from MedalSLib.service.remote_session import RemoteSession, silent
from MedalSLib.service.transport import Transport, TransportOptions

LOG = logging.getLogger("medals.client")
HANDSHAKE_SECONDS = 10.0
"""How long an answer to the handshake may take; a program that is no Medal S server may never answer."""
FIRST_ANSWER_SECONDS = 3.0
"""How long a server may be unreachable when it is opened: a wrong address should be said at once."""


def connect(
    url: str,
    api_key: str = "",
    timeout: float = 60.0,
    verify: bool | str = True,
    proxies: Mapping[str, str] | None = None,
    compression: int = 1,
    startup_seconds: float = 300.0,
    cancel: threading.Event | None = None,
) -> RemoteEngine:
    """Open the engine of a server.

    Args:
        url: Address as the user typed it: a URL, "host:port" or "host".
        api_key: The user's key, if the server wants one.
        timeout: Seconds for which a server that cannot be reached, or is busy, is tried again during work.
        verify: As in requests: False, or the path of a CA bundle.
        proxies: As in requests; None for the environment's.
        compression: Level of zlib for images; 0 stores them (fast networks).
        startup_seconds: Wait this long for a server that is still loading its model.
        cancel: Ends the waiting.

    Raises:
        ServiceError: It cannot be reached, is no Medal S server, speaks another version, or refuses the key.
        ModelError: The server could not load its model.
        CancelledError: `cancel` was set.
    """
    options = TransportOptions(_clean(api_key), patience_seconds=timeout, verify=verify, proxies=proxies)
    address, transport, handshake = _find_server(parse_address(url), options)
    if handshake.get("authentication") == "key" and not options.api_key:
        raise ServiceError(f"The server {address.url} needs an API key.", "Ask its administrator for one and enter it.")
    return RemoteEngine(transport, compression, startup_seconds, cancel)


def ask_key_usage(url: str, api_key: str) -> dict[str, protocol.KeyUsage]:
    """Return how the keys of a server were used since it was started, by name.

    Args:
        url: Address as the user typed it.
        api_key: A key of the scope "admin".

    Raises:
        ServiceError: It cannot be reached, is no Medal S server, or the key is not for that.
    """
    _, transport, _ = _find_server(parse_address(url), TransportOptions(_clean(api_key)))
    answer = transport.request("GET", "/v1/keys")
    try:
        return {str(name): protocol.from_json(protocol.KeyUsage, use) for name, use in answer.items()}
    except (AttributeError, ValueError) as error:
        raise ServiceError(f"The server at {transport.url} answers in an unknown way.", "Update both sides.") from error
    finally:
        transport.close()


def _clean(api_key: str) -> str:
    key = api_key.strip()
    if not key.isascii() or any(character.isspace() for character in key):
        raise ServiceError("The API key holds characters no key has.", "Copy the key again, without quotes or blanks.")
    return key


def _find_server(address: Address, options: TransportOptions) -> tuple[Address, Transport, dict[str, Any]]:
    """Shake hands under the typed scheme, or under the other one if none was typed.

    The key is never sent without TLS to another machine unless the user typed http://.
    """
    transport = Transport(address.url, options)
    try:
        return address, transport, shake_hands(transport)
    except PlainHttpError as error:
        if not address.guessed:
            raise
        plain = address.with_scheme("http")
        if options.api_key and not plain.local:
            raise ServiceError(
                f"The server {address.url} does not encrypt, and an API key would be sent.",
                f"Ask for TLS, or type {plain.url} if you accept that key and images can be read on the way.",
            ) from error
        transport = Transport(plain.url, options)
        return plain, transport, shake_hands(transport)
    except ServiceError:
        if not (address.guessed and address.local):
            raise
        secure = address.with_scheme("https")
        transport = Transport(secure.url, options)
        try:
            return secure, transport, shake_hands(transport, patience=0.0)
        except ServiceError as error:
            LOG.debug("no TLS there either: %s", error.cause)
        raise


def shake_hands(transport: Transport, patience: float | None = None) -> dict[str, Any]:
    """Make sure that a Medal S server of a fitting version answers, without showing it the key.

    Args:
        transport: The server.
        patience: Seconds to try again for; None for `FIRST_ANSWER_SECONDS`, or the transport's if that is shorter.

    Returns:
        The fields of `protocol.Handshake`.

    Raises:
        ServiceError: Something else answers, or nothing, or another version.
    """
    if patience is None:
        patience = min(FIRST_ANSWER_SECONDS, transport.options.patience_seconds)
    try_seconds = max(1.0, min(HANDSHAKE_SECONDS, transport.options.patience_seconds))
    answer = transport.request("GET", "/handshake", with_key=False, patience=patience, try_seconds=try_seconds)
    if not isinstance(answer, dict) or answer.get("service") != protocol.SERVICE:
        raise ServiceError(f"What answers at {transport.url} is not a Medal S server.", "Check host and port.")
    try:
        problem = protocol.version_problem(int(answer["protocol"]), int(answer["oldest_protocol"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceError(
            f"The server at {transport.url} does not say which version it speaks.", "Ask for it to be updated."
        ) from error
    if problem:
        raise ServiceError(problem)
    return answer


class RemoteEngine(Engine):
    """The engine of a server; see `MedalSLib.engine.interface.Engine`.

    Args:
        transport: The way to a server that shook hands.
        compression: Level of zlib for images.
        startup_seconds: Wait this long for the model.
        cancel: Ends the waiting.

    Raises:
        ServiceError: The server refuses the key, or does not answer.
        ModelError: The server could not load its model.

    Attributes:
        sends_images: Opening an image takes time: `open_session` has `on_progress` and `cancel`.
    """

    sends_images = True

    def __init__(
        self,
        transport: Transport,
        compression: int = 1,
        startup_seconds: float = 300.0,
        cancel: threading.Event | None = None,
    ) -> None:
        self.transport = transport
        self._compression = compression
        answer = transport.request("GET", "/v1/info", startup_seconds=startup_seconds, cancel=cancel)
        try:
            description = protocol.from_json(protocol.EngineDescription, answer)
        except ValueError as error:
            cause = f"The server at {transport.url} describes itself in an unknown way."
            raise ServiceError(cause, "Update both sides.") from error
        self._info, self.limits = description.engine, description.limits
        self._sessions: weakref.WeakSet[RemoteSession] = weakref.WeakSet()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None

    def info(self) -> EngineInfo:
        """Say what the server has loaded."""
        return self._info

    @property
    def address(self) -> Address:
        """Where the server is."""
        return Address(self.transport.url, False)

    def open_session(
        self,
        array_kji: np.ndarray,
        affine_ras: np.ndarray,
        modality: str | None = None,
        *,
        on_progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RemoteSession:
        """Send an image, unless the server has it, and open it.

        Args:
            array_kji: Intensities (K, J, I); copied, so that it can be sent again whenever the server lost it.
            affine_ras: 4x4, index (i, j, k) to RAS millimetres.
            modality: "CT", "MRI", "US", "PET" or "Microscopy"; None to guess it from the intensities.
            on_progress: Told how much of the image is sent.
            cancel: Ends the sending; what was sent is not sent again next time.

        Raises:
            InputError: Not a 3-D image with finite, varying intensities on an invertible grid.
            ServiceError: The server cannot be reached or refuses.
            CancelledError: `cancel` was set.
        """
        if self._closed.is_set():
            raise ServiceError("This engine was closed.", "Open it again.")
        session = RemoteSession(self.transport, self.limits, array_kji, affine_ras, modality, self._compression)
        session.open(on_progress or silent, cancel)
        self._sessions.add(session)
        if self._heart is None:
            self._heart = threading.Thread(
                target=_beat, args=(weakref.ref(self), self._closed), name="medals-heart", daemon=True
            )
            self._heart.start()
        return session

    def describe_upload(
        self, array_kji: np.ndarray, prompts: Sequence[str] = (), masks: Sequence[str] = ()
    ) -> UploadDescription:
        """Say what would be sent for an image; sends nothing.

        Args:
            array_kji: Intensities (K, J, I).
            prompts: Names that would be sent.
            masks: Names of the masks that would be sent.
        """
        return describe_upload(self.address, self.limits.lease_seconds, array_kji, prompts, masks)

    def close(self) -> None:
        """End the sessions; the server stays."""
        self._closed.set()
        for session in list(self._sessions):
            session.close()
        self.transport.close()

    def live_sessions(self) -> list[RemoteSession]:
        """Return the sessions that are open."""
        return [session for session in list(self._sessions) if not session.closed]


def _beat(engine: weakref.ref[RemoteEngine], closed: threading.Event) -> None:
    """Keep the leases of an engine's sessions until it is closed or forgotten."""
    while True:
        alive = engine()
        if alive is None:
            return
        interval = alive.limits.lease_seconds / 3
        del alive
        if closed.wait(interval):
            return
        alive = engine()
        if alive is not None and not alive.transport.dormant:
            for session in alive.live_sessions():
                session.beat()
        del alive
