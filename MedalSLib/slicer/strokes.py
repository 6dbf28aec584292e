"""What the user painted and erased since the last result, found as the difference to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from MedalSLib.slicer import segments
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.box import Box, union
from MedalSLib.volume.mask import BoxMask

_VERSIONS = 10
"""Results remembered for each segment: as many as Slicer's undo steps."""


@dataclass(frozen=True, eq=False)
class Strokes:
    """The user's edits since the last result; masks have the axes (K, J, I) of the volume.

    Attributes:
        masks: The edited segments as they are now, by published name.
        locked: Where the user decided, by published name: `masks` holds there whatever the network says.  Holds their
            earlier strokes too, so that one refinement does not take back another's.
        box: The box of the strokes since the last result.
        painted: Voxels painted in since the last result, by published name.
        erased: Voxels erased since the last result, by published name.
        segmentIDs: IDs of the edited segments, by published name.
    """

    masks: dict[str, BoxMask]
    locked: dict[str, BoxMask]
    box: Box
    painted: dict[str, int]
    erased: dict[str, int]
    segmentIDs: dict[str, str]


@dataclass(eq=False)
class _Record:
    structure: str
    versions: list[BoxMask] = field(default_factory=list)
    decided: BoxMask | None = None


class Baseline:
    """Remembers what each run left in the segments of one segmentation, and finds the strokes made since.

    After an undo, the segments are as an earlier run left them; the nearest remembered result counts, so that undoing
    is not taken for painting.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def record(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        written: Mapping[str, str],
        decided: Mapping[str, BoxMask] | None = None,
        ui: UiYield | None = None,
    ) -> None:
        """Remember the segments as a run left them, or as they are before their first run.

        Segments that are gone are left out.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the run.
            written: Segment IDs by published name.
            decided: The strokes that a refinement honoured (`Strokes.locked`): they stay locked in the next one.
                None after a run from scratch, which starts anew.
            ui: Keeps the GUI responsive.
        """
        for structure, segmentID in written.items():
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            mask = segments.readSegment(segmentationNode, segmentID, volumeNode, ui)
            record = self._records.setdefault(segmentID, _Record(structure))
            record.structure = structure
            # Of a volume that had other dimensions, the remembered voxels say nothing.
            former = [version for version in record.versions if version.shape == mask.shape]
            record.versions = [*former[1 - _VERSIONS :], mask]
            record.decided = (decided or {}).get(structure)

    def knows(self, segmentID: str) -> bool:
        """Whether a state of the segment is remembered."""
        return segmentID in self._records

    def strokes(self, segmentationNode: Any, volumeNode: Any, ui: UiYield | None = None) -> Strokes | None:
        """Return the edits since the last result, None if there are none.

        Segments that were deleted, and segments no run has written, do not count.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the runs.
            ui: Keeps the GUI responsive.
        """
        ui = ui or UiYield()
        found: dict[str, _Edit] = {}
        for segmentID, record in list(self._records.items()):
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            current = segments.readSegment(segmentationNode, segmentID, volumeNode, ui)
            if record.versions[-1].shape != current.shape:
                continue
            work = partial(_Edit.of, segmentID, current, record.versions, record.decided)
            edit = ui.offload(work, segments.voxelCount(current) * (1 + len(record.versions)))
            if edit is not None:
                found[record.structure] = edit
        box = union(edit.box for edit in found.values())
        if box is None:
            return None
        return Strokes(
            {name: edit.mask for name, edit in found.items()},
            {name: edit.locked for name, edit in found.items()},
            box,
            {name: edit.painted for name, edit in found.items()},
            {name: edit.erased for name, edit in found.items()},
            {name: edit.segmentID for name, edit in found.items()},
        )


@dataclass(frozen=True, eq=False)
class _Edit:
    """What the user did to one segment; the attributes are as in `Strokes`."""

    segmentID: str
    mask: BoxMask
    locked: BoxMask
    box: Box
    painted: int
    erased: int

    @staticmethod
    def of(segmentID: str, current: BoxMask, versions: list[BoxMask], decided: BoxMask | None) -> _Edit | None:
        """Compare a segment with the remembered result that differs least, the newest among equals."""
        # After an undo the segment is as an earlier run left it: not painted.  `min` keeps the newest of equals.
        differences = {index: version ^ current for index, version in enumerate(reversed(versions))}
        nearest = min(differences, key=lambda index: differences[index].count())
        change = differences[nearest]
        if change.box is None:
            return None
        painted = (change & current).count()
        locked = change if decided is None else change | decided
        return _Edit(segmentID, current, locked, change.box, painted, change.count() - painted)
