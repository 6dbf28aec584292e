"""Damage files in many ways and read them."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import MedalSError
from tools.robustness.sample_files import write_samples
from tools.robustness.watching import Watch

_NUMBERS = (b"0", b"-1", b"99999999", b"nan", b"1e400", b"", b"2147483648", b"abc")
_HEADER = 1024
Damage = Callable[[bytes, np.random.Generator], bytes]


@dataclass
class Outcomes:
    """What came of many damaged files.

    Attributes:
        counts: Files by outcome: "read", "refused", "failed".
        failures: What failed unexpectedly: the file, how it was damaged, and the exception.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def report(self) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {"tried": sum(self.counts.values()), **dict(self.counts), "failures": self.failures}


def read_damaged(folder: Path, count: int, seed: int = 0) -> Outcomes:
    """Damage small files of every format, and read each as an image, as a segmentation or as a table of names.

    Args:
        folder: An empty folder for them.
        count: How many damaged files.
        seed: Seed of the damages: the same files come again.
    """
    outcomes = Outcomes()
    for number, (path, whole, damage, data) in enumerate(_damaged(folder, count, seed)):
        path.write_bytes(data)
        for read in _readers(path):
            with Watch() as watch:
                try:
                    read()
                    outcome = "read"
                except MedalSError as error:
                    outcome = "refused" if error.cause else "failed"
                except BaseException as error:  # a timeout too
                    outcome = "failed"
                    outcomes.failures.append(f"{number} {path.name} ({damage}): {type(error).__name__}: {error}"[:300])
            if watch.said:
                outcomes.counts["chatter"] += 1
                outcomes.failures.append(f"{number} {path.name} ({damage}) printed: {watch.said}"[:300])
            outcomes.counts[outcome] += 1
        path.write_bytes(whole)
    return outcomes


def _damaged(folder: Path, count: int, seed: int) -> Iterator[tuple[Path, bytes, str, bytes]]:
    """Yield file, its whole content, the damage's name and the damaged content."""
    random = np.random.default_rng(seed)
    samples = [(path, path.read_bytes()) for path in write_samples(folder)]
    damages = list(_DAMAGES)
    for number in range(count):
        path, whole = samples[number % len(samples)]
        damage = damages[int(random.integers(len(damages)))]
        yield path, whole, damage.__name__.strip("_"), damage(whole, random)


def _readers(path: Path) -> list[Callable[[], object]]:
    from MedalSLib.volume.reading import read_image
    from MedalSLib.volume.segment_names import read_names
    from MedalSLib.volume.segmentation_reading import read_segmentation

    if path.name.startswith("names"):
        return [lambda: read_names(str(path))]
    source = path.parent if path.parent.name == "series" else path
    return [lambda: read_image(source), lambda: read_segmentation(path)]


def _place(data: bytes, random: np.random.Generator) -> int:
    """Return a place in a file: half of them in its header."""
    size = min(len(data), _HEADER) if random.random() < 0.5 else len(data)
    return int(random.integers(max(1, size)))


def _bits(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 8))):
        changed[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(changed)


def _bytes(data: bytes, random: np.random.Generator) -> bytes:
    start, length = _place(data, random), int(random.integers(1, 32))
    filling = (bytes(length), b"\xff" * length, random.bytes(length))[int(random.integers(3))]
    return data[:start] + filling + data[start + length :]


def _cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: _place(data, random)]


def _doubled(data: bytes, random: np.random.Generator) -> bytes:
    start, length = _place(data, random), int(random.integers(1, 64))
    return data[: start + length] + data[start:]


def _missing(data: bytes, random: np.random.Generator) -> bytes:
    start = _place(data, random)
    return data[:start] + data[start + int(random.integers(1, 64)) :]


def _number(data: bytes, random: np.random.Generator) -> bytes:
    """Replace a number written as text in the first kilobyte."""
    digits = [at for at, byte in enumerate(data[:_HEADER]) if chr(byte).isdigit()]
    if not digits:
        return _bits(data, random)
    at = digits[int(random.integers(len(digits)))]
    return data[:at] + _NUMBERS[int(random.integers(len(_NUMBERS)))] + data[at + 1 :]


def _line(data: bytes, random: np.random.Generator) -> bytes:
    """Leave a line of a text header out, or repeat it."""
    lines = data.split(b"\n")
    at = int(random.integers(min(len(lines), 30)))
    return b"\n".join(lines[:at] + lines[at + 1 :] if random.random() < 0.5 else lines[: at + 1] + lines[at:])


def _inside(data: bytes, random: np.random.Generator) -> bytes:
    """Damage what is packed, and pack it again, so that the damage reaches the format behind."""
    try:
        return gzip.compress(_bits(gzip.decompress(data), random))
    except (OSError, EOFError, zlib.error):
        return bz2.compress(data) if random.random() < 0.1 else _bytes(data, random)


_DAMAGES: tuple[Damage, ...] = (_bits, _bytes, _cut, _doubled, _missing, _number, _line, _inside)
