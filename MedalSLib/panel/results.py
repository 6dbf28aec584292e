"""The table of results: one row for each structure, growing while a run goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from MedalSLib.engine.interface import Report, StructureReport
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.progress import volumeText
from MedalSLib.panel.workspace import Outcome, WrittenFacts

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
        segmentID: Segment that holds it, empty if none.
    """

    structure: str
    state: RowState
    status: str
    volume: str = ""
    note: str = ""
    segmentID: str = ""


def waitingRows(structures: Iterable[str]) -> tuple[ResultRow, ...]:
    """Return the rows of a run that has just begun."""
    return tuple(ResultRow(name, "waiting", _("working …")) for name in structures)


def withWritten(rows: Sequence[ResultRow], written: WrittenFacts) -> tuple[ResultRow, ...]:
    """Return the rows after one structure was written."""
    row = _written(written)
    if any(known.structure == row.structure for known in rows):
        return tuple(row if known.structure == row.structure else known for known in rows)
    return (*rows, row)


def finishedRows(outcome: Outcome) -> tuple[ResultRow, ...]:
    """Return the rows of a finished run: those found first, in the order of the report."""
    segments = {item.structure: item for item in reversed(outcome.written)}
    rows = [_finished(report, segments.get(name)) for name, report in outcome.report.structures.items()]
    return tuple(sorted(rows, key=lambda row: row.state == "absent"))


def summary(outcome: Outcome, frames: int = 1) -> str:
    """Return a finished run in one sentence."""
    report = outcome.report
    found = sum(1 for item in report.structures.values() if item.found)
    if not report.structures or not found:
        return _("Nothing was found. Your segments are as they were.")
    text = _("{found} of {asked} structures found").format(found=found, asked=len(report.structures))
    if frames > 1:
        text += " " + _("in the last of {count} frames").format(count=frames)
    total = report.seconds.get("total")
    if total is not None:
        text += " " + _("in {seconds:.1f} s").format(seconds=total)
    return f"{text}."


def remarks(report: Report) -> tuple[str, ...]:
    """Return what the user should read about a run: warnings, and steps taken to save memory."""
    steps = tuple(_("To save memory: {step}.").format(step=step) for step in report.steps)
    return (*report.warnings, *steps)


def _written(written: WrittenFacts) -> ResultRow:
    if written.reason == "absent":
        return ResultRow(written.structure, "absent", _("not found"))
    if written.reason == "locked":
        return ResultRow(written.structure, "kept", _("locked, left as it is"), segmentID=written.segmentID)
    return ResultRow(written.structure, "found", _("found"), segmentID=written.segmentID)


def _finished(report: StructureReport, written: WrittenFacts | None) -> ResultRow:
    if not report.found:
        return ResultRow(report.name, "absent", _("not found"), note=report.window)
    notes = [report.window] if report.window else []
    if report.instances is not None:
        notes.insert(0, _("{count} separate").format(count=report.instances))
    state: RowState = "kept" if written is not None and written.reason == "locked" else "found"
    status = _("locked, left as it is") if state == "kept" else _("found")
    segmentID = written.segmentID if written is not None else ""
    return ResultRow(report.name, state, status, volumeText(report.volume_ml), " · ".join(notes), segmentID)
