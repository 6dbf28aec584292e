"""The one list of structures: what the last run said of each, and its segment as it is now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.result_rows import ResultRow, RowState
from MedalSLib.panel.spatial import SegmentRow
from MedalSLib.panel.wording import volumeText

_SIGNS: dict[RowState, str] = {"waiting": "… ", "found": "✓ ", "absent": "- ", "kept": "= "}


@dataclass(frozen=True)
class StructureRow:
    """One line of the list.

    Attributes:
        name: Name of the segment; of the structure where there is none, or one for each instance.
        volume: Its volume with its unit; empty if it has none.
        state: What is known of it, in words with a sign.
        role: What the next run takes it for, and whether it is locked, in words; empty for nothing special.
        hint: What else is worth knowing.
        segmentIDs: The segments it stands for.
        segment: The segment, where it is one that can be painted and named.
    """

    name: str
    volume: str = ""
    state: str = ""
    role: str = ""
    hint: str = ""
    segmentIDs: tuple[str, ...] = ()
    segment: SegmentRow | None = None


def structureRows(
    results: Sequence[ResultRow], segments: Sequence[SegmentRow], volumes: Mapping[str, float], frame: int | None = None
) -> tuple[StructureRow, ...]:
    """Return the list: the structures of the last run first, then the other segments.

    Args:
        results: What the last run said.
        segments: Segments that can be painted and named.
        volumes: Volume in ml by ID of each segment that there is.
        frame: Frame of the results, counted from 1, if another one is shown.
    """
    left = {row.segmentID: row for row in segments}
    rows = []
    for result in results:
        segment = left.pop(result.segments[0], None) if len(result.segments) == 1 else None
        rows.append(_row(result, segment, volumes, frame))
    rows += [_row(None, segment, volumes, None) for segment in left.values()]
    return tuple(rows)


def _row(
    result: ResultRow | None, segment: SegmentRow | None, volumes: Mapping[str, float], frame: int | None
) -> StructureRow:
    segmentIDs = result.segments if result is not None else ()
    name = result.structure if result is not None else ""
    hint = result.note if result is not None else ""
    if segment is not None:
        segmentIDs, name = (segment.segmentID,), segment.name
        stands = _("stands for {structure}, {how}").format(structure=segment.structure, how=segment.how)
        hint = ", ".join(part for part in (hint, stands if segment.structure not in ("", name) else "") if part)
    there = [volumes[one] for one in segmentIDs if one in volumes]
    measured = result.volume if result is not None else volumeText(there[0]) if there and there[0] else ""
    return StructureRow(
        name, measured, _state(result, segment, frame), _role(segment), hint, segmentIDs if there else (), segment
    )


def _state(result: ResultRow | None, segment: SegmentRow | None, frame: int | None) -> str:
    if result is not None and result.gone and segment is None:
        return "- " + _("no longer there")
    words, sign = [], ""
    if segment is not None and segment.edit:
        words, sign = [segment.edit], "✎ "
    elif result is not None:
        words, sign = [result.status], _SIGNS[result.state]
        if frame is not None:
            words.append(_("in frame {number}").format(number=frame))
    elif segment is not None and segment.empty:
        words = [_("empty")]
    if result is not None and result.cutOff:
        words, sign = [*words, result.cutOff], "⚠ "
    if segment is not None and segment.right:
        right = _("{count} slices right").format(count=segment.right) if segment.right > 1 else _("1 slice right")
        words.append(right)
    return sign + ", ".join(words)


def _role(segment: SegmentRow | None) -> str:
    if segment is None:
        return ""
    words = {"prompt": _("prompt"), "exclude": _("keep out")}.get(segment.use, "")
    return ", ".join(part for part in (words, _("locked") if segment.locked else "") if part)
