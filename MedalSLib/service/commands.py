"""What `medals serve` and `medals keys` do, as plain functions; the command line only parses for them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import MedalSError, ResourceError
from MedalSLib.service.keys import add_key, read_key_file, remove_keys
from MedalSLib.service.protocol import DEFAULT_PORT
from MedalSLib.service.settings import MEBIBYTE, Settings, check_exposure

LOG = logging.getLogger("medals.service")


def serve(
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    model: str = "starter",
    device: str = "auto",
    api_key_file: Path | None = None,
    tls_certificate: Path | None = None,
    tls_key: Path | None = None,
    insecure: bool = False,
    memory_mb: int | None = None,
    audit_log: Path | None = None,
    threads: int = 0,
    ray: bool = False,
    replicas: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> int:
    """Run the server until it is asked to stop, and return the exit code.

    Args:
        host: Address to listen on.
        port: Port to listen on, 0 for a free one.
        model: "starter", the name of an installed model, or a path.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        api_key_file: File of API keys; see `MedalSLib.service.keys`.
        tls_certificate: TLS certificate chain (PEM).
        tls_key: Its private key (PEM).
        insecure: Start off the loopback although there is no key or no TLS.
        memory_mb: Memory for images, sessions and results in MiB; None for half of the machine's.
        audit_log: Append the audit log to this file; None for standard error, with the other logs.
        threads: CPU threads of the engine, 0 for torch's own choice.
        ray: Deploy on Ray Serve instead of serving from this process.
        replicas: With `ray`: fixed number of replicas; None to scale with the load, one a GPU.
        say: Shown to the user who started the server: the address, once it listens.

    Raises:
        ServiceError: The settings are not safe, or the address cannot be used.
        ModelError: No such model.
        ResourceError: A package is missing.
    """
    settings = Settings(
        host=host,
        port=port,
        key_file=api_key_file,
        certificate=tls_certificate,
        certificate_key=tls_key,
        insecure=insecure,
        memory_bytes=None if memory_mb is None else memory_mb * MEBIBYTE,
        audit_file=audit_log,
    )
    check_exposure(settings)
    if api_key_file is not None:
        read_key_file(api_key_file)

    def factory() -> Engine:
        return open_engine(model, device, **({"threads": threads} if threads else {}))

    if ray:
        from MedalSLib.service.scaleout import serve_on_ray

        serve_on_ray(factory, settings, replicas, say)
        return 0
    _serve_here(factory, settings, say)
    return 0


def _serve_here(factory: Callable[[], Engine], settings: Settings, say: Callable[[str], None]) -> None:
    try:
        from MedalSLib.service.app import create_app
        from MedalSLib.service.serving import serve_app
    except ModuleNotFoundError as error:
        raise missing_package(error, "server") from error
    from MedalSLib.service.logs import configure_logging

    configure_logging()
    scheme = "https" if settings.certificate else "http"
    name = f"[{settings.host}]" if ":" in settings.host else settings.host
    serve_app(
        create_app(factory, settings),
        settings,
        lambda port: say(f"Medal S listens on {scheme}://{name}:{port}; press Ctrl+C to stop."),
    )


def missing_package(error: ModuleNotFoundError, extra: str) -> MedalSError:
    """Return the error for a package of an extra that is not installed."""
    return ResourceError(
        f"The package {error.name} is not installed.", f'Install it with: pip install "medals[{extra}]"'
    )


def keys_add(path: Path, name: str) -> str:
    """Make a key for a person or a computer, and return it; the file holds its hash only.

    Raises:
        ServiceError: The name cannot be used, or the file cannot be written.
    """
    return add_key(path, name)


def keys_remove(path: Path, name: str, keep_newest: bool = False) -> int:
    """Take keys out of the file, and return how many; a running server refuses them from its next request on.

    Raises:
        ServiceError: The file cannot be read or written, or no other key would be left.
    """
    return remove_keys(path, name, keep_newest)


def keys_list(path: Path) -> tuple[str, ...]:
    """Return the names in a key file, one for each key.

    Raises:
        ServiceError: The file cannot be read.
    """
    return tuple(record.name for record in read_key_file(path))
