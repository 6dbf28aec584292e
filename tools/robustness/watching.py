"""Run something that may hang or print: with a limit of time, and with what it says on the terminal caught."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from types import FrameType, TracebackType

_SECONDS = 20


class Watch:
    """Catches what is written to the standard streams, by native code too, and stops what takes too long.

    Attributes:
        said: What was written, once the block has ended.
    """

    def __init__(self, seconds: int = _SECONDS, streams: tuple[int, ...] = (1, 2)) -> None:
        self.said = ""
        self._seconds, self._streams = seconds, streams

    def __enter__(self) -> Watch:
        sys.stdout.flush()
        sys.stderr.flush()
        self._file = tempfile.TemporaryFile()
        self._saved = [os.dup(number) for number in self._streams]
        for number in self._streams:
            os.dup2(self._file.fileno(), number)
        # Whoever runs this may have put other objects in the place of the streams.
        self._python = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = os.fdopen(os.dup(self._file.fileno()), "w", errors="backslashreplace")
        self._before = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self._before)
        if not sys.stdout.closed:
            sys.stdout.close()
        sys.stdout, sys.stderr = self._python
        for number, saved in zip(self._streams, self._saved, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        self._file.seek(0)
        self.said = self._file.read().decode(errors="replace").strip()
        self._file.close()


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError("took too long")
