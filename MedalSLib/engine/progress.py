"""One progress value for a run of several stages: never decreasing, with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from MedalSLib.run import Progress, ProgressCallback


class ProgressMeter:
    """Turns "patch n of m in this stage" into a fraction of the whole run.

    The cost of a later stage is unknown until an earlier one has found its region, so stages get shares of the bar
    beforehand, and the time left is estimated from the time the bar itself has taken.

    Args:
        on_progress: Where to report, or None.
        shares: Share of the run by stage, in order; scaled to a sum of one.
        clock: Monotonic seconds, replaceable in tests.
    """

    def __init__(
        self,
        on_progress: ProgressCallback | None,
        shares: dict[str, float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._report = on_progress
        total = sum(shares.values()) or 1.0
        self._spans: dict[str, tuple[float, float]] = {}
        start = 0.0
        for stage, share in shares.items():
            self._spans[stage] = (start, start + share / total)
            start += share / total
        self._clock = clock
        self._begun = clock()
        self._fraction = 0.0

    def update(self, stage: str, done: int, total: int) -> None:
        """Report how far a stage has come.

        Args:
            stage: The stage, one of `shares`.
            done: Patches that are finished.
            total: Patches in all.
        """
        if self._report is None:
            return
        start, end = self._spans.get(stage, (self._fraction, self._fraction))
        share = done / total if total else 1.0
        self._fraction = min(1.0, max(self._fraction, start + (end - start) * share))
        elapsed = self._clock() - self._begun
        left = elapsed * (1.0 - self._fraction) / self._fraction if self._fraction > 0.02 else None
        self._report(Progress(stage, self._fraction, done, total, left))

    def finish(self) -> None:
        """Report the end of the run."""
        if self._report is not None:
            self._fraction = 1.0
            self._report(Progress("done", 1.0, 0, 0, 0.0))
