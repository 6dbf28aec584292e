"""How a server is for others while one address and one key attack it in every known way at once.

A real server, an attacker and one who asks for `/health` on fresh connections, each in a process of its own, and this
one, which runs a small segmentation with a right key.  The ways are those of Documentation/threat-model.md.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import MedalSError, ServiceError
from MedalSLib.service.client import connect

_ROOT = Path(__file__).resolve().parents[2]
_GREEDY, _OTHER = "the-key-of-the-greedy-one", "the-key-of-the-other-one"
_FROM = ("127.0.0.2", 0)
"""Another computer, as far as the server can tell (Linux)."""
_MIB = 1 << 20
_SERVER = """
import os, sys
from MedalSLib.engine import open_engine
from MedalSLib.service.app import create_app
from MedalSLib.service.serving import serve_app
from MedalSLib.service.settings import Settings
settings = Settings(port=0, keys=(("greedy", sys.argv[1]), ("other", sys.argv[2])), memory_bytes=1 << 30)
app = create_app(lambda: open_engine("starter", "cpu"), settings)
serve_app(app, settings, lambda port: os.write(1, b"%d\\n" % port))
"""


@dataclass(frozen=True)
class _Target:
    """Where the attacks go to: the port, and a session of the greedy key."""

    port: int
    session: str


def attack_bench(seconds: float = 20.0, ways: tuple[str, ...] = ()) -> dict[str, Any]:
    """Attack a server and measure what others notice.

    Args:
        seconds: How long.
        ways: Names of the attacks, of `WAYS`; none for all of them at once.

    Returns:
        JSON-ready figures: `processor_seconds` of the server (where it is much less than `seconds` and the answers are
        late, the machine was too busy for the attack to matter), `health` (answers on fresh connections: their number,
        failures, milliseconds), `right_key` (another key's images, each opened and segmented: done, failed, seconds of
        the longest) and `memory` (MiB resident before and at most, and what the server's own metric says at the end).

    Raises:
        ServiceError: The server does not start, or there is no such way.
    """
    if not set(ways) <= set(WAYS):
        raise ServiceError(f"There is no such attack as {', '.join(ways)}.", f"Choose from {', '.join(WAYS)}.")
    with _process([sys.executable, "-c", _SERVER, _GREEDY, _OTHER]) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        image = np.random.default_rng(0).integers(-200, 300, (16, 32, 32), np.int16)
        with connect(url, _OTHER, timeout=10.0) as other, connect(url, _GREEDY) as greedy:
            session, theirs = (engine.open_session(image, np.eye(4), "CT") for engine in (other, greedy))
            session.segment(["liver"])
            watched = psutil.Process(server.pid)
            memory, before, computed = watched.memory_info, watched.memory_info().rss, watched.cpu_times()
            chosen = ways or tuple(WAYS)
            with _process([sys.executable, __file__, str(port), theirs.id, str(seconds + 60), *chosen]) as attacker:
                assert attacker.stdout is not None
                attacker.stdout.readline()
                time.sleep(2.0)
                runs = _Runs(other, image, seconds)
                health, most = _ask_health(port, seconds, lambda: memory().rss)
                spent = watched.cpu_times()
                told = _granted(url)
            return {
                "benchmark": "attack",
                "ways": chosen,
                "seconds": seconds,
                "processor_seconds": round(spent.user + spent.system - computed.user - computed.system, 1),
                "health": health,
                "right_key": runs.report(),
                "memory": {
                    "mib_before": round(before / _MIB),
                    "mib_at_most": round(most / _MIB),
                    "mib_granted_at_the_end": told,
                },
            }


@contextlib.contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(_ROOT)]))  # the tested one first
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": paths}, **pipes) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


class _Runs:
    """Opens an image and segments it with a right key, again and again, in a thread."""

    def __init__(self, engine: Engine, image: np.ndarray, seconds: float) -> None:
        self._engine = engine
        self._image = image
        self._end = time.monotonic() + seconds
        self._seconds: list[float] = []
        self._failures: list[str] = []
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        for number in itertools.count(1):
            begun = time.monotonic()
            if begun > self._end:
                return
            try:
                with self._engine.open_session(self._image + np.int16(number), np.eye(4), "CT") as session:
                    session.segment(["liver"])
                self._seconds.append(time.monotonic() - begun)
            except MedalSError as error:
                self._failures.append(error.cause)

    def report(self) -> dict[str, Any]:
        """Wait for the last run, a minute at most, and say how they went."""
        self._thread.join(60.0)
        longest = round(max(self._seconds, default=0.0), 1)
        return {"done": len(self._seconds), "failed": len(self._failures), "longest_s": longest,
                "failures": sorted(set(self._failures))[:3]}  # fmt: skip


def _ask_health(port: int, seconds: float, memory: Callable[[], int]) -> tuple[dict[str, Any], int]:
    """Return figures of the answers, and the most memory that the server had meanwhile."""
    most = 0
    with _process([sys.executable, __file__, "ask", str(port), str(seconds)]) as asker:
        while asker.poll() is None:
            most = max(most, memory())
            time.sleep(0.1)
        assert asker.stdout is not None
        answers = json.loads(asker.stdout.read())
    times = [took for took, _healthy in answers]
    figures = {"median_ms": round(statistics.median(times), 1), "longest_ms": round(max(times), 1)}
    failed, over = sum(not healthy for _took, healthy in answers), sum(took > 200.0 for took in times)
    return {"asked": len(times), "failed": failed, "over_200_ms": over, **figures}, most


def _ask(port: int, seconds: float) -> list[tuple[float, bool]]:
    """Return milliseconds and success of each answer."""
    answers, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.monotonic()
        healthy = _is_healthy(port)
        answers.append((1000 * (time.monotonic() - begun), healthy))
        time.sleep(0.1)
    return answers


def _is_healthy(port: int) -> bool:
    """Ask by http.client: on a full processor requests takes longer than the server, and would be measured too."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


def _granted(url: str) -> int | None:
    """MiB that the server says it has granted; None if it does not answer."""
    try:
        text = requests.get(f"{url}/metrics", headers={"Authorization": f"Bearer {_OTHER}"}, timeout=30).text
        line = next(line for line in text.splitlines() if line.startswith("medals_memory_bytes "))
    except (requests.RequestException, StopIteration):
        return None
    return round(float(line.split()[1]) / _MIB)


# ---------------------------------------------------------------------------------------------------------- the attacks


def _open(target: _Target, sent: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", target.port), timeout=10, source_address=_FROM)
    connection.sendall(sent)
    return connection


def _hold(target: _Target, sent: bytes, count: int, drip: bytes = b"") -> None:
    """Keep so many connections open that have sent something, and let more of it drip."""
    held: list[socket.socket] = []
    while True:
        with contextlib.suppress(OSError):
            while len(held) < count:
                held.append(_open(target, sent))
        for connection in list(held):
            try:
                connection.settimeout(0.0)
                if drip:
                    connection.send(drip)
                if not connection.recv(1):
                    held.remove(connection)
            except BlockingIOError:
                continue
            except OSError:
                held.remove(connection)
        time.sleep(0.5)


def _head(target: _Target, method: str, path: str, length: int) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{target.port}", f"Authorization: Bearer {_GREEDY}"]
    return "\r\n".join([*lines, "Content-Type: application/json", f"Content-Length: {length}", "", ""]).encode()


def _send(target: _Target, method: str, path: str, body: bytes, key: str = _GREEDY) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=30, source_address=_FROM)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request(method, path, body, headers)
        connection.getresponse().read()


def _repeat(what: Callable[[_Target], None], threads: int) -> Callable[[_Target], None]:
    def work(target: _Target) -> None:
        def again() -> None:
            while True:
                what(target)

        for _ in range(threads):
            threading.Thread(target=again, daemon=True).start()

    return work


def _run_path(target: _Target) -> str:
    return f"/v1/sessions/{target.session}/runs/{uuid.uuid4().hex}"


@cache
def _countless_values() -> bytes:
    return b'{"prompts": ["a"], "more": [' + b"[1]," * 9_500_000 + b"1]}"


_LONG_TEXT = json.dumps({"prompts": ["liver, splean, lt kidny, blorb of doom, " * 500]}).encode()
_TEXT_WITHIN = json.dumps({"prompts": ["liver, splean, lt kidny, blorb of doom, " * 390]}).encode()
_VALUES_WITHIN = b'{"prompts": [' + b'"a",' * 48_000 + b'"a"]}'


@cache
def _body(mebibytes: int) -> bytes:
    noise = base64.b64encode(os.urandom(mebibytes * 3 * _MIB // 4)).decode()
    mask = {"shape": [16, 32, 32], "box": [[0, 16], [0, 32], [0, 32]], "dtype": "bits", "data": noise}
    return json.dumps({"masks": {"a": mask}}).encode()


_ANNOUNCED = json.dumps({"dtype": "|u1", "shape": [64, 1024, 1024]}).encode()

WAYS: dict[str, Callable[[_Target], None]] = {
    "idle": lambda target: _hold(target, b"", 300),
    "slow_heads": lambda target: _hold(target, b"GET /health HTTP/1.1\r\nX-Slow: ", 60, b"a"),
    "slow_bodies": lambda target: _hold(target, _head(target, "PUT", f"/v1/images/{'0' * 64}", 8000), 60, b" "),
    "announced": _repeat(lambda to: _send(to, "PUT", f"/v1/images/{uuid.uuid4().hex * 2}", _ANNOUNCED), 1),
    "long_text": _repeat(lambda to: _send(to, "POST", f"/v1/sessions/{to.session}/estimate", _LONG_TEXT), 8),
    "text_within": _repeat(lambda to: _send(to, "POST", f"/v1/sessions/{to.session}/estimate", _TEXT_WITHIN), 8),
    "countless_values": _repeat(lambda to: _send(to, "PUT", _run_path(to), _countless_values()), 1),
    "values_within": _repeat(lambda to: _send(to, "PUT", _run_path(to), _VALUES_WITHIN), 2),
    "long_bodies": _repeat(lambda to: _send(to, "PUT", _run_path(to), _body(58)), 2),
    "bodies_within": _repeat(lambda to: _send(to, "PUT", _run_path(to), _body(15)), 2),
    "wrong_keys": _repeat(lambda to: _send(to, "GET", "/v1/info", b"", "a-wrong-key-a-wrong-key"), 1),
}
"""Attacks by name, "within" being those just inside the server's limits; each goes on until its process is killed."""


def _attack(arguments: list[str]) -> None:
    if {"countless_values", "long_bodies", "bodies_within"} & set(arguments[3:]):
        _countless_values(), _body(58), _body(15)
    os.nice(19)  # on another computer it would take no processor from the server
    os.write(1, b"ready\n")
    target = _Target(int(arguments[0]), arguments[1])
    for way in arguments[3:]:
        threading.Thread(target=WAYS[way], args=(target,), daemon=True).start()
    time.sleep(float(arguments[2]))


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.stdout.write(json.dumps(_ask(int(sys.argv[2]), float(sys.argv[3]))))
    else:
        _attack(sys.argv[1:])
