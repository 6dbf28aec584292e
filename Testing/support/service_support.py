"""Real servers for tests: in a thread, or as a process that can be killed, both with the fake engine and an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fake_engine import FakeEngine

from MedalSLib.engine.interface import Engine
from MedalSLib.service.app import create_app
from MedalSLib.service.client import RemoteEngine, connect
from MedalSLib.service.server import Server
from MedalSLib.service.serving import make_server, serve_app
from MedalSLib.service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-tests"
AFFINE = np.array([[-0.7, 0.1, 0, 10], [0.1, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
LONGEST_LIFE = 120.0
"""Seconds after which a server process of a test ends by itself, whatever happened to the test."""


def make_image(shape: tuple[int, int, int] = (12, 20, 16), seed: int = 0) -> np.ndarray:
    """An image (K, J, I) of random Hounsfield units."""
    return np.random.default_rng(seed).integers(-1000, 1000, shape, dtype=np.int16)


def small_settings(**changes: Any) -> Settings:
    """Settings of a small server with one key: chunks of 4 KiB, so that small images have several."""
    values: dict[str, Any] = {"port": 0, "keys": (("tester", KEY),), "chunk_bytes": 4096, "memory_bytes": 64 << 20}
    return Settings(**(values | changes))


@dataclass
class Running:
    """A server in a thread of this process."""

    url: str
    service: Server

    def connect(self, key: str = KEY, **options: Any) -> RemoteEngine:
        return connect(self.url, api_key=key, **({"timeout": 20.0} | options))

    def let_time_pass(self, seconds: float) -> None:
        """Move the clock of leases and idle times on; the server looks at it once a second."""
        clock = self.service.store._clock
        self.service.store._clock = lambda: clock() + seconds


@contextmanager
def running_server(engine: Engine | None = None, **changes: Any) -> Iterator[Running]:
    """Run a server in a thread for the length of the block."""
    settings = small_settings(**changes)
    app = create_app(lambda: engine or FakeEngine(), settings)
    listening = threading.Event()
    server, listener = make_server(app, settings, listening.set)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        assert listening.wait(20), "the server did not start"
        scheme = "https" if settings.certificate else "http"
        yield Running(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}", app.state.server)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


class ServerProcess:
    """A server in a process of its own, which can be killed and started again on the same port."""

    def __init__(self, patches: int = 4, seconds_per_patch: float = 0.0, **changes: Any) -> None:
        self._engine = {"patches": patches, "seconds_per_patch": seconds_per_patch}
        self._changes = changes
        self.port = 0
        self.process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        arguments = json.dumps({"engine": self._engine, "settings": self._changes | {"port": self.port}})
        path = os.pathsep.join([str(ROOT), str(ROOT / "Testing" / "support")])
        self.process = subprocess.Popen(
            [sys.executable, __file__, arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def _serve_until_the_test_ends() -> None:
    """Body of `ServerProcess`: ends when its standard input does, or after `LONGEST_LIFE`."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    ending = threading.Timer(LONGEST_LIFE, lambda: os._exit(1))
    ending.daemon = True
    ending.start()
    arguments = json.loads(sys.argv[1])
    settings = small_settings(**arguments["settings"])
    app = create_app(lambda: FakeEngine(**arguments["engine"]), settings)
    serve_app(app, settings, lambda port: os.write(1, b"%d\n" % port))


def serve(*arguments: str) -> int:
    """Run `medals serve` in this process, letting its errors out instead of printing them."""
    from MedalSLib.cli import build_parser

    parsed = build_parser().parse_args(["serve", *arguments])
    return parsed.run(parsed)


def wait_until(what: Any, seconds: float = 60.0) -> None:
    """Wait until `what()` is true; fails when it never is."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def same_result(left: Any, right: Any) -> bool:
    """Whether two results hold the same arrays and the same report."""
    same_masks = left.masks.keys() == right.masks.keys() and all(
        np.array_equal(left.masks[name], right.masks[name]) and left.masks[name].dtype == bool for name in right.masks
    )
    same_instances = left.instances == right.instances
    same_labels = np.array_equal(left.labelmap, right.labelmap) and left.labelmap.dtype == right.labelmap.dtype
    return (
        same_masks
        and same_instances
        and same_labels
        and left.names == right.names
        and asdict(left.report) == asdict(right.report)
    )


if __name__ == "__main__":
    _serve_until_the_test_ends()
