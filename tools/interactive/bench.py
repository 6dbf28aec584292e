"""Measure what corrections are worth: a simulated user corrects structures of labelled images, five times each.

    python -m tools.interactive.bench --abdomen CASES --chest --heads OPENKBP --model starter -o corrections

writes corrections.json and, as a figure, corrections.png.  A structure that the model knows starts from the model's
answer to its name, and is corrected in three ways: by the paint alone, by image and paint, and through a session of
that model, as a user's own corrections are.  Every other structure starts from nothing; so does every one without
`--model`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine, Session
from MedalSLib.evaluation.metrics import dice
from MedalSLib.inference.correction import propagate_correction
from MedalSLib.run import RunOptions
from MedalSLib.volume import BoxArray, BoxMask, Grid, bounding_box
from MedalSLib.volume.box import Box, corner_of, grown, slices
from tools.interactive.corrections import Correction, Kind, next_correction
from tools.interactive.figure import draw_curves
from tools.interactive.labelled_images import LabelledImage
from tools.interactive.prompt_report import options_for
from tools.starter.held_out_cases import abdomen_case, chest_case, labelled_cases, neck_cases, slicerio_data
from tools.starter.public_volumes import NECK_NAMES

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
        box: Where it was cut out of the image.
    """

    case: str
    structure: str
    image: np.ndarray
    spacing: np.ndarray
    truth: np.ndarray
    start: np.ndarray
    probability: np.ndarray | None = None
    by_hand: bool = True
    box: Box | None = None


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
    """How a structure fared in one way.

    Attributes:
        dice: Dice before the first correction and after each.
        added: Whether each correction added.
        seconds: What each took.
    """

    dice: list[float] = field(default_factory=list)
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


def curve(task: Task, kind: Kind, answer: Answer, count: int = 5, tells: bool = True) -> Curve:
    """Measure how one structure fares; the arguments are those of `rounds`."""
    result = Curve([dice(task.truth, task.start)])
    for score, added, seconds in rounds(task, kind, answer, count, tells):
        result.dice.append(score)
        result.added.append(added)
        result.seconds.append(round(seconds, 3))
    result.dice += result.dice[-1:] * (count + 1 - len(result.dice))  # it was perfect before the last correction
    return result


def through(session: Session, options: RunOptions, shape: Sequence[int]) -> Answer:
    """Return what refines through a session, as the panel does.

    Args:
        session: The open image.
        options: Options of every run.
        shape: (K, J, I) of the image.
    """
    refining = replace(options, mode="refine")

    def answer(task: Task, known: Knowledge) -> np.ndarray:
        assert known.painted is not None and task.box is not None
        given = known.painted.apply(known.mask), known.checked | known.painted.painted, known.painted.painted
        mask, locked, painted = ({task.structure: BoxMask.from_crop(one, corner_of(task.box), shape)} for one in given)
        result = session.segment((), mask, locked, painted=painted, options=refining)
        return result.box_masks[task.structure].array(task.box)

    return answer


def tasks_of(
    case: str,
    image: np.ndarray,
    spacing: Sequence[float],
    truths: Mapping[str, np.ndarray],
    starts: Mapping[str, BoxMask] | None = None,
) -> Iterator[Task]:
    """Cut each structure of an image out, with its start where there is one.

    Args:
        case: Name of the image.
        image: Intensities (D, H, W).
        spacing: In mm.
        truths: Boolean (D, H, W) by name; empty ones are left out.
        starts: Masks before the first correction, by name.
    """
    starts = starts or {}
    for name, truth in truths.items():
        start = starts.get(name)
        bounds = bounding_box(truth if start is None else truth | start.array())
        if not truth.any() or bounds is None:
            continue
        box = grown(bounds, _AROUND_MM, spacing, truth.shape)
        here = np.ascontiguousarray(truth[slices(box)])
        begun = np.zeros_like(here) if start is None else start.array(box)
        cut = np.ascontiguousarray(image[slices(box)], dtype=np.float32)
        yield Task(case, name, cut, np.asarray(spacing, dtype=float), here, begun, None, start is None, box)


def coarser(case: LabelledImage, step: int) -> LabelledImage:
    """Return every n-th voxel of a case's slices."""
    affine = case.grid.affine_ras.copy()
    affine[:, :2] *= step
    array = np.ascontiguousarray(case.array_kji[:, ::step, ::step])
    truths = {name: np.ascontiguousarray(truth[:, ::step, ::step]) for name, truth in case.truths.items()}
    return replace(case, array_kji=array, grid=Grid(array.shape, affine), truths=truths)


def cases_of(args: argparse.Namespace) -> Iterator[LabelledImage]:
    """Give the cases that were asked for."""
    if args.abdomen:
        yield coarser(abdomen_case(args.abdomen), args.in_plane)
    if args.chest and (folder := slicerio_data()):
        yield chest_case(folder)
    if args.mr:
        yield from labelled_cases(args.mr, "MRI")
    if args.heads:
        # Those in which everything was contoured.
        yield from (case for case in neck_cases(args.heads) if len(case.truths) == len(NECK_NAMES))


def measured(case: LabelledImage, engine: Engine | None, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Correct every structure of a case in every way; give a row for each structure and kind."""
    ways: dict[str, Answer] = {"painting": painted_only, "image": carried}
    classes = () if engine is None else engine.info().classes
    known = [name for name in case.truths if f"{case.modality}_{name}" in classes]
    wanted = {name: truth for name, truth in case.truths.items() if not args.structures or name in args.structures}
    with ExitStack() as stack:
        starts: Mapping[str, BoxMask] = {}
        if engine is not None and known:
            session = stack.enter_context(engine.open_session(case.array_kji, case.grid.affine_ras, case.modality))
            options = options_for(case)
            starts = session.segment(known, options=options).box_masks
            ways["network"] = through(session, options, case.array_kji.shape)
        for task in tasks_of(case.name, case.array_kji, case.grid.spacing_kji, wanted, starts):
            for kind in args.kinds:
                row: dict[str, Any] = {"case": case.name, "structure": task.structure, "kind": kind}
                for way, answer in ways.items():
                    if way != "network" or task.structure in starts:
                        row[way] = asdict(curve(task, kind, answer, tells=not args.never_checked))
                yield row


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw mean Dice over the corrections: structures that the model knows, and others."""
    known = [row for row in rows if "network" in row]
    groups = {"from nothing": [row for row in rows if "network" not in row], "from the model's answer": known}
    groups = {title: some for title, some in groups.items() if some}

    def mean(way: str, some: Sequence[Mapping[str, Any]]) -> list[float]:
        curves = [row[way]["dice"] for row in some if way in row]
        return np.mean(curves, axis=0).tolist() if curves else []

    panels = {
        kind: {
            way: [mean(way, [row for row in some if row["kind"] == kind]) for some in groups.values()]
            for way in ("painting", "image", "network")
            if known or way != "network"
        }
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    titles = [f"mean Dice of {len({(r['case'], r['structure']) for r in some})} {t}" for t, some in groups.items()]
    draw_curves(panels, path, titles, whole=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure; write JSON and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--abdomen", type=Path, help="folder with the challenge's AMOS case")
    parser.add_argument("--in-plane", type=int, default=2, help="read every n-th voxel of its slices")
    parser.add_argument("--chest", action="store_true", help="the chest CT that ships with slicerio")
    parser.add_argument("--mr", type=Path, help="folder of MR heads (see tools.starter.export_held_out)")
    parser.add_argument("--heads", type=Path, help="folder of head-and-neck CTs with index.json")
    parser.add_argument("--model", help="model that is corrected where it knows a structure")
    parser.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=list(get_args(Kind)))
    parser.add_argument("--structures", nargs="+", help="only these")
    parser.add_argument("--never-checked", action="store_true", help="the user never says that a slice is done")
    parser.add_argument("-o", "--output", type=Path, required=True, help="name of the files, without .json and .png")
    args = parser.parse_args(argv)
    rows = []
    with nullcontext() if args.model is None else open_engine(args.model) as engine:
        for case in cases_of(args):
            for row in measured(case, engine, args):
                rows.append(row)
                scores = "  ".join(
                    f"{way} {found['dice'][0]:.3f} {found['dice'][-1]:.3f}"
                    for way, found in row.items()
                    if isinstance(found, dict)
                )
                print(f"{row['case']:10} {row['structure']:22} {row['kind']:6} {scores}", flush=True)  # noqa: T201
    args.output.with_suffix(".json").write_text(json.dumps({"model": args.model, "rows": rows}, indent=1) + "\n")
    draw(rows, args.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
