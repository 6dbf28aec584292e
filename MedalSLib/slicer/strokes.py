"""What the user painted and erased since the last result, found as the difference to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from MedalSLib.slicer import segments
from MedalSLib.slicer.oriented_image import Patch, boundingBox, emptyPatch, patchOf, union
from MedalSLib.slicer.ui_yield import UiYield
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
            ui: Divides the work.
        """
        ui = ui or UiYield()
        for structure, segmentID in written.items():
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            patch = segments.readSegmentPatch(segmentationNode, segmentID, volumeNode, ui)
            packed = ui.offload(partial(_Packed.of, patch), patch.mask.size)
            record = self._records.setdefault(segmentID, _Record(structure))
            record.structure = structure
            record.versions = [*record.versions[1 - _VERSIONS :], packed]
            mask = None if decided is None else decided.get(structure)
            record.decided = None
            if mask is not None:
                strokes = ui.offload(Patch(mask, (0, 0, 0), patch.matrix).cropped, mask.size)
                record.decided = _Packed.of(strokes)

    def knows(self, segmentID: str) -> bool:
        """Whether a state of the segment is remembered."""
        return segmentID in self._records

    def strokes(self, segmentationNode: Any, volumeNode: Any, ui: UiYield | None = None) -> Strokes | None:
        """Return the edits since the last result, None if there are none.

        Segments that were deleted, and segments no run has written, do not count.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the runs.
            ui: Divides the work.
        """
        ui = ui or UiYield()
        i, j, k = volumeNode.GetImageData().GetDimensions()
        whole: Box = ((0, i), (0, j), (0, k))
        found: dict[str, _Edit] = {}
        for segmentID, record in list(self._records.items()):
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            current = segments.readSegmentPatch(segmentationNode, segmentID, volumeNode, ui)
            voxels = current.mask.size * (1 + len(record.versions))
            edit = ui.offload(partial(_Edit.of, segmentID, record, current, whole), voxels)
            if edit is not None:
                found[record.structure] = edit
        if not found:
            return None
        return Strokes(
            {name: edit.mask for name, edit in found.items()},
            {name: edit.locked for name, edit in found.items()},
            union(*(edit.box for edit in found.values())),
            {name: edit.painted for name, edit in found.items()},
            {name: edit.erased for name, edit in found.items()},
            {name: edit.segmentID for name, edit in found.items()},
        )

    def forget(self) -> None:
        """Forget everything: the segmentation or the volume is another one."""
        self._records.clear()


@dataclass(frozen=True, eq=False)
class _Edit:
    """What the user did to one segment; the attributes are as in `Strokes`."""

    segmentID: str
    mask: np.ndarray
    locked: np.ndarray
    box: Box
    painted: int
    erased: int

    @staticmethod
    def of(segmentID: str, record: _Record, current: Patch, whole: Box) -> _Edit | None:
        """Compare a segment with what the nearest of its results left; None if they are the same."""
        result = _nearest(record, current)
        box = union(current.box, result.box)
        now, then = current.on(box), result.on(box)
        added, removed = now & ~then, then & ~now
        bounds = boundingBox(added | removed)
        if bounds is None:
            return None
        earlier = record.decided.patch() if record.decided is not None else emptyPatch(current.matrix)
        reach = union(box, earlier.box)
        decided = patchOf((current.on(reach) ^ result.on(reach)) | earlier.on(reach), reach, current.matrix)
        return _Edit(
            segmentID,
            current.on(whole),
            decided.on(whole),
            _shifted(bounds, box),
            int(added.sum()),
            int(removed.sum()),
        )


def _nearest(record: _Record, current: Patch) -> Patch:
    """Return the remembered result that differs least, the newest among equals."""

    def difference(patch: Patch) -> int:
        box = union(patch.box, current.box)
        return int((patch.on(box) ^ current.on(box)).sum())

    newestFirst = (packed.patch() for packed in reversed(record.versions))
    return min(newestFirst, key=difference, default=emptyPatch(current.matrix))


def _shifted(bounds: Box, box: Box) -> Box:
    """Return bounds within a box as bounds on the grid."""
    i, j, k = [(low + start, high + start) for (low, high), (start, _) in zip(bounds, box, strict=True)]
    return i, j, k
