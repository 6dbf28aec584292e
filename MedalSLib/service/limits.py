"""Rate limits: token buckets by name, with a bound on how many names are remembered."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimiter:
    """Lets each name do `burst` things at once and `per_second` in the long run.

    Args:
        per_second: Tokens that come back a second.
        burst: Tokens of a name that was quiet.
        names: Most names remembered; the longest quiet is forgotten first.
        clock: Monotonic seconds.
    """

    def __init__(
        self, per_second: float, burst: int, names: int = 4096, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = per_second
        self._burst = burst
        self._names = names
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, name: str, take: int = 1) -> float:
        """Take tokens and return 0.0, or take none and return the seconds until there are enough.

        With `take=0` nothing is taken: says whether the name is refused now.
        """
        now = self._clock()
        with self._lock:
            tokens, then = self._buckets.pop(name, (float(self._burst), now))
            tokens = min(float(self._burst), tokens + (now - then) * self._rate)
            enough = tokens >= max(take, 1)
            self._buckets[name] = (tokens - take if enough else tokens, now)
            while len(self._buckets) > self._names:
                self._buckets.popitem(last=False)
        return 0.0 if enough else (max(take, 1) - tokens) / self._rate
