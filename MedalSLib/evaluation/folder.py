"""Score a folder of results: a table by case, a summary by modality and structure, and a figure."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import CancelledError, InputError, MedalSError
from MedalSLib.evaluation.cases import (
    CasePair,
    FilePair,
    StructurePair,
    find_pairs,
    open_pair,
    orientation_for,
)
from MedalSLib.evaluation.figure import draw_scores
from MedalSLib.evaluation.metrics import (
    NOT_A_NUMBER,
    SpacingOrder,
    can_score_surfaces,
    dice,
    instance_scores,
    mean,
    surface_dice,
)
from MedalSLib.evaluation.score_page import overlay, score_page
from MedalSLib.evaluation.score_tables import json_ready, output_folder, write_report, write_table
from MedalSLib.volume import AS_IS, NetworkFrame, apply_window
from MedalSLib.volume.files import replacing
from MedalSLib.volume.preview import usual_window
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.windows import resolved

OnCase = Callable[[int, int, str], None]
"""Called as `(cases done, cases in all, name of the last one)`."""
_FILES = ("cases.csv", "summary.csv", "summary.json", "figure.png", "scores.html")
Pictures = dict[tuple[str, str], bytes]
_MOST_PICTURES = 200
"""Pictures of a page: those of the worst results."""


@dataclass(frozen=True)
class Row:
    """Scores of one structure in one case; NaN where a score does not apply.

    Attributes:
        case: The case.
        modality: Modality, "" if unknown.
        structure: Structure.
        kind: "semantic" or "instance".
        dsc: Dice; of instances the mean over matched pairs.
        nsd: Surface Dice.
        f1: F1 of the detection of instances.
        tp: Instances found.
        fp: Instances that are none.
        fn: Instances missed.
        truth_voxels: Voxels of the truth; 0 means that the scores are left out of all means.
        found_voxels: Voxels of the result.
        note: What the user should know.
    """

    case: str
    modality: str
    structure: str
    kind: str
    dsc: float
    nsd: float
    f1: float
    tp: float
    fp: float
    fn: float
    truth_voxels: int
    found_voxels: int
    note: str = ""


@dataclass(frozen=True)
class SummaryRow:
    """Means over the cases that contain a structure.

    Attributes:
        modality: Modality.
        structure: Structure; "all" for the mean over cases of each case's mean (the challenge's figure).
        kind: "semantic" or "instance".
        cases: Cases with the structure.
        dsc: Mean Dice.
        nsd: Mean surface Dice.
        f1: Mean F1.
        dsc_deviation: Standard deviation of the Dice.
    """

    modality: str
    structure: str
    kind: str
    cases: int
    dsc: float
    nsd: float
    f1: float
    dsc_deviation: float


def evaluate_folder(
    gt_dir: str | Path,
    seg_dir: str | Path,
    images_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    tolerance_mm: float = 2.0,
    spacing_order: SpacingOrder = "correct",
    iou: float = 0.5,
    overwrite: bool = False,
    names: Mapping[int, str] | None = None,
    orientation: str | None = None,
    on_case: OnCase | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Score results against truths of the same names.

    Args:
        gt_dir: Folder of true segmentations (npz, NIfTI, NRRD, .seg.nrrd), or one file.
        seg_dir: Folder of results, or one file; a missing result counts as empty.
        images_dir: Folder of images: of challenge cases, their prompts say which labels were asked for.
        out: Folder for `cases.csv`, `summary.csv`, `summary.json`, `figure.png` and `scores.html`, with pictures
            of the results; None to write nothing.
        tolerance_mm: Tolerance of the surface Dice.
        spacing_order: "published" reproduces the challenge's own figures, with the spacing's axes reversed.
        iou: Intersection over union from which an instance counts as found.
        overwrite: Replace the files of an earlier evaluation.
        names: Names by label value for labelmaps that carry none.
        orientation: Directions to which x, y, z of npz files grow, which do not say them; LPS if None.
        on_case: Progress.
        cancel: Set it to stop.

    Returns:
        JSON-ready: "cases" (one entry for each structure of each case), "summary", "mean", "missing", "failed",
        "notes", "files".

    Raises:
        InputError: There is nothing to compare, or no case could be read; or `orientation` is none, or there is no npz.
        OutputError: The files exist already or cannot be written.
        CancelledError: `cancel` was set.
    """
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise InputError(f"A tolerance of {tolerance_mm:g} mm is none.", "Give one of at least 0.")
    if not 0 < iou <= 1:
        raise InputError(f"An intersection over union of {iou:g} is none.", "Give one above 0 and up to 1.")
    pairs = find_pairs(Path(gt_dir), Path(seg_dir), Path(images_dir) if images_dir else None)
    code = orientation_for(pairs, orientation)
    target = output_folder(Path(out), _FILES, overwrite) if out else None
    rows: list[Row] = []
    failed: list[dict[str, str]] = []
    pictures: Pictures | None = {} if target else None
    has_surface = can_score_surfaces()
    notes = (
        {} if has_surface else {"surface Dice": "It needs MONAI, which is not installed: pip install 'medals[train]'."}
    )
    for done, pair in enumerate(pairs, 1):
        if cancel is not None and cancel.is_set():
            raise CancelledError("The evaluation was cancelled.")
        try:
            case = open_pair(pair, names, code)
            image = None if pictures is None else _shown_image(pair, case, code)
            rows += _score_case(pair, case, tolerance_mm if has_surface else None, spacing_order, iou, image, pictures)
            if said := " ".join(_case_notes(pair, case)):
                notes[pair.name] = said
        except InputError as error:
            failed.append({"case": pair.name, "reason": str(error)})
        if on_case:
            on_case(done, len(pairs), pair.name)
    if not rows:
        reason = f": {failed[0]['reason']}" if failed else ""
        raise InputError(f"None of {len(pairs)} cases could be scored{reason}", "Check the files.")
    summary = summarise(rows)
    report = {
        "cases": [json_ready(asdict(row)) for row in rows],
        "summary": [json_ready(asdict(row)) for row in summary],
        "mean": json_ready(_overall(rows)),
        "missing": [pair.name for pair in pairs if pair.found is None],
        "failed": failed,
        "notes": notes,
        "tolerance_mm": tolerance_mm,
        "spacing_order": spacing_order,
    }
    report["files"] = _write(target, rows, summary, report, pictures or {}, overwrite) if target else []
    return report


def summarise(rows: Sequence[Row]) -> list[SummaryRow]:
    """Return the means by modality and structure, best Dice first, and each modality's mean over its cases."""
    summary = []
    for modality in sorted({row.modality for row in rows}):
        here = [row for row in rows if row.modality == modality and row.truth_voxels]
        groups: dict[tuple[str, str], list[Row]] = {}
        for row in here:
            groups.setdefault((row.structure, row.kind), []).append(row)
        entries = [_summary(modality, structure, kind, group) for (structure, kind), group in groups.items()]
        summary += sorted(entries, key=lambda entry: (-_number(entry.dsc), entry.structure))
        for kind in ("semantic", "instance"):
            cases = _case_means([row for row in here if row.kind == kind])
            if cases:
                summary.append(_summary(modality, "all", kind, cases))
    return summary


def summary_table(report: Mapping[str, Any]) -> str:
    """Return a report's summary as text for a terminal."""
    lines = [f"{'modality':<11}{'structure':<38}{'cases':>6}{'DSC':>8}{'NSD':>8}{'F1':>8}"]
    for row in report["summary"]:
        numbers = "".join(f"{'-' if row[key] is None else format(row[key], '.4f'):>8}" for key in ("dsc", "nsd", "f1"))
        name = row["structure"] if row["kind"] == "semantic" else f"{row['structure']} (instances)"
        lines.append(f"{row['modality'] or '-':<11}{name:<38.38}{row['cases']:>6}{numbers}")
    return "\n".join(lines)


def _score_case(
    pair: FilePair,
    case: CasePair,
    tolerance_mm: float | None,
    spacing_order: SpacingOrder,
    iou: float,
    image: np.ndarray | None,
    pictures: Pictures | None,
) -> list[Row]:
    """Score the structures of a case; pictures of them over `image` are added to `pictures` if there is one."""
    spacing = case.spacing[::-1] if spacing_order == "published" else case.spacing
    notes = _case_notes(pair, case)
    rows = []
    for item in case.structures:
        scores = _score(item, spacing, tolerance_mm, iou)
        rows.append(
            Row(
                case=case.name,
                modality=case.modality,
                structure=item.name,
                kind="instance" if item.instances else "semantic",
                truth_voxels=int(np.count_nonzero(item.truth)),
                found_voxels=int(np.count_nonzero(item.found)),
                note=" ".join(notes),
                **scores,
            )
        )
        if pictures is not None and case.grid is not None and rows[-1].truth_voxels:
            frame = NetworkFrame(case.grid)
            truth, found = (frame.to_network(mask > 0) for mask in (item.truth, item.found))
            pictures[case.name, item.name] = overlay(truth, found, image, frame.spacing_dhw)
    return rows


def _shown_image(pair: FilePair, case: CasePair, orientation: str) -> np.ndarray | None:
    """Return the image of a case (D, H, W) as it is shown, 0..255; None without one on the truth's grid."""
    if pair.image is None or case.grid is None:
        return None
    try:
        image = read_image(pair.image, orientation=orientation if pair.image.suffix == ".npz" else None)
    except InputError:
        return None  # pictures are a help; the scores do not need it
    if image.array_kji.shape != case.grid.shape_kji:
        return None
    window = AS_IS if image.windowed else resolved(usual_window(image.array_kji), image.array_kji)
    return NetworkFrame(case.grid).to_network(apply_window(image.array_kji, window))


def _case_notes(pair: FilePair, case: CasePair) -> list[str]:
    return [*case.notes, *(["There is no result of this name; it counts as empty."] if pair.found is None else [])]


def _score(item: StructurePair, spacing: Sequence[float], tolerance_mm: float | None, iou: float) -> dict[str, float]:
    """Return the scores of one structure; without a tolerance, no surface Dice."""
    nothing = dict.fromkeys(("dsc", "nsd", "f1", "tp", "fp", "fn"), NOT_A_NUMBER)
    if item.instances:
        found = instance_scores(item.truth, item.found, iou)
        return nothing | {key: found[key] for key in ("f1", "tp", "fp", "fn")} | {"dsc": found["dsc_tp"]}
    if not item.truth.any():
        return nothing
    return nothing | {
        "dsc": dice(item.truth, item.found),
        "nsd": NOT_A_NUMBER if tolerance_mm is None else surface_dice(item.truth, item.found, spacing, tolerance_mm),
    }


def _case_means(rows: Sequence[Row]) -> list[Row]:
    """Return one row a case with the means over its structures."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.case, []).append(row)
    rows_of_means = []
    for group in groups.values():
        means = _means(group)
        rows_of_means.append(replace(group[0], structure="all", dsc=means["dsc"], nsd=means["nsd"], f1=means["f1"]))
    return rows_of_means


def _means(rows: Sequence[Row]) -> dict[str, float]:
    return {key: mean([getattr(row, key) for row in rows]) for key in ("dsc", "nsd", "f1")}


def _summary(modality: str, structure: str, kind: str, rows: Sequence[Row]) -> SummaryRow:
    values = [row.dsc for row in rows if not math.isnan(row.dsc)]
    deviation = float(np.std(values)) if values else NOT_A_NUMBER
    cases = len({row.case for row in rows})
    return SummaryRow(modality, structure, kind, cases, dsc_deviation=deviation, **_means(rows))


def _overall(rows: Sequence[Row]) -> dict[str, float]:
    semantic = _case_means([row for row in rows if row.kind == "semantic" and row.truth_voxels])
    instance = _case_means([row for row in rows if row.kind == "instance" and row.truth_voxels])
    return {
        "dsc": mean([row.dsc for row in semantic]),
        "nsd": mean([row.nsd for row in semantic]),
        "f1": mean([row.f1 for row in instance]),
        "dsc_tp": mean([row.dsc for row in instance]),
    }


def _number(value: float) -> float:
    return -1.0 if math.isnan(value) else value


def _write(
    folder: Path,
    rows: Sequence[Row],
    summary: Sequence[SummaryRow],
    report: dict[str, Any],
    pictures: Pictures,
    overwrite: bool,
) -> list[str]:
    tables: tuple[tuple[str, type[Any], Sequence[Any]], ...] = (
        ("cases.csv", Row, rows),
        ("summary.csv", SummaryRow, summary),
    )
    for name, kind, entries in tables:
        write_table(folder / name, kind, entries, overwrite)
    write_report(folder / "summary.json", report, overwrite)
    files = list(_FILES[:3])
    worst = sorted((row for row in rows if row.truth_voxels), key=lambda row: _number(row.dsc))[:_MOST_PICTURES]
    shown = {key: pictures[key] for row in worst if (key := (row.case, row.structure)) in pictures}
    with replacing(folder / "scores.html", overwrite) as path:
        path.write_text(score_page(report, shown), encoding="utf-8")
    files.append("scores.html")
    try:
        with replacing(folder / "figure.png", overwrite) as path:
            draw_scores([(row.modality, row.structure, row.dsc, row.nsd) for row in rows if row.truth_voxels], path)
        files.append("figure.png")
    except MedalSError as error:
        report["failed"].append({"case": "figure.png", "reason": str(error)})
    return [str(folder / name) for name in files]
