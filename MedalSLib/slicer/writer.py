"""Writes results into a segmentation, respecting editor masks, locked segments and other segments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from MedalSLib.slicer import segments
from MedalSLib.slicer.editing import SegmentEditing, surfaceLater
from MedalSLib.slicer.oriented_image import UNBOUNDED, resampled
from MedalSLib.slicer.request import Overlap, Written
from MedalSLib.slicer.segment_terminology import describe
from MedalSLib.slicer.segments import voxelCount
from MedalSLib.slicer.targets import STRUCTURE_TAG, addSegment, findTarget, instanceOf, isLocked, structureOf
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True, eq=False)
class Before:
    """A segment as it was before the run.

    Attributes:
        mask: Its voxels; None if the run added the segment.
        matrix: Their lattice, index (i, j, k) to the segmentation's RAS.
        adopted: Whether the run marked a segment of the user's as the place of its results.
    """

    mask: BoxMask | None
    matrix: np.ndarray
    adopted: bool = False


class SegmentWriter:
    """Writes the structures of one run, each as soon as it is there.

    One undo state is saved before the first change and none later, so one undo takes back the whole run.  `rollback`
    does the same without the editor's history: for a cancelled run, and for the panel's Revert.

    Args:
        segmentationNode: Where the results go; see `prepareSegmentation`.
        volumeNode: The volume whose grid the masks are on.
        editing: The editor to write through.
        overlap: What happens where results meet other segments.
        region: The run's region on the volume's grid: nothing outside it changes.  None for everywhere.
        refined: By structure that is refined, a region of its own.  One that was not found is cleared within it, while
            another one leaves its earlier segment as it is.
        given: Segment by published name, for structures whose segment the user chose: their prompt is refined in place.
        excludeIDs: Segments that no result may enter ("not this segment"); they are not changed.
        modality: Modality of the run, for codes and colours of new segments.
        ui: Keeps the GUI responsive while a large structure is written.

    Attributes:
        node: The segmentation.
        before: How the segments that the run changed were before it, by segment ID.

    Raises:
        InputError: A non-linear transform lies between volume and segmentation.
    """

    def __init__(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        editing: SegmentEditing,
        overlap: Overlap = Overlap.ALLOW,
        region: BoxMask | None = None,
        refined: Mapping[str, BoxMask] | None = None,
        given: Mapping[str, str] | None = None,
        excludeIDs: Sequence[str] = (),
        modality: str = "CT",
        ui: UiYield | None = None,
    ) -> None:
        self.node = segmentationNode
        self._volume = volumeNode
        self._editing = editing
        self._overlap = overlap
        self._given = dict(given or {})
        self._excluded = frozenset(excludeIDs)
        self._modality = modality
        self._ui = ui or UiYield()
        # All masks in here are on one lattice: that of the segmentation, or of the volume for an empty one.
        self._volumeMatrix = segments.volumeMatrixIn(segmentationNode, volumeNode)
        stored = segments.segmentationMatrix(segmentationNode)
        self._matrix = self._volumeMatrix if stored is None else stored
        self._region = None if region is None else self._onLattice(region)
        self._refined = {structure: self._onLattice(around) for structure, around in (refined or {}).items()}
        self._written: dict[tuple[str, int], str] = {}
        self._expected: frozenset[str] = frozenset()
        self.before: dict[str, Before] = {}
        self._cut: list[str] = []
        self._saved = False

    @property
    def written(self) -> Mapping[str, str]:
        """Segment IDs by the published names written so far (whole structures, not instances)."""
        return {structure: segmentID for (structure, instance), segmentID in self._written.items() if not instance}

    @property
    def cut(self) -> tuple[str, ...]:
        """Names of the segments that lost voxels to the run without being part of it."""
        others = dict.fromkeys(one for one in self._cut if one not in self._written.values() and self._exists(one))
        return tuple(self._segment(one).GetName() for one in others)

    def expect(self, structures: Iterable[str]) -> None:
        """Say which structures are still to be written: what an earlier run left of them is no obstacle to this one."""
        self._expected = frozenset(self.target(structure) for structure in structures) - {""}

    def write(self, structure: str, mask: BoxMask | np.ndarray, instance: int = 0) -> Written:
        """Make a structure's segment equal to a mask, within the region, the editor's masks and the locks.

        An empty mask adds no segment, and leaves an earlier one as it is unless the structure is refined.

        Args:
            structure: Published name.
            mask: Mask on the volume's grid, or a boolean array (K, J, I).
            instance: Number of the instance, 0 for the whole structure.
        """
        mask = BoxMask.of(mask)
        if mask.is_empty and (structure not in self._refined or not self.target(structure, instance)):
            return Written(structure, reason="absent")
        wanted = self._onLattice(mask)
        segmentID = self.target(structure, instance)
        if segmentID and (isLocked(self._segment(segmentID)) or segmentID in self._excluded):
            return Written(structure, segmentID, reason="locked")
        if not segmentID:
            self._saveOnce()
            segmentID = addSegment(self.node, structure, instance)
            self.before[segmentID] = Before(None, self._matrix)
            describe(self._segment(segmentID), structure, self._modality)
        elif structureOf(self._segment(segmentID)) != structure:
            self._saveOnce()
            self.before[segmentID] = Before(self._stored(segmentID), self._matrix, adopted=True)
            self._segment(segmentID).SetTag(STRUCTURE_TAG, structure)
        self._written[structure, instance] = segmentID
        return Written(structure, segmentID, self._apply(segmentID, wanted, self._refined.get(structure, self._region)))

    def rollback(self, ui: UiYield | None = None) -> None:
        """Put every segment that the run changed back to what it was; segments the run added are removed.

        Segments that the run did not touch keep what the user did to them meanwhile.  Nothing is done to a segmentation
        that has left its scene.

        Args:
            ui: Keeps the GUI responsive.
        """
        self._ui = ui or UiYield()
        segmentation = self.node.GetSegmentation()
        for segmentID, before in self.before.items():
            if self.node.GetScene() is None:
                break
            if not self._exists(segmentID):
                continue
            if before.mask is None:
                segmentation.RemoveSegment(segmentID)
                continue
            self._change(segmentID, self._stored(segmentID), before.mask, bypass=True)
            if before.adopted and self._exists(segmentID):
                segmentation.GetSegment(segmentID).RemoveTag(STRUCTURE_TAG)
            self._ui.processEvents()
        self.before.clear()
        self._written.clear()
        self._saved = False

    def target(self, structure: str, instance: int = 0) -> str:
        """Return the ID of the segment that `write` would change, empty if it would add one."""
        known = self._written.get((structure, instance))
        if known is None and not instance:
            known = self._given.get(structure)
        if known is not None and self._exists(known):
            return known
        return findTarget(self.node, structure, instance)

    def _apply(self, segmentID: str, wanted: BoxMask, region: BoxMask | None) -> bool:
        current = self._stored(segmentID)
        if region is not None:
            wanted = self._offload(lambda new, old: (new & region) | (old - region), wanted, current)
        wanted = self._allowed(segmentID, wanted, current)
        overwritten = self._overlap is Overlap.OVERWRITE and self._overwriteOthers(segmentID, wanted)
        return self._change(segmentID, current, wanted) or overwritten

    def _allowed(self, segmentID: str, wanted: BoxMask, current: BoxMask) -> BoxMask:
        """Leave out what other segments do not give away."""
        for other in self._others(segmentID):
            excluded = other in self._excluded
            if wanted.box is None or not (excluded or self._isProtected(other)):
                continue
            taken = self._stored(other, wanted)
            if not taken.is_empty:
                # What the segment had before stays its own, except where no result may be at all.
                wanted = self._offload(_without, wanted, taken, BoxMask.empty(UNBOUNDED) if excluded else current)
        return wanted

    def _isProtected(self, other: str) -> bool:
        if self._overlap is Overlap.OVERWRITE:
            return isLocked(self._segment(other))
        return self._overlap is Overlap.KEEP_OTHERS

    def _change(self, segmentID: str, current: BoxMask, wanted: BoxMask, bypass: bool = False) -> bool:
        """Make a segment what is wanted; False if it is so already."""
        if current == wanted:
            return False
        self._remember(segmentID, current)
        self._editing.replaceVoxels(self.node, segmentID, current, wanted, self._matrix, bypass, self._ui)
        return True

    def _overwriteOthers(self, segmentID: str, wanted: BoxMask) -> bool:
        changed = False
        for other in self._others(segmentID):
            if wanted.box is None or isLocked(self._segment(other)) or other in self._excluded:
                continue
            lost = self._offload(BoxMask.__and__, self._stored(other, wanted), wanted)
            if not lost.is_empty and self._exists(other):
                self._remember(other, self._stored(other))
                if self._exists(other):
                    with surfaceLater(self.node, other):
                        self._editing.paint(self.node, other, lost, self._matrix, erase=True)
                    changed = True
                    self._cut.append(other)
        return changed

    def _others(self, segmentID: str) -> Iterator[str]:
        """Segments that are not part of this run: structures of one run may overlap, as their masks do."""
        mine = {segmentID, *self._written.values(), *self._expected}
        for other in segments.segmentIDs(self.node):
            if other not in mine and self._exists(other):  # the user may delete some meanwhile
                yield other

    def _exists(self, segmentID: str) -> bool:
        return self.node.GetSegmentation().GetSegment(segmentID) is not None

    def _onLattice(self, mask: BoxMask) -> BoxMask:
        """Bring a mask on the volume's grid to the lattice of the segmentation."""
        return self._offload(lambda one: resampled(one, self._volumeMatrix, self._matrix), mask)

    def _stored(self, segmentID: str, within: BoxMask | None = None) -> BoxMask:
        """Return a segment's voxels, all or those in the box of another mask."""
        box = None if within is None else within.box
        return segments.maskOn(self.node, segmentID, self._matrix, box, self._volume, self._ui)

    def _offload(self, work: Callable[..., BoxMask], *masks: BoxMask) -> BoxMask:
        return self._ui.offload(lambda: work(*masks), voxelCount(*masks))

    def _remember(self, segmentID: str, mask: BoxMask) -> None:
        """Keep what a segment is before its first change."""
        self._saveOnce()
        if segmentID not in self.before:
            self.before[segmentID] = Before(mask, self._matrix)

    def _segment(self, segmentID: str) -> Any:
        return segments.segmentOf(self.node, segmentID)

    def _saveOnce(self) -> None:
        if not self._saved:
            self._editing.edit(self.node, self._volume)
            self._editing.saveState()
            self._saved = True


def _without(wanted: BoxMask, taken: BoxMask, own: BoxMask) -> BoxMask:
    return wanted - (taken - own)


def removeStaleInstances(segmentationNode: Any, structure: str, count: int) -> tuple[str, ...]:
    """Remove segments of ours for instances that a new run no longer finds; return their IDs.

    Locked ones stay.  Call after `SegmentWriter.write`, so that the saved undo state holds them.

    Args:
        segmentationNode: The segmentation.
        structure: Published name.
        count: How many instances the run found.
    """
    segmentation = segmentationNode.GetSegmentation()
    stale = []
    for segmentID in segments.segmentIDs(segmentationNode):
        segment = segmentation.GetSegment(segmentID)
        if structureOf(segment) == structure and instanceOf(segment) > count and not isLocked(segment):
            stale.append(segmentID)
    for segmentID in stale:
        segmentation.RemoveSegment(segmentID)
    return tuple(stale)
