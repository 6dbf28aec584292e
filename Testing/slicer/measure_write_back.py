"""Measures write-back in Slicer's own core: how long a run's results take, and how long the interface has to wait.

    python Testing/slicer/measure_write_back.py [--shape 512,512,300] [--structures 24] [--surfaces]

An engine that computes nothing hands over ellipsoids of nine million voxels down to some hundreds; two large segments
of the user's, one of them locked, lie across them.  For each overlap policy there is a first run, a second one with all
structures moved by two voxels, the same run again, the refinement after a stroke, and the way back.  Printed as JSON:
`total_s` by the clock, `total_cpu_s` of all threads, `longest_gap_ms` between two rounds of events (the wait for the
engine included), and `longest_gap_cpu_ms`, the same in CPU time of the main thread: what counts where others use the
machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "support")]

from slicer_host.boot import host  # noqa: E402  # needs the path above
from slicer_host.phantoms import paint  # noqa: E402

from MedalSLib.run import Report, RunRequest, RunResult, StructureReport  # noqa: E402
from MedalSLib.vocabulary import structures  # noqa: E402
from MedalSLib.volume.box_array import BoxArray  # noqa: E402
from MedalSLib.volume.mask import BoxMask  # noqa: E402

STEP = 2
"""Voxels by which the second run's structures are moved."""


@dataclass
class EventGaps:
    """How long the interface waited between two rounds of events, by the clock and in CPU time of this thread."""

    gaps: list[tuple[float, float]] = field(default_factory=list)
    last: tuple[float, float] = (0.0, 0.0)
    first: tuple[float, float] = (0.0, 0.0)

    def begin(self) -> None:
        self.gaps, self.last = [], (time.perf_counter(), time.thread_time())
        self.first = time.perf_counter(), time.process_time()

    def __call__(self) -> None:
        now = time.perf_counter(), time.thread_time()
        self.gaps.append((now[0] - self.last[0], now[1] - self.last[1]))
        self.last = time.perf_counter(), time.thread_time()

    def figures(self) -> dict[str, float]:
        self()
        return {
            "total_s": round(time.perf_counter() - self.first[0], 3),
            "total_cpu_s": round(time.process_time() - self.first[1], 3),
            "rounds": len(self.gaps),
            "longest_gap_ms": round(1000 * max(gap for gap, _ in self.gaps), 1),
            "longest_gap_cpu_ms": round(1000 * max(gap for _, gap in self.gaps), 1),
        }


class Finished:
    """An engine whose answers are there before it is asked."""

    def __init__(self, masks: dict[str, np.ndarray]) -> None:
        self.masks = {name: BoxMask.of(mask) for name, mask in masks.items()}
        labelmap = np.zeros(next(iter(masks.values())).shape, np.uint8)
        for label, mask in enumerate(masks.values(), 1):
            labelmap[mask] = label
        self.labels = BoxArray.of(labelmap)

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> Finished:
        self.modality, self.warnings = modality or "CT", ()
        return self

    def run(self, request: RunRequest, *, on_structure: Any, **_others: Any) -> RunResult:
        found = {name: self.masks[name] for name in (*request.prompts, *request.masks)}
        for name, mask in found.items():
            on_structure(name, mask)
        reports = {name: StructureReport(name, True, 1.0) for name in found}
        report = Report("none", "none", self.modality, {"total": 0.0}, structures=reports)
        return RunResult(found, self.labels, tuple(self.masks), report)

    def close(self) -> None:
        self.masks = {}


def ellipsoid(shape: tuple[int, ...], centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Boolean (K, J, I); centre and radii in voxels (k, j, i)."""
    low = np.maximum(np.floor(centre - radii), 0).astype(int)
    high = np.minimum(np.ceil(centre + radii) + 1, shape).astype(int)
    axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    mask = np.zeros(shape, bool)
    inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True)) <= 1
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = inside
    return mask


def scene(shape: tuple[int, int, int], count: int, shift: int = 0) -> dict[str, np.ndarray]:
    """Structures of falling size all over the image, the largest three fifths of it in each direction."""
    random = np.random.default_rng(0)
    names = [item.name for item in structures("CT")][:count]
    found = {}
    for number, name in enumerate(names):
        size = 0.6 * 0.87**number
        radii = np.maximum(np.array(shape) * size / 2, 3)
        centre = radii + random.random(3) * (np.array(shape) - 2 * radii) + shift
        found[name] = ellipsoid(shape, centre, radii)
    return found


@contextmanager
def measured(gaps: EventGaps, report: dict[str, Any], name: str) -> Iterator[None]:
    gaps.begin()
    yield
    report[name] = gaps.figures()


def measure(shape: tuple[int, int, int], count: int, policy: str, surfaces: bool) -> dict[str, Any]:
    """Return the figures of one overlap policy, with 3-D shown from the second run on or without."""
    started = host()
    started.reset()
    import slicer

    from MedalSLib.slicer.editing import SegmentEditing
    from MedalSLib.slicer.request import NodeRequest, Overlap
    from MedalSLib.slicer.runner import Runner
    from MedalSLib.slicer.segmentations import addSegmentation
    from MedalSLib.slicer.targets import setLocked

    volume = slicer.util.addVolumeFromArray(np.zeros(shape, np.int16), name="CT")
    node = addSegmentation(volume)
    editing, gaps = SegmentEditing(started.scene), EventGaps()
    runner = Runner(editing, gaps)
    editing.edit(node, volume)
    for name, centre in (("mine", 0.4), ("locked", 0.6)):
        node.GetSegmentation().AddEmptySegment(name, name)
        mask = ellipsoid(shape, np.array(shape) * centre, np.array(shape) * 0.3)
        paint(editing, node, name, volume, mask)
    setLocked(node, "locked", True)
    first, second = scene(shape, count), scene(shape, count, STEP)
    engines = [Finished(first), Finished(second), Finished(second)]
    request = NodeRequest(volume, node, tuple(first), "CT", overlap=Overlap(policy))
    report: dict[str, Any] = {}
    with measured(gaps, report, "first run"):
        runner.run(engines[0], request)
    if surfaces:
        node.CreateClosedSurfaceRepresentation()
    with measured(gaps, report, "second run"):
        runner.run(engines[1], request)
    with measured(gaps, report, "the same again"):
        runner.run(engines[1], request)
    name = next(iter(first))
    segmentID = next(one for one in node.GetSegmentation().GetSegmentIDs() if one not in ("mine", "locked"))
    stroke = np.zeros(shape, bool)
    k, j, i = np.argwhere(second[name][::8, ::8, ::8])[0] * 8
    stroke[k - 4 : k + 4, j - 8 : j + 8, i - 8 : i + 8] = True
    editing.saveState()
    paint(editing, node, segmentID, volume, stroke)
    with measured(gaps, report, "refinement"):
        runner.run(engines[2], replace(request, prompts=(), refine=True))
    with measured(gaps, report, "way back"):
        back(runner)
    runner.close()
    return report


def back(runner: Any) -> None:
    """Revert the last run as the panel does."""
    runner.rollback([runner.last])


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="512,512,300", metavar="I,J,K", help="voxels (default: %(default)s)")
    parser.add_argument("--structures", type=int, default=24, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--policies", default="allow,keep,overwrite", help="overlap policies (default: %(default)s)")
    parser.add_argument("--surfaces", action="store_true", help="show the segments in 3-D from the second run on")
    arguments = parser.parse_args()
    i, j, k = (int(part) for part in arguments.shape.split(","))
    report = {
        name: measure((k, j, i), arguments.structures, name, arguments.surfaces)
        for name in arguments.policies.split(",")
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
