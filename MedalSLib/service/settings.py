"""How a server is run: addresses, keys, limits; and the check that it is not exposed by accident."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from MedalSLib.errors import ServiceError
from MedalSLib.service.protocol import DEFAULT_PORT

MEBIBYTE = 1 << 20
SLOWEST = 4096
"""Bytes a second at which a body or an answer makes progress: below that somebody only holds the connection."""


def default_memory_bytes() -> int:
    """Return half of the machine's memory, or 8 GiB where it cannot be read (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 8192 * MEBIBYTE


@dataclass(frozen=True)
class Settings:
    """Settings of one server; the defaults suit a department's GPU machine.

    Attributes:
        host: Address to listen on.
        port: Port to listen on, 0 for a free one.
        key_file: File of API keys (see `MedalSLib.service.keys`); read again whenever it changes.
        keys: Plain keys by name that live in memory only (the local child process).
        certificate: TLS certificate chain (PEM).
        certificate_key: Private key of the certificate (PEM).
        insecure: Start off the loopback although there is no key or no TLS (behind a TLS proxy, in a closed network).
        proxies: Addresses or networks of the reverse proxies whose X-Forwarded-For is believed; nobody else's is.
        audit_file: Append the audit log here; None writes it to standard error with the other logs.
        memory_bytes: Memory for images, sessions and results, in bytes; None for half of the machine's.
        image_bytes: Largest image before compression.
        key_share: Share of the memory that one key may hold where several keys are known.
        request_bytes: Largest body of a run's request, masks included; parsing it stops nothing else for long.
        chunk_bytes: Size of an image's chunks before compression; a multiple of 8.
        session_voxel_bytes: Memory an engine needs for an open session beside the image, in bytes a voxel.
        masks: Most masks (and most locked ones) of one run.
        prompts: Most prompts of one run.
        text_characters: Most characters of a run's prompts and names of masks together.
        sessions_per_key: Most sessions open with one key.
        runs_per_key: Most runs queued or running with one key.
        queue_length: Most runs queued or running over all keys.
        lease_seconds: A session ends when nothing was heard of its client for this long.
        idle_seconds: A session ends when it was not used (no run, no estimate) for this long.
        protect_seconds: A session used within this time is not evicted for another key's.
        requests_per_second: Sustained requests of one key.
        request_burst: Requests of one key that may come at once.
        requests_at_once: Most requests of one key that are being answered, event streams included.
        failures_per_minute: Wrong keys from one address before it is told to wait; right keys are never refused.
        head_seconds: A connection that has not sent the whole head of a request after this long is closed.
        body_seconds: A body that arrives, or an answer that is read, slower than `SLOWEST` is dropped after this long.
        stuck_seconds: The engine counts as stuck when a cancelled run has not ended after this long.
        connections: Most connections at once; the longest idle one makes room for a new one.
        connections_per_address: Most connections of one address that is no proxy.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    key_file: Path | None = None
    keys: tuple[tuple[str, str], ...] = ()
    certificate: Path | None = None
    certificate_key: Path | None = None
    insecure: bool = False
    proxies: tuple[str, ...] = ()
    audit_file: Path | None = None
    memory_bytes: int | None = None
    image_bytes: int = 4096 * MEBIBYTE
    key_share: float = 0.5
    request_bytes: int = 16 * MEBIBYTE
    chunk_bytes: int = 4 * MEBIBYTE
    session_voxel_bytes: int = 8
    masks: int = 512
    prompts: int = 512
    text_characters: int = 16_000
    sessions_per_key: int = 64
    runs_per_key: int = 8
    queue_length: int = 64
    lease_seconds: float = 120.0
    idle_seconds: float = 1800.0
    protect_seconds: float = 60.0
    requests_per_second: float = 200.0
    request_burst: int = 1000
    requests_at_once: int = 64
    failures_per_minute: int = 20
    head_seconds: float = 10.0
    body_seconds: float = 60.0
    stuck_seconds: float = 300.0
    connections: int = 512
    connections_per_address: int = 128

    @property
    def memory_limit(self) -> int:
        """Memory budget in bytes."""
        return default_memory_bytes() if self.memory_bytes is None else self.memory_bytes

    def url(self, port: int) -> str:
        """Return the address under which a server with these settings answers on a port."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{name}:{port}"

    @property
    def authenticated(self) -> bool:
        """Whether requests need a key."""
        return self.key_file is not None or bool(self.keys)


def _check_proxy(proxy: str) -> None:
    try:
        ipaddress.ip_network(proxy)
    except ValueError as error:
        raise ServiceError(
            f"“{proxy}” is not the address of a proxy.", "Give an address such as 10.1.2.3, or a network: 10.1.2.0/24."
        ) from error


def is_loopback(host: str) -> bool:
    """Tell whether an address can be reached from this machine only."""
    if host.casefold() in {"localhost", "localhost.localdomain"}:
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return False


def check_exposure(settings: Settings) -> None:
    """Refuse to put images of patients on a network without a key and TLS, unless that is forced.

    Raises:
        ServiceError: The address is off the loopback, and there is no key or no TLS; or the port or a proxy is none.
    """
    if not 0 <= settings.port <= 65535:
        raise ServiceError(f"There is no port {settings.port}.", "Choose one from 1 to 65535, or 0 for a free one.")
    for proxy in settings.proxies:
        _check_proxy(proxy)
    if bool(settings.certificate) != bool(settings.certificate_key):
        raise ServiceError(
            "TLS needs a certificate and its private key; only one of them was given.",
            "Give both --tls-certificate and --tls-key.",
        )
    for path in (settings.certificate, settings.certificate_key):
        if path is not None and not path.is_file():
            raise ServiceError(f"The TLS file {path} does not exist.", "Check the path.")
    if is_loopback(settings.host) or settings.insecure:
        return
    missing = [
        what
        for what, there in (("an API key", settings.authenticated), ("TLS", settings.certificate is not None))
        if not there
    ]
    if missing:
        raise ServiceError(
            f"The server would listen on {settings.host}, for everybody on the network, without "
            f"{' and without '.join(missing)}.",
            "Give --api-key-file and --tls-certificate/--tls-key, listen on 127.0.0.1 behind a TLS proxy, "
            "or accept the risk with --insecure.",
        )
