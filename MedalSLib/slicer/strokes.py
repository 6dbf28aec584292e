"""What the user painted and erased since the last result, found as the difference to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from MedalSLib.slicer import segments
from MedalSLib.slicer.lattice import Patch, boundingBox, emptyPatch, patchOf, union
from MedalSLib.volume.geometry import Box

_VERSIONS = 10
"""Results remembered for each segment: as many as Slicer's undo steps."""


@dataclass(frozen=True, eq=False)
class Strokes:
    """The user's edits since the last result, as `Session.segment` takes them.

    Attributes:
        masks: The edited segments as they are now, boolean (K, J, I) on the volume's grid, by published name.
        locked: Where the user decided, boolean (K, J, I), by published name: `masks` holds there whatever the network
            says.  Holds his earlier strokes too, so that one refinement does not take back another's.
        box: Half-open index bounds of the strokes since the last result.
        painted: Voxels painted in since the last result, by published name.
        erased: Voxels erased since the last result, by published name.
        segmentIDs: IDs of the edited segments, by published name.
    """

    masks: dict[str, np.ndarray]
    locked: dict[str, np.ndarray]
    box: Box
    painted: dict[str, int]
    erased: dict[str, int]
    segmentIDs: dict[str, str]


@dataclass(eq=False)
class _Record:
    structure: str
    versions: list[_Packed] = field(default_factory=list)
    decided: _Packed | None = None


@dataclass(frozen=True, eq=False)
class _Packed:
    """A patch at one bit a voxel."""

    bits: np.ndarray
    shape: tuple[int, ...]
    start: tuple[int, int, int]
    matrix: np.ndarray

    @staticmethod
    def of(patch: Patch) -> _Packed:
        return _Packed(np.packbits(patch.mask, axis=None), patch.mask.shape, patch.start, patch.matrix)

    def patch(self) -> Patch:
        count = int(np.prod(self.shape))
        mask = np.unpackbits(self.bits, count=count).view(bool).reshape(self.shape)
        return Patch(mask, self.start, self.matrix)


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
        decided: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Remember the segments as a run left them, or as they are before their first run.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the run.
            written: Segment IDs by published name.
            decided: The strokes that a refinement honoured (`Strokes.locked`): they stay locked in the next one.
                None after a run from scratch, which starts anew.
        """
        for structure, segmentID in written.items():
            patch = segments.readSegmentPatch(segmentationNode, segmentID, volumeNode)
            record = self._records.setdefault(segmentID, _Record(structure))
            record.structure = structure
            record.versions = [*record.versions[1 - _VERSIONS :], _Packed.of(patch)]
            mask = None if decided is None else decided.get(structure)
            record.decided = None
            if mask is not None:
                record.decided = _Packed.of(Patch(mask, (0, 0, 0), patch.matrix).cropped())

    def knows(self, segmentID: str) -> bool:
        """Whether a state of the segment is remembered."""
        return segmentID in self._records

    def strokes(self, segmentationNode: Any, volumeNode: Any) -> Strokes | None:
        """Return the edits since the last result, None if there are none.

        Segments that were deleted, and segments no run has written, do not count.
        """
        i, j, k = volumeNode.GetImageData().GetDimensions()
        whole: Box = ((0, i), (0, j), (0, k))
        masks: dict[str, np.ndarray] = {}
        locked: dict[str, np.ndarray] = {}
        painted: dict[str, int] = {}
        erased: dict[str, int] = {}
        segmentIDs: dict[str, str] = {}
        boxes: list[Box] = []
        for segmentID, record in self._records.items():
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            current = segments.readSegmentPatch(segmentationNode, segmentID, volumeNode)
            result = self._nearest(record, current)
            box = union(current.box, result.box)
            now, then = current.on(box), result.on(box)
            added, removed = now & ~then, then & ~now
            bounds = boundingBox(added | removed)
            if bounds is None:
                continue
            boxes.append(_shifted(bounds, box))
            name = record.structure
            masks[name] = current.on(whole)
            locked[name] = self._decisions(record, current).on(whole)
            painted[name], erased[name] = int(added.sum()), int(removed.sum())
            segmentIDs[name] = segmentID
        return Strokes(masks, locked, union(*boxes), painted, erased, segmentIDs) if boxes else None

    def forget(self) -> None:
        """Forget everything: the segmentation or the volume is another one."""
        self._records.clear()

    def _decisions(self, record: _Record, current: Patch) -> Patch:
        """Return the voxels that the user decided: new strokes and earlier ones that still stand."""
        result = self._nearest(record, current)
        earlier = record.decided.patch() if record.decided is not None else emptyPatch(current.matrix)
        box = union(current.box, result.box, earlier.box)
        return patchOf((current.on(box) ^ result.on(box)) | earlier.on(box), box, current.matrix)

    @staticmethod
    def _nearest(record: _Record, current: Patch) -> Patch:
        def difference(patch: Patch) -> int:
            box = union(patch.box, current.box)
            return int((patch.on(box) ^ current.on(box)).sum())

        newestFirst = [packed.patch() for packed in reversed(record.versions)]
        return min(newestFirst, key=difference) if newestFirst else emptyPatch(current.matrix)


def _shifted(bounds: Box, box: Box) -> Box:
    """Return bounds within a box as bounds on the grid."""
    i, j, k = [(low + start, high + start) for (low, high), (start, _) in zip(bounds, box, strict=True)]
    return i, j, k
