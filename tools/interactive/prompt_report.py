"""Score an engine's use of text, masks and both on labelled images: a table, a summary and a figure of the curves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Engine, Session
from MedalSLib.errors import InputError
from MedalSLib.evaluation.score_tables import json_ready, output_folder, write_report, write_table
from MedalSLib.run import RunOptions
from MedalSLib.volume import AS_IS
from MedalSLib.volume.files import replacing
from tools.interactive.correction_rounds import CaseCurve, Simulation, area, mean_curve
from tools.interactive.figure import draw_curves
from tools.interactive.labelled_images import LabelledImage
from tools.interactive.prompt_comparison import compare_prompts

FILES = ("curves.csv", "curves.json", "curves.png")
_MOST_PANELS = 6
OnStep = Callable[[str, int, int, str], None]
"""Called as `(case, rounds done, rounds in all, condition)`."""
Comparison = dict[str, CaseCurve]


@dataclass(frozen=True)
class CurveRow:
    """Scores of one structure after one round.

    Attributes:
        case: The case.
        modality: Its modality.
        structure: Structure.
        prompts: What was prompted with (see `compare_prompts`).
        round: Corrections so far.
        dsc: Dice.
        nsd: Surface Dice.
    """

    case: str
    modality: str
    structure: str
    prompts: str
    round: int
    dsc: float
    nsd: float


def known_truths(image: LabelledImage, classes: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the truths of an image that are not empty and that a model knows ("CT_Liver")."""
    known = frozenset(classes)
    return {name: truth for name, truth in image.truths.items() if truth.any() and f"{image.modality}_{name}" in known}


def options_for(image: LabelledImage) -> RunOptions:
    """Return the options of a run: intensities that were windowed before are taken as they are."""
    return RunOptions(windows={"*": AS_IS.name} if image.windowed else {})


def evaluate_prompts(
    engine: Engine,
    images: Iterable[LabelledImage],
    simulation: Simulation,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    on_step: OnStep | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Compare text, masks and both on labelled images.

    Args:
        engine: The engine.
        images: Images with their truths; structures the model does not know are left out.
        simulation: How the user is simulated.
        out: Folder for `curves.csv`, `curves.json` and `curves.png`; None to write nothing.
        overwrite: Replace the files of an earlier evaluation.
        on_step: Progress.
        cancel: Set it to stop.

    Returns:
        JSON-ready: "mean" (curves by kind of prompt, the mean over cases of each case's mean), "cases" (the same for
        every case and structure), "left_out" (structures by case), "seconds", "simulation", "model", "files".

    Raises:
        InputError: The model knows none of the structures.
        OutputError: The files exist already or cannot be written.
        CancelledError: `cancel` was set.
    """
    info = engine.info()
    if out is not None:
        output_folder(out, FILES, overwrite)
    comparisons: dict[str, Comparison] = {}
    left_out: dict[str, list[str]] = {}
    rows: list[CurveRow] = []
    begun = time.perf_counter()
    for image in images:
        truths = known_truths(image, info.classes)
        left_out[image.name] = sorted(image.truths.keys() - truths.keys())
        if not truths:
            continue
        comparison = _compare(engine, image, truths, simulation, on_step, cancel)
        comparisons[image.name] = comparison
        rows += _rows(image, comparison)
    if not comparisons:
        names = sorted({name for skipped in left_out.values() for name in skipped})
        raise InputError(
            f"The model '{info.model}' knows none of the structures: {', '.join(names) or 'there are none'}.",
            "Choose another model, or truths with names that it knows (see 'medals models show').",
        )
    report = {
        "model": f"{info.model} {info.version}",
        "simulation": vars(simulation),
        "mean": _means(list(comparisons.values())),
        "cases": {
            case: {condition: scores.to_dict() for condition, scores in found.items()}
            for case, found in comparisons.items()
        },
        "left_out": left_out,
        "seconds": round(time.perf_counter() - begun, 1),
    }
    report["files"] = _write(out, rows, report, overwrite) if out is not None else []
    return report


def curves_table(report: Mapping[str, Any]) -> str:
    """Return a report's mean curves as text for a terminal."""
    rounds = report["simulation"]["rounds"]
    lines = [f"{'mean Dice':<22}{'AUC':>7}" + "".join(f"{number:>7}" for number in range(rounds + 1))]
    for condition, scores in report["mean"].items():
        numbers = "".join(f"{value:>7.3f}" for value in scores["dsc"])
        lines.append(f"{condition:<22}{scores['dsc_auc']:>7.3f}{numbers}")
    return "\n".join(lines)


def _compare(
    engine: Engine,
    image: LabelledImage,
    truths: Mapping[str, np.ndarray],
    simulation: Simulation,
    on_step: OnStep | None,
    cancel: threading.Event | None,
) -> Comparison:
    def on_round(condition: str, done: int, total: int) -> None:
        if on_step:
            on_step(image.name, done, total, condition)

    spacing, options = image.grid.spacing_kji, options_for(image)
    with ExitStack() as stack:
        session = stack.enter_context(_open(engine, image))
        mute = _silent(engine)
        silent = stack.enter_context(_open(mute, image)) if mute is not None else None
        return compare_prompts(session, silent, truths, spacing, simulation, options, on_round, cancel)


def _open(engine: Engine, image: LabelledImage) -> Session:
    return engine.open_session(image.array_kji, image.grid.affine_ras, image.modality)


def _silent(engine: Engine) -> Engine | None:
    """Return an engine that ignores texts; None for a server, whose text encoder is out of reach."""
    from MedalSLib.engine.local import LocalEngine
    from tools.interactive.text_ablation import without_texts

    return without_texts(engine) if isinstance(engine, LocalEngine) else None


def _rows(image: LabelledImage, comparison: Comparison) -> list[CurveRow]:
    return [
        CurveRow(image.name, image.modality, structure, condition, number, dsc, nsd)
        for condition, case in comparison.items()
        for structure, scores in case.structures.items()
        for number, (dsc, nsd) in enumerate(zip(scores.dsc, scores.nsd, strict=True))
    ]


def _means(comparisons: Sequence[Comparison]) -> dict[str, dict[str, Any]]:
    means = {}
    for condition in comparisons[0]:
        dsc, nsd = (
            list(mean_curve([getattr(found[condition], score) for found in comparisons])) for score in ("dsc", "nsd")
        )
        means[condition] = json_ready({"dsc_auc": area(dsc), "nsd_auc": area(nsd)}) | {"dsc": dsc, "nsd": nsd}
    return means


def _write(folder: Path, rows: Sequence[CurveRow], report: dict[str, Any], overwrite: bool) -> list[str]:
    write_table(folder / FILES[0], CurveRow, rows, overwrite)
    write_report(folder / FILES[1], report, overwrite)
    cases = report["cases"] if len(report["cases"]) < _MOST_PANELS else {}
    shown = cases if len(cases) == 1 else {f"mean of {len(report['cases'])} cases": report["mean"]} | cases
    panels = {
        title: {condition: (scores["dsc"], scores["nsd"]) for condition, scores in curves.items()}
        for title, curves in shown.items()
    }
    with replacing(folder / FILES[2], overwrite) as path:
        draw_curves(panels, path)
    return [str(folder / name) for name in FILES]
