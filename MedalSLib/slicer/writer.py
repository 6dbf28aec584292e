"""Results written into a segmentation, the way a careful colleague would: masks, locks and other segments respected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from MedalSLib.slicer import segments
from MedalSLib.slicer.answers import Cut
from MedalSLib.slicer.editing import SegmentEditing, surfaceLater
from MedalSLib.slicer.oriented_image import Patch, emptyPatch, patchOf, reach, resampled, sameVoxels, union
from MedalSLib.slicer.request import Overlap, Written
from MedalSLib.slicer.roi import Region
from MedalSLib.slicer.segment_terminology import describe
from MedalSLib.slicer.targets import (
    STRUCTURE_TAG,
    addSegment,
    adopt,
    findTarget,
    instanceOf,
    isLocked,
    structureOf,
)
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.geometry import Box


@dataclass(frozen=True, eq=False)
class Before:
    """A segment as it was before the run.

    Attributes:
        patch: Its voxels; None if the run added the segment.
        adopted: Whether the run marked a segment of the user's as the place of its results.
    """

    patch: Patch | None
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
        region: The run's region: nothing outside it changes.  None for everywhere.
        given: Segment by published name, for structures whose segment the user chose (his prompt is refined in place).
        excludeIDs: Segments that no result may enter ("not this segment"); they are not changed.
        modality: Modality of the run, for codes and colours of new segments.
        keepAbsent: Whether a structure that was not found leaves an earlier segment as it is; a refinement clears it
            within its region instead.
        ui: Divides the work, so that the interface answers while a large structure is written.

    Raises:
        InputError: A non-linear transform lies between volume and segmentation.
    """

    def __init__(
        self,
        segmentationNode: Any,
        volumeNode: Any,
        editing: SegmentEditing,
        overlap: Overlap = Overlap.ALLOW,
        region: Region | None = None,
        given: Mapping[str, str] | None = None,
        excludeIDs: Sequence[str] = (),
        modality: str = "CT",
        keepAbsent: bool = True,
        ui: UiYield | None = None,
    ) -> None:
        self._node = segmentationNode
        self._volume = volumeNode
        self._editing = editing
        self._overlap = overlap
        self._given = dict(given or {})
        self._excluded = frozenset(excludeIDs)
        self._modality = modality
        self._keepAbsent = keepAbsent
        self._ui = ui or UiYield()
        self._volumeMatrix = segments.volumeMatrixIn(segmentationNode, volumeNode)
        stored = segments.segmentationMatrix(segmentationNode)
        self._matrix = self._volumeMatrix if stored is None else stored
        self._region = None if region is None else self._regionPatch(region)
        self._written: dict[tuple[str, int], str] = {}
        self._expected: frozenset[str] = frozenset()
        self._before: dict[str, Before] = {}
        self._saved = False

    @property
    def node(self) -> Any:
        """The segmentation."""
        return self._node

    @property
    def before(self) -> Mapping[str, Before]:
        """How the segments that the run changed were before it, by segment ID."""
        return self._before

    @property
    def written(self) -> Mapping[str, str]:
        """Segment IDs by the published names written so far (whole structures, not instances)."""
        return {structure: segmentID for (structure, instance), segmentID in self._written.items() if not instance}

    def expect(self, structures: Iterable[str]) -> None:
        """Say which structures are still to be written: what an earlier run left of them is no obstacle to this one."""
        self._expected = frozenset(self.target(structure) for structure in structures) - {""}

    def write(self, structure: str, mask: np.ndarray | Cut, instance: int = 0) -> Written:
        """Make a structure's segment equal to a mask, within the region, the editor's masks and the locks.

        An empty mask adds no segment, and leaves an earlier one as it is unless `keepAbsent` is off.

        Args:
            structure: Published name.
            mask: Boolean (K, J, I) on the volume's grid, or cut out of it.
            instance: Number of the instance, 0 for the whole structure.
        """
        cut = mask if isinstance(mask, Cut) else Cut.of(mask)
        if cut.isEmpty and (self._keepAbsent or not self.target(structure, instance)):
            return Written(structure, reason="absent")
        patch = emptyPatch(self._matrix) if cut.isEmpty else self._onLattice(cut.patch(self._volumeMatrix))
        segmentID = self.target(structure, instance)
        if segmentID and (isLocked(self._segment(segmentID)) or segmentID in self._excluded):
            return Written(structure, segmentID, reason="locked")
        if not segmentID:
            self._saveOnce()
            segmentID = addSegment(self._node, structure, instance)
            self._before[segmentID] = Before(None)
            describe(self._segment(segmentID), structure, self._modality)
        elif structureOf(self._segment(segmentID)) != structure:
            self._saveOnce()
            self._before[segmentID] = Before(self._stored(segmentID), adopted=True)
            adopt(self._segment(segmentID), structure)
        self._written[structure, instance] = segmentID
        changed = self._apply(segmentID, patch)
        return Written(structure, segmentID, changed)

    def rollback(self, ui: UiYield | None = None) -> None:
        """Put every segment that the run changed back to what it was; segments the run added are removed.

        Segments that the user edited meanwhile and the run did not touch keep his edits.  Nothing is done to a
        segmentation that has left its scene.

        Args:
            ui: Divides the work.
        """
        self._ui = ui or UiYield()
        segmentation = self._node.GetSegmentation()
        for segmentID, before in self._before.items():
            if self._node.GetScene() is None:
                break
            if not self._exists(segmentID):
                continue
            if before.patch is None:
                segmentation.RemoveSegment(segmentID)
                continue
            self._change(segmentID, self._stored(segmentID), before.patch, bypass=True)
            if before.adopted and self._exists(segmentID):
                segmentation.GetSegment(segmentID).RemoveTag(STRUCTURE_TAG)
            self._ui.processEvents()
        self._before.clear()
        self._written.clear()
        self._saved = False

    def target(self, structure: str, instance: int = 0) -> str:
        """Return the ID of the segment that `write` would change, empty if it would add one."""
        known = self._written.get((structure, instance))
        if known is None and not instance:
            known = self._given.get(structure)
        if known is not None and self._exists(known):
            return known
        return findTarget(self._node, structure, instance)

    def _apply(self, segmentID: str, wanted: Patch) -> bool:
        current = self._stored(segmentID)
        if self._region is not None:
            within = wanted
            wanted = self._ui.offload(lambda: self._withinRegion(within, current), within.mask.size)
        wanted = self._allowed(segmentID, wanted, current)
        overwritten = self._overlap is Overlap.OVERWRITE and self._overwriteOthers(segmentID, wanted)
        return self._change(segmentID, current, wanted) or overwritten

    def _allowed(self, segmentID: str, wanted: Patch, current: Patch) -> Patch:
        """Leave out what other segments do not give away; `wanted`, which is the run's own, is changed in place."""
        for other in self._others(segmentID):
            excluded = other in self._excluded
            if not excluded and not self._isProtected(other):
                continue
            taken = self._within(other, wanted.box)
            if taken.mask.size:
                own = emptyPatch(self._matrix) if excluded else current  # what the segment already had stays its own
                self._ui.offload(partial(_takeAway, wanted, taken, own), taken.mask.size)
        return wanted

    def _isProtected(self, other: str) -> bool:
        if self._overlap is Overlap.OVERWRITE:
            return isLocked(self._segment(other))
        return self._overlap is Overlap.KEEP_OTHERS

    def _change(self, segmentID: str, current: Patch, wanted: Patch, bypass: bool = False) -> bool:
        """Make a segment what is wanted; False if it is so already."""
        if self._ui.offload(lambda: sameVoxels(current, wanted), current.mask.size + wanted.mask.size):
            return False
        self._remember(segmentID, current)
        self._editing.replaceVoxels(self._node, segmentID, current, wanted, bypass, self._ui)
        return True

    def _overwriteOthers(self, segmentID: str, wanted: Patch) -> bool:
        changed = False
        for other in self._others(segmentID):
            if isLocked(self._segment(other)) or other in self._excluded:
                continue
            taken = self._within(other, wanted.box)
            lost = self._ui.offload(partial(_common, taken, wanted), taken.mask.size)
            if lost.mask.size and self._exists(other):
                before = self._stored(other)
                if self._exists(other):
                    self._remember(other, before)
                    with surfaceLater(self._node, other):
                        self._editing.remove(self._node, other, lost)
                    changed = True
        return changed

    def _others(self, segmentID: str) -> Iterator[str]:
        """Segments that are not part of this run: structures of one run may overlap, as their masks do."""
        mine = {segmentID, *self._written.values(), *self._expected}
        for other in segments.segmentIDs(self._node):
            if other not in mine and self._exists(other):  # the user may delete some while we are at it
                yield other

    def _exists(self, segmentID: str) -> bool:
        return self._node.GetSegmentation().GetSegment(segmentID) is not None

    def _withinRegion(self, wanted: Patch, current: Patch) -> Patch:
        """Take the result inside the region and what is there outside it."""
        assert self._region is not None
        box = union(wanted.box, current.box)
        inside = self._region.on(box)
        return patchOf((wanted.on(box) & inside) | (current.on(box) & ~inside), box, self._matrix)

    def _regionPatch(self, region: Region) -> Patch:
        (i0, i1), (j0, j1), (k0, k1) = region.box
        inside = np.ones((k1 - k0, j1 - j0, i1 - i0), bool) if region.inside is None else region.inside
        return self._onLattice(Patch(inside, (i0, j0, k0), self._volumeMatrix))

    def _stored(self, segmentID: str) -> Patch:
        return self._onLattice(segments.storedPatch(self._node, segmentID, self._volume))

    def _onLattice(self, patch: Patch) -> Patch:
        """Bring voxels of the segmentation's coordinates to its lattice, cropped."""
        if not patch.mask.size:
            return emptyPatch(self._matrix)
        box = reach(patch, self._matrix)
        return self._ui.offload(lambda: resampled(patch, self._matrix, box).cropped(), patch.mask.size)

    def _within(self, segmentID: str, box: Box) -> Patch:
        return segments.storedWithin(self._node, segmentID, self._matrix, box, self._volume, self._ui)

    def _remember(self, segmentID: str, patch: Patch) -> None:
        """Keep what a segment is before its first change."""
        self._saveOnce()
        if segmentID not in self._before:
            self._before[segmentID] = Before(patch)

    def _segment(self, segmentID: str) -> Any:
        return segments.segmentOf(self._node, segmentID)

    def _saveOnce(self) -> None:
        if not self._saved:
            self._editing.edit(self._node, self._volume)
            self._editing.saveState()
            self._saved = True


def _takeAway(wanted: Patch, taken: Patch, own: Patch) -> None:
    """Clear in `wanted` what is `taken`, except what the segment had before.

    Args:
        wanted: Changed in place.
        taken: A patch within it.
        own: What the segment had.
    """
    wanted.mask[wanted.slices(taken.box)] &= ~taken.mask | own.on(taken.box)


def _common(taken: Patch, wanted: Patch) -> Patch:
    """Return the voxels that both have, cropped; `taken` lies within `wanted`."""
    return Patch(taken.mask & wanted.mask[wanted.slices(taken.box)], taken.start, taken.matrix).cropped()


def removeStaleInstances(segmentationNode: Any, structure: str, count: int) -> tuple[str, ...]:
    """Remove segments of ours for instances that a new run no longer finds; return their IDs.

    Locked ones stay.  Call after `SegmentWriter.write`, so that the saved undo state holds them.
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
