"""What the user painted and erased since the last result, found as the difference to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from MedalSLib.slicer import segments, transforms, volumes
from MedalSLib.slicer.matching import matchedStructure
from MedalSLib.slicer.targets import isCorrected, setCorrected, structureOf
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.edit_history import Edit, EditHistory
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True, eq=False)
class Strokes:
    """The user's edits since the last result; masks have the axes (K, J, I) of the volume.

    Attributes:
        edits: What was done to each edited segment, by the name of its structure.
        segmentIDs: IDs of the edited segments, by the same names.
        byHand: Names of the structures that no run has segmented: they are made from paint.
    """

    edits: dict[str, Edit]
    segmentIDs: dict[str, str]
    byHand: frozenset[str]

    @property
    def masks(self) -> dict[str, BoxMask]:
        """The edited segments as they are now."""
        return {name: edit.mask for name, edit in self.edits.items()}

    @property
    def locked(self) -> dict[str, BoxMask]:
        """Where the user decided, in earlier edits too, so that one refinement does not take back another's."""
        return {name: edit.decided for name, edit in self.edits.items()}

    @property
    def painted(self) -> dict[str, BoxMask]:
        """Voxels painted or erased since the last result."""
        return {name: edit.change for name, edit in self.edits.items()}


@dataclass(eq=False)
class _Record:
    """One segment; `structure` is empty until a run has written it, `state` says when it was last looked at."""

    history: EditHistory
    structure: str = ""
    state: tuple[object, ...] = ()
    edit: Edit | None = None
    checked: set[tuple[int, int]] = field(default_factory=set)


class Baseline:
    """Remembers what each run left in the segments of one segmentation, and finds the strokes made since.

    A segment that no run has written counts from when it was first seen: a new one from nothing, a loaded one as it is.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def see(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        segmentID: str,
        asPaint: bool = False,
        ui: UiYield | None = None,
    ) -> None:
        """Take note of a segment as it is, unless it is known: what is painted from now on is a correction.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume.
            segmentID: The segment.
            asPaint: Whether all of it is paint, made before anybody looked.
            ui: Keeps the GUI responsive.
        """
        if not asPaint and self._knows(segmentID, volumeNode):
            return
        if asPaint or not segments.hasVoxels(segmentationNode, segmentID):
            mask = BoxMask.empty(volumes.shapeOf(volumeNode))
        else:
            mask = segments.readSegment(segmentationNode, segmentID, volumeNode, ui)
        self._records[segmentID] = _Record(EditHistory(mask))

    def seeNew(self, segmentationNode: Any, volumeNode: Any, selected: str | None) -> None:
        """Take note of segments that are about to be painted: of new ones, which are empty, and of the selected one.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume.
            selected: The segment that the editor would paint.
        """
        for segmentID in segments.segmentIDs(segmentationNode):
            if self._knows(segmentID, volumeNode):
                continue
            if segmentID == selected or not segments.hasVoxels(segmentationNode, segmentID):
                self.see(segmentationNode, volumeNode, segmentID)

    def _knows(self, segmentID: str, volumeNode: Any) -> bool:
        record = self._records.get(segmentID)
        return record is not None and record.history.shape == volumes.shapeOf(volumeNode)

    def record(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        written: Mapping[str, str],
        decided: Mapping[str, BoxMask] | None = None,
        ui: UiYield | None = None,
    ) -> None:
        """Remember the segments as a run left them.

        Segments that are gone are left out.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the run.
            written: Segment IDs by name of the structure.
            decided: The strokes that a refinement honoured (`Strokes.locked`): they stay locked in the next one.
                A structure that is not in it was segmented from scratch, and starts anew.
            ui: Keeps the GUI responsive.
        """
        for structure, segmentID in written.items():
            if segmentationNode.GetSegmentation().GetSegment(segmentID) is None:
                continue
            mask = segments.readSegment(segmentationNode, segmentID, volumeNode, ui)
            record = self._records.get(segmentID)
            # Of a volume that had other dimensions, the remembered voxels say nothing.
            if record is None or record.history.shape != mask.shape:
                record = self._records[segmentID] = _Record(EditHistory(mask))
            kept = (decided or {}).get(structure)
            record.history.record(mask, kept)
            record.structure, record.state = structure, ()
            setCorrected(segments.segmentOf(segmentationNode, segmentID), kept is not None)
            if kept is None:
                record.checked.clear()

    def look(self, segmentationNode: Any, volumeNode: Any, segmentID: str, ui: UiYield | None = None) -> Edit | None:
        """Return what was done to a segment since its last result; None if nothing, or if it is not known.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the runs.
            segmentID: The segment.
            ui: Keeps the GUI responsive.
        """
        if segmentationNode.GetSegmentation().GetSegment(segmentID) is None or not self._knows(segmentID, volumeNode):
            return None
        record = self._records[segmentID]
        state = _stateOf(segmentationNode, segmentID, volumeNode)
        if not state or state != record.state:
            mask = segments.readSegment(segmentationNode, segmentID, volumeNode, ui)
            record.edit = (ui or UiYield()).offload(lambda: record.history.edit(mask), 3 * segments.voxelCount(mask))
            record.state = state
        return record.edit

    def strokes(
        self, segmentationNode: Any, volumeNode: Any, modality: str | None = None, ui: UiYield | None = None
    ) -> Strokes | None:
        """Return the edits since the last result, None if there are none.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume of the runs.
            modality: What the volume is, to understand the names of segments that no run has written.
            ui: Keeps the GUI responsive.
        """
        edits: dict[str, Edit] = {}
        segmentIDs: dict[str, str] = {}
        byHand = set()
        for segmentID, record in list(self._records.items()):
            edit = self.look(segmentationNode, volumeNode, segmentID, ui)
            if edit is None:
                continue
            segment = segments.segmentOf(segmentationNode, segmentID)
            setCorrected(segment, True)
            name = record.structure or matchedStructure(segment, modality or "CT")[0]
            if not name or name in edits:
                name = _free(segment.GetName(), edits)
            edits[name], segmentIDs[name] = edit, segmentID
            if not record.structure and (edit.mask - edit.decided).is_empty:
                byHand.add(name)
        return Strokes(edits, segmentIDs, frozenset(byHand)) if edits else None

    def held(self, segmentationNode: Any) -> tuple[str, ...]:
        """Return the structures whose last result honours what the user decided: another run would replace that.

        Those of a scene that was loaded count too, though what was painted in them is not known any more.
        """
        found = []
        for segmentID in segments.segmentIDs(segmentationNode):
            record, segment = self._records.get(segmentID), segments.segmentOf(segmentationNode, segmentID)
            if record is None or not record.structure:
                held = isCorrected(segment)
            else:
                held = not record.history.decided.is_empty
            if held:
                found.append(structureOf(segment) or segment.GetName())
        return tuple(found)

    def check(self, segmentationNode: Any, volumeNode: Any, segmentID: str, place: tuple[int, int]) -> None:
        """Take note that the user finds a slice of a segment right.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume.
            segmentID: The segment.
            place: The axis of the volume's array (K, J, I) that the slice is normal to, and its place along it.
        """
        axis, index = place
        self.see(segmentationNode, volumeNode, segmentID)
        record = self._records[segmentID]
        box = [(0, size) for size in record.history.shape]
        box[axis] = (index, index + 1)
        shape = [stop - start for start, stop in box]
        plane = BoxMask.from_crop(np.ones(shape, dtype=bool), [start for start, _ in box], record.history.shape)
        record.history.decide(plane)
        record.checked.add(place)
        record.state = ()

    def checked(self, segmentID: str) -> frozenset[tuple[int, int]]:
        """Return axis and index of each slice of a segment that the user found right."""
        record = self._records.get(segmentID)
        return frozenset() if record is None else frozenset(record.checked)


def _free(name: str, taken: Mapping[str, object]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name} {number}", number + 1
    return free


def _stateOf(segmentationNode: Any, segmentID: str, volumeNode: Any) -> tuple[object, ...]:
    """Return what changes with a segment's voxels on the volume's grid; empty if that cannot be told."""
    segment = segments.segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(segments.LABELMAP)
    relation = transforms.matrixBetween(segmentationNode, volumeNode)
    if image is None or relation is None:
        return ()
    # VTK's times of change are unique, so another image has another one.
    places = relation.tobytes(), volumes.localMatrix(volumeNode).tobytes(), volumes.shapeOf(volumeNode)
    return image.GetMTime(), segment.GetLabelValue(), *places
