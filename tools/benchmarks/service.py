"""What the service costs: bytes on the wire, time beside the engine's, requests a second, memory after many runs.

The server is a real one in a process of its own on the loopback, so a network's own time comes on top: divide the bytes
by its speed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import requests

from MedalSLib.engine.interface import Engine, Session
from MedalSLib.errors import InputError, ServiceError
from MedalSLib.service.child import IsolatedEngine, open_isolated_engine
from MedalSLib.service.client import RemoteEngine, connect
from tools.benchmarks.fixed_engine import FixedEngine, ct_like

_AFFINE = np.diag([-0.8, -0.8, 1.5, 1.0])
_MIB, _KIB = 2.0**20, 2.0**10
_FIXED = "tools.benchmarks.fixed_engine:open_fixed"
_SMALL = (32, 32, 32)
_MEDIUM = (64, 96, 96)
_RUNS_OF_A_SESSION = 4
_FEW_RUNS = 10

Say = Callable[[str], None]


@dataclass(frozen=True)
class ServiceBenchOptions:
    """What is measured.

    Attributes:
        shape_ijk: Voxels of the CT along i, j, k.
        masks: Structures of a run on it.
        clients: Clients at once, for the requests a second.
        seconds: Length of each measurement of requests a second.
        runs: Runs before the last reading of the memory.
        model: Model of the small runs; "" for fixed masks, without a network.
    """

    shape_ijk: tuple[int, int, int] = (256, 256, 150)
    masks: int = 24
    clients: int = 8
    seconds: float = 5.0
    runs: int = 1000
    model: str = ""


def service_bench(options: ServiceBenchOptions | None = None, say: Say = lambda line: None) -> dict[str, Any]:
    """Measure a server in a child process against the same engine in this one.

    Args:
        options: What to measure.
        say: Told what is measured next.

    Returns:
        JSON-ready figures: `wire` (a row a step: seconds in this process and through the service, bytes of the bodies
        sent and received), `requests` (a second, by kind) and `memory` (MiB of the server after a few and after all
        runs, growth in percent).

    Raises:
        InputError: A number is not positive.
        MedalSError: The server does not start, or the model is not there.
    """
    options = options or ServiceBenchOptions()
    if min(*options.shape_ijk, options.masks, options.clients, options.seconds) <= 0 or options.runs <= _FEW_RUNS:
        raise InputError("The sizes and numbers must be positive, and the runs more than ten.", "Give other ones.")
    report: dict[str, Any] = {"benchmark": "service", "settings": asdict(options)}
    with open_isolated_engine("fixed", "cpu", factory=_FIXED) as child:
        say("bytes and seconds")
        report["wire"] = _wire(child, options)
        if not options.model:
            say("requests a second")
            report["requests"] = _requests(child, options)
    if options.model:
        say(f"requests a second with {options.model}")
        with open_isolated_engine(options.model) as child:
            report["requests"] = _requests(child, options)
    with open_isolated_engine("fixed", "cpu", factory=_FIXED) as child:
        say("memory")
        report["memory"] = _memory(child, options.runs)
    return report


def _client(child: IsolatedEngine, compression: int = 1) -> RemoteEngine:
    """Return a client as for a server elsewhere, which compresses what it sends."""
    return connect(child.child.url(), child.transport.options.api_key, compression=compression)


# ---------------------------------------------------------------------------------------------------- bytes and seconds


def _wire(child: IsolatedEngine, options: ServiceBenchOptions) -> dict[str, Any]:
    i, j, k = options.shape_ijk
    image = ct_like((k, j, i))
    names = [f"structure {number}" for number in range(options.masks)]
    with FixedEngine() as here, _client(child) as there:
        local = here.open_session(image, _AFFINE, "CT")
        opened: list[Session] = []
        rows = [
            _row("open, sending the image", child, None, lambda: opened.append(_open(there, image))),
            _row("open again", child, None, lambda: opened.append(_open(there, image))),
        ]
        remote = opened[0]
        found = local.segment(names).masks  # makes the masks, unmeasured
        remote.segment(names)
        same = remote.segment(names).masks
        if not all(np.array_equal(mask, same[name]) for name, mask in found.items()):
            raise ServiceError("The service changed a mask.", "Report this: its times mean nothing.")
        one = {names[0]: found[names[0]]}
        steps: tuple[tuple[str, list[str], dict[str, np.ndarray]], ...] = (
            (f"run, {len(names)} masks back", names, {}),
            (f"run, {len(names)} masks there and back", [], dict(found)),
            ("run, 1 mask there and back", [], one),
        )
        for step, prompts, masks in steps:
            here_too, there_too = partial(local.segment, prompts, masks), partial(remote.segment, prompts, masks)
            rows.append(_row(step, child, here_too, there_too))
    return {"image_mib": round(image.nbytes / _MIB, 1), "mask_mib": round(image.size / _MIB, 1), "steps": rows}


def _open(engine: Engine, image: np.ndarray) -> Session:
    return engine.open_session(image, _AFFINE, "CT")


def _row(
    step: str, child: IsolatedEngine, here: Callable[[], object] | None, there: Callable[[], object]
) -> dict[str, Any]:
    local = _seconds(here) if here is not None else 0.0
    before = _bodies(child)
    remote = _seconds(there)
    up, down = (after - earlier for after, earlier in zip(_bodies(child), before, strict=True))
    return {
        "step": step,
        "in_process_s": round(local, 3),
        "service_s": round(remote, 3),
        "added_s": round(remote - local, 3),
        "sent_kib": round(up / _KIB, 2),
        "received_kib": round(down / _KIB, 2),
    }


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _bodies(child: IsolatedEngine) -> tuple[float, float]:
    """Bytes of all bodies that the server received and sent, by its own metrics."""
    headers = {"Authorization": f"Bearer {child.transport.options.api_key}"}
    text = requests.get(f"{child.child.url()}/metrics", headers=headers, timeout=30).text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return float(values["medals_received_bytes_total"]), float(values["medals_sent_bytes_total"])


# ---------------------------------------------------------------------------------------------------- requests a second


def _requests(child: IsolatedEngine, options: ServiceBenchOptions) -> dict[str, Any]:
    clients = [_client(child) for _ in range(options.clients)]
    image = ct_like(_SMALL)
    try:
        sessions = [client.open_session(image, _AFFINE, "CT") for client in clients]
        kinds: dict[str, list[Callable[[], object]]] = {
            "health": [_asking(client, "/health") for client in clients],
            "handshake": [_asking(client, "/handshake") for client in clients],
            "runs": [partial(session.segment, ["liver"]) for session in sessions],
        }
        return {
            "clients": options.clients,
            "image": " x ".join(map(str, _SMALL)),
            "engine": options.model or "fixed masks",
            "per_second": {kind: _rate(work, options.seconds) for kind, work in kinds.items()},
        }
    finally:
        for client in clients:
            client.close()


def _asking(client: RemoteEngine, path: str) -> Callable[[], object]:
    return lambda: client.transport.request("GET", path, with_key=False)


def _rate(works: list[Callable[[], object]], seconds: float) -> float:
    """How often a second the works are done, all of them at once, each again and again."""
    start = threading.Barrier(len(works) + 1)
    ends = [0.0]

    def repeat(work: Callable[[], object]) -> int:
        work()
        start.wait()
        count = 0
        while time.perf_counter() < ends[0]:
            work()
            count += 1
        return count

    with ThreadPoolExecutor(len(works)) as pool:
        counting = [pool.submit(repeat, work) for work in works]
        ends[0] = float("inf")
        start.wait()
        begun = time.perf_counter()
        ends[0] = begun + seconds
        done = sum(count.result() for count in counting)
    return round(done / (time.perf_counter() - begun), 1)


# --------------------------------------------------------------------------------------------------------------- memory


def _memory(child: IsolatedEngine, runs: int) -> dict[str, Any]:
    """Resident memory of the server after a few and after many runs, the image opened again now and then."""
    import psutil

    process = psutil.Process(child.child.pid)
    image = ct_like(_MEDIUM)
    names = [f"structure {number}" for number in range(4)]
    few = 0.0
    with _client(child) as client:
        session = _open(client, image)
        for number in range(1, runs + 1):
            session.segment(names, on_structure=lambda name, mask: None)
            if number == _FEW_RUNS:
                few = process.memory_info().rss / _MIB
            if number % _RUNS_OF_A_SESSION == 0:
                session.close()
                session = _open(client, image)
        many = process.memory_info().rss / _MIB
        session.close()
    return {
        "runs": runs,
        "image": " x ".join(map(str, reversed(_MEDIUM))),
        "masks": len(names),
        f"mib_after_{_FEW_RUNS}": round(few, 1),
        "mib_after_all": round(many, 1),
        "growth_percent": round(100 * (many / few - 1), 2),
    }
