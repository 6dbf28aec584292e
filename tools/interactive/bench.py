"""Measure what corrections are worth without an engine: a simulated user corrects structures of labelled images.

    python -m tools.interactive.bench --abdomen CASES --heads OPENKBP --kinds slice stroke click -o corrections.json

Every structure starts from nothing, unless `--starts` gives a mask ("mask:NAME") and perhaps the network's probability
("prob:NAME") for it, as an npz file on the case's grid.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np

from MedalSLib.evaluation.metrics import dice
from MedalSLib.inference.correction import propagate_correction
from MedalSLib.volume import BoxArray, BoxMask, bounding_box
from MedalSLib.volume.reading import read_image
from tools.interactive.corrections import Correction, Kind, next_correction
from tools.starter.held_out_cases import abdomen_case, chest_case, slicerio_data

_AROUND_MM = 60.0
"""What is kept of an image around a structure: more than the reach of a correction."""


@dataclass(frozen=True, eq=False)
class Task:
    """One structure to correct, axes (D, H, W).

    Attributes:
        case: Name of the image.
        structure: Name of the structure.
        image: Intensities.
        spacing: In mm.
        truth: Boolean.
        start: Boolean: the mask before the first correction.
        probability: The network's probability, None without one.
        by_hand: There was nothing before the first correction.
    """

    case: str
    structure: str
    image: np.ndarray
    spacing: np.ndarray
    truth: np.ndarray
    start: np.ndarray
    probability: np.ndarray | None = None
    by_hand: bool = True


@dataclass(eq=False)
class Knowledge:
    """What a program remembers between the corrections of a structure.

    Attributes:
        mask: The structure as it is.
        checked: Where it is right: what was painted, and slices that the user said are done.
        painted: What was painted since the last result, and whether it adds.
    """

    mask: np.ndarray
    checked: np.ndarray
    painted: Correction | None = None

    def take(self, correction: Correction, truth: np.ndarray, kind: Kind, tells: bool) -> None:
        """Paint; a user who painted a whole slice and `tells` says that it is done, if it is."""
        self.painted = correction
        slice_ = correction.center_dhw[0]
        if kind == "slice" and tells and np.array_equal(correction.apply(self.mask)[slice_], truth[slice_]):
            self.checked[slice_] = True


@dataclass
class Curve:
    """How a structure fared.

    Attributes:
        painting: Dice before the first correction and after each, by paint alone.
        carried: The same with each correction carried on.
        added: Whether each of the latter added.
        seconds: What each of them took.
    """

    painting: list[float] = field(default_factory=list)
    carried: list[float] = field(default_factory=list)
    added: list[bool] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


Answer = Callable[[Task, Knowledge], np.ndarray]


def painted_only(task: Task, known: Knowledge) -> np.ndarray:
    """Return the mask with the paint and nothing else."""
    assert known.painted is not None
    return known.painted.apply(known.mask)


def carried(task: Task, known: Knowledge) -> np.ndarray:
    """Return the mask with the paint carried on."""
    assert known.painted is not None
    paint = BoxMask.of(known.painted.painted)
    strokes = (paint, None) if known.painted.add else (None, paint)
    result = propagate_correction(
        task.image, task.spacing.tolist(), BoxMask.of(known.mask), *strokes,
        probability=None if task.probability is None else BoxArray.of(task.probability),
        checked=BoxMask.of(known.checked), by_hand=task.by_hand,
    )  # fmt: skip
    return result.mask.array()


def rounds(
    task: Task, kind: Kind, answer: Answer, count: int = 5, tells: bool = True
) -> Iterator[tuple[float, bool, float]]:
    """Correct the largest error again and again.

    Args:
        task: The structure.
        kind: How the user corrects.
        answer: Gives the next mask.
        count: Number of corrections.
        tells: Whether the user says of a slice that it is done.

    Yields:
        Dice after a correction, whether it added, the seconds it took.
    """
    known = Knowledge(task.start.copy(), np.zeros(task.truth.shape, dtype=bool))
    for _ in range(count):
        correction = next_correction(task.truth, known.mask, task.spacing.tolist(), kind)
        if correction is None:
            return
        known.take(correction, task.truth, kind, tells)
        begun = time.perf_counter()
        mask = answer(task, known)
        seconds = time.perf_counter() - begun
        known.mask, known.checked = mask, known.checked | correction.painted
        yield dice(task.truth, mask), correction.add, seconds


def curve(task: Task, kind: Kind, count: int = 5, tells: bool = True) -> Curve:
    """Measure one structure by paint alone and carried on."""
    first = dice(task.truth, task.start)
    result = Curve([first], [first])
    for score, _, _ in rounds(task, kind, painted_only, count):
        result.painting.append(score)
    for score, added, seconds in rounds(task, kind, carried, count, tells):
        result.carried.append(score)
        result.added.append(added)
        result.seconds.append(round(seconds, 3))
    for scores in (result.painting, result.carried):
        scores += scores[-1:] * (count + 1 - len(scores))  # it was perfect before the last correction
    return result


def tasks_of(
    case: str,
    image: np.ndarray,
    spacing: Sequence[float],
    truths: Mapping[str, np.ndarray],
    starts: Mapping[str, np.ndarray] | None = None,
    with_network: bool = True,
) -> Iterator[Task]:
    """Cut each structure of an image out, with its start where there is one.

    Args:
        case: Name of the image.
        image: Intensities (D, H, W).
        spacing: In mm.
        truths: Boolean (D, H, W) by name; empty ones are left out.
        starts: Arrays of the whole image: "mask:NAME", "prob:NAME".
        with_network: Use the probabilities.
    """
    starts = starts or {}
    steps = np.asarray(spacing, dtype=float)
    for name, truth in truths.items():
        start = starts.get(f"mask:{name}")
        probability = starts.get(f"prob:{name}") if with_network else None
        bounds = bounding_box(truth if start is None else truth | start)
        if not truth.any() or bounds is None:
            continue
        box = tuple(
            slice(max(0, low - int(_AROUND_MM / step)), high + int(_AROUND_MM / step))
            for (low, high), step in zip(bounds, steps, strict=True)
        )
        here = np.ascontiguousarray(truth[box])
        begun = np.zeros_like(here) if start is None else start[box].astype(bool)
        yield Task(
            case, name, np.ascontiguousarray(image[box], dtype=np.float32), steps, here, begun,
            None if probability is None else probability[box], by_hand=start is None,
        )  # fmt: skip


def head_cases(folder: Path, role: str) -> Iterator[tuple[str, np.ndarray, Sequence[float], dict[str, np.ndarray]]]:
    """Read the fully contoured head-and-neck CTs of a role ("train", "held out") from a folder with `index.json`."""
    index = json.loads((folder / "index.json").read_text())
    for entry in index["volumes"]:
        if entry["role"] == role and len(entry["contoured"]) == len(index["labels"]):
            image, labels = (read_image(folder / f"{entry['name']}_{part}.nii.gz") for part in ("ct", "labels"))
            truths = {name: labels.array_kji == number for name, number in index["labels"].items()}
            yield entry["name"], image.array_kji, image.grid.spacing_kji, truths


def all_tasks(args: argparse.Namespace) -> Iterator[Task]:
    """Give the structures of all cases that were asked for."""
    starts = dict(np.load(args.starts, allow_pickle=False)) if args.starts else None
    if args.abdomen:
        case, step = abdomen_case(args.abdomen), args.in_plane
        depth, height, width = case.grid.spacing_kji
        coarse = (depth, height * step, width * step)
        truths = {name: truth[:, ::step, ::step] for name, truth in case.truths.items()}
        yield from tasks_of(case.name, case.array_kji[:, ::step, ::step], coarse, truths, starts, args.with_network)
    if args.chest and (folder := slicerio_data()):
        case = chest_case(folder)
        yield from tasks_of(case.name, case.array_kji, case.grid.spacing_kji, case.truths, starts, args.with_network)
    if args.heads:
        for name, image, spacing, truths in head_cases(args.heads, "held out"):
            yield from tasks_of(name, image, spacing, truths)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abdomen", type=Path, help="folder with the challenge's AMOS case")
    parser.add_argument("--in-plane", type=int, default=2, help="read every n-th voxel of its slices")
    parser.add_argument("--chest", action="store_true", help="the chest CT that ships with slicerio")
    parser.add_argument("--heads", type=Path, help="folder of head-and-neck CTs with index.json")
    parser.add_argument("--starts", type=Path, help="npz file of masks and probabilities to start from")
    parser.add_argument("--with-network", action="store_true", help="use the probabilities, not the masks alone")
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=list(get_args(Kind)))
    parser.add_argument("--structures", nargs="+", help="only these")
    parser.add_argument("--never-checked", action="store_true", help="the user never says that a slice is done")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(argv)
    rows = []
    for task in all_tasks(args):
        if args.structures and task.structure not in args.structures:
            continue
        for kind in args.kinds:
            found = curve(task, kind, tells=not args.never_checked)
            rows.append({"case": task.case, "structure": task.structure, "kind": kind, **asdict(found)})
            print(f"{task.case:10} {task.structure:22} {kind:6} {found.carried[0]:.3f}"  # noqa: T201
                  f" painting {found.painting[-1]:.3f} carried {found.carried[-1]:.3f}", flush=True)  # fmt: skip
    args.output.write_text(json.dumps({"with_network": args.with_network, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
