"""Seconds and memory of a piece of work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_MIB = 2.0**20
_EVERY_S = 0.01


@dataclass(frozen=True)
class Seconds:
    """How long something took.

    Attributes:
        wall: Seconds by the clock; on a busy machine others' work is in them.
        cpu: Seconds that the processor's cores worked for this process, all threads together.
    """

    wall: float
    cpu: float

    def to_dict(self) -> dict[str, float]:
        """Return both, rounded to milliseconds."""
        return {"wall_s": round(self.wall, 3), "cpu_s": round(self.cpu, 3)}

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)


def timed(work: Callable[[], object], repeats: int = 1, warm: bool = False) -> Seconds:
    """Return the shortest of some repetitions, by CPU time, which other programs disturb least.

    Args:
        work: What to measure.
        repeats: How often.
        warm: Whether to do it once more beforehand, unmeasured.
    """
    if warm:
        work()
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return min(found, key=lambda seconds: seconds.cpu)


def ratio(part: Seconds, of: Seconds) -> dict[str, float]:
    """Return how large `part` is as a share of `of`, by both clocks."""
    return {"wall": round(part.wall / max(of.wall, 1e-9), 4), "cpu": round(part.cpu / max(of.cpu, 1e-9), 4)}


@dataclass
class Peak:
    """The largest resident memory seen.

    Attributes:
        before_mb: MiB at the beginning.
        highest_mb: MiB at most.
    """

    before_mb: float
    highest_mb: float

    @property
    def above_mb(self) -> float:
        """MiB at most above the beginning."""
        return self.highest_mb - self.before_mb


@contextmanager
def watched_memory() -> Iterator[Peak]:
    """Watch this process's resident memory, a hundred times a second."""
    import psutil

    process = psutil.Process()
    peak = Peak(process.memory_info().rss / _MIB, process.memory_info().rss / _MIB)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(_EVERY_S):
            peak.highest_mb = max(peak.highest_mb, process.memory_info().rss / _MIB)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        peak.highest_mb = max(peak.highest_mb, process.memory_info().rss / _MIB)
