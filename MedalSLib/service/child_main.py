"""The local, isolated engine's own process: the server on the loopback, for one parent, which it does not outlive.

Started by `MedalSLib.service.child`.  Standard input brings one line of JSON (`ChildConfig`), with the key, which so
appears neither in the list of processes nor in the environment; afterwards its end means that the parent is gone.
Standard output answers with one line: `{"port": N}`, or the error that kept the server from starting.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from typing import Any

from MedalSLib.errors import MedalSError, ResourceError
from MedalSLib.service.settings import MEBIBYTE, Settings

ONE_DAY = 86400.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ChildConfig:
    """What the parent tells the child.

    Attributes:
        key: The one key.
        parent: The parent's process number.
        factory: "module:function" that makes the engine.
        arguments: Its keyword arguments.
        paths: Entries of the parent's `sys.path`.
    """

    key: str
    parent: int
    factory: str
    arguments: dict[str, Any]
    paths: tuple[str, ...]


def child_settings(key: str) -> Settings:
    """Return the settings of a server that serves one user on their own machine."""
    return Settings(
        host="127.0.0.1",
        port=0,
        keys=(("local", key),),
        chunk_bytes=16 * MEBIBYTE,
        request_bytes=512 * MEBIBYTE,
        idle_seconds=ONE_DAY,
        requests_per_second=1000.0,
        request_burst=10000,
    )


def die_with_parent(parent: int) -> None:
    """Let the kernel end this process with its parent (Linux), and watch standard input for the same (everywhere).

    The kernel's way works even while a computation holds Python's lock.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if hasattr(os, "getppid") and sys.platform != "win32" and os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_end_with_input, name="medals-parent", daemon=True).start()


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Serve until the parent is gone; returns the exit code."""
    config = ChildConfig(**json.loads(io.FileIO(0, closefd=False).readline()))
    die_with_parent(config.parent)
    sys.path += [path for path in config.paths if path not in sys.path]
    try:
        _serve(config)
    except MedalSError as error:
        _say({"error": type(error).__name__, "cause": error.cause, "remedy": error.remedy})
        return error.exit_code
    except ModuleNotFoundError as error:
        missing = ResourceError(f"The package {error.name} is not installed.", 'Install "medals[server]".')
        _say({"error": "ResourceError", "cause": missing.cause, "remedy": missing.remedy})
        return missing.exit_code
    return 0


def _serve(config: ChildConfig) -> None:
    from MedalSLib.service.app import create_app
    from MedalSLib.service.serving import serve_app

    module, _, function = config.factory.partition(":")

    def factory() -> Any:
        return getattr(importlib.import_module(module), function)(**config.arguments)

    settings = child_settings(config.key)
    serve_app(create_app(factory, settings), settings, lambda port: _say({"port": port}))


if __name__ == "__main__":
    sys.exit(main())
