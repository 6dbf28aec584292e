"""The table of results: one row for each structure, growing while a run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.wording import sideText, volumeText
from MedalSLib.run import StructureReport
from MedalSLib.slicer.request import RunOutcome, Written

RowState = Literal["waiting", "found", "absent", "kept"]


@dataclass(frozen=True)
class ResultRow:
    """One structure.

    Attributes:
        structure: Published name.
        state: "waiting" during the run; "found"; "absent"; "kept" if its segment is locked and was left alone.
        status: The state in words.
        volume: Volume with its unit, empty while it is not known.
        note: What else is worth knowing: instances, intensity window.
        segments: IDs of the segments that hold it: one, one for each instance, or none.
        worthChecking: Slices worth a look, the most doubtful first: axis (K, J, I) and index.
        cutOff: Where it goes on beyond the edge of the scan, in words, so that its volume is a lower bound; else empty.
        gone: Whether these segments are not there any more: the run was undone, or they were deleted.
    """

    structure: str
    state: RowState
    status: str
    volume: str = ""
    note: str = ""
    segments: tuple[str, ...] = ()
    worthChecking: tuple[tuple[int, int], ...] = ()
    cutOff: str = ""
    gone: bool = False


def waitingRows(structures: Iterable[str]) -> tuple[ResultRow, ...]:
    """Return the rows of a run that has just begun."""
    return tuple(ResultRow(name, "waiting", _("working …")) for name in structures)


def withRows(rows: Iterable[ResultRow], newer: Iterable[ResultRow]) -> tuple[ResultRow, ...]:
    """Return rows with newer ones in the place of those of the same structures, or after them."""
    return tuple(({row.structure: row for row in rows} | {row.structure: row for row in newer}).values())


def finishedRows(outcome: RunOutcome) -> tuple[ResultRow, ...]:
    """Return the rows of a finished run: those found first, in the order of the report."""
    refined = () if outcome.strokes is None else outcome.strokes.edits
    rows = [
        _finished(report, [item for item in outcome.written if item.structure == name], name in refined)
        for name, report in outcome.report.structures.items()
    ]
    return tuple(sorted(rows, key=lambda row: row.state == "absent"))


def measuredRows(rows: Sequence[ResultRow], volumes: Mapping[str, float]) -> tuple[ResultRow, ...]:
    """Return the rows as their segments are now.

    The engine's own volumes are those of its answer: a refinement answers for its region alone, and masks, locks and
    strokes decide what of it becomes of a segment.

    Args:
        rows: Rows of a finished run.
        volumes: Volume in ml by ID of each segment that there is.
    """
    return tuple(_measured(row, volumes) if row.segments else row for row in rows)


def summary(outcome: RunOutcome, frames: int = 1) -> str:
    """Return a finished run in one sentence."""
    report = outcome.report
    refined = () if outcome.strokes is None else tuple(outcome.strokes.edits)
    others = [item for name, item in report.structures.items() if name not in refined]
    found = sum(item.found for item in others)
    if not refined and not found:
        return _("Nothing was found. Your segments are as they were.")
    parts = [_("{count} refined").format(count=len(refined))] if refined else []
    if others:
        parts.append(_("{found} of {asked} structures found").format(found=found, asked=len(others)))
    text = ", ".join(parts)
    if frames > 1:
        text += " " + _("in the last of {count} frames").format(count=frames)
    total = report.seconds.get("total")
    if total is not None:
        text += " " + _("in {seconds:.1f} s").format(seconds=total)
    return f"{text}."


def remarks(outcome: RunOutcome) -> tuple[str, ...]:
    """Return what the user should read about a run: warnings, what it took from others, steps to save memory."""
    steps = tuple(_("To save memory: {step}.").format(step=step) for step in outcome.report.steps)
    taken = _("Results took voxels of {names} (Options, Where results meet other segments).")
    cut = (taken.format(names=", ".join(outcome.cut)),) if outcome.cut else ()
    return (*outcome.report.warnings, *cut, *steps)


def writtenRow(written: Written) -> ResultRow:
    """Return the row of a structure that was just written."""
    if written.reason == "absent":
        return ResultRow(written.structure, "absent", _("not found"))
    if written.reason == "locked":
        return ResultRow(written.structure, "kept", _("locked, left as it is"), segments=(written.segmentID,))
    return ResultRow(written.structure, "found", _("found"), segments=(written.segmentID,))


def _measured(row: ResultRow, volumes: Mapping[str, float]) -> ResultRow:
    there = [volumes[segment] for segment in row.segments if segment in volumes]
    return replace(row, volume=_bound(sum(there), row.cutOff) if there else "", gone=not there)


def _bound(volume: float, cutOff: str) -> str:
    return f"≥ {volumeText(volume)}" if cutOff else volumeText(volume)


def _finished(report: StructureReport, written: Sequence[Written], refined: bool) -> ResultRow:
    if not report.found:
        return ResultRow(report.name, "absent", _("not found"), note=report.window)
    notes = [report.window] if report.window else []
    if report.instances is not None:
        notes.insert(0, _("{count} separate").format(count=report.instances))
    state: RowState = "kept" if any(item.reason == "locked" for item in written) else "found"
    status = _("refined") if refined else _("found")
    if report.source == "paint":
        status = _("painted by hand")
    if state == "kept":
        status = _("locked, left as it is")
    sides = ", ".join(map(sideText, report.cut_off))
    cutOff = _("cut off {sides}").format(sides=sides) if sides else ""
    segments = tuple(item.segmentID for item in written if item.segmentID)
    volume = _bound(report.volume_ml, cutOff)
    return ResultRow(report.name, state, status, volume, " · ".join(notes), segments, report.worth_checking, cutOff)
