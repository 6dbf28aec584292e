"""Takes a run's structures as they come and puts them into the segmentation; takes them all back if the run fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from MedalSLib.errors import CancelledError
from MedalSLib.slicer import volumes
from MedalSLib.slicer.answers import Answer, Cut
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.request import NodeRequest, RunOutcome, Written
from MedalSLib.slicer.roi import Region
from MedalSLib.slicer.run_guard import RunGuard
from MedalSLib.slicer.segment_terminology import structureNamed
from MedalSLib.slicer.segmentations import addSegmentation, placeBesideVolume, prepareSegmentation
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.writer import SegmentWriter, removeStaleInstances


class RunOutput:
    """Where the structures of one run go.

    Args:
        request: The run.
        image: The volume as it was when the run began.
        region: The run's region; nothing outside it changes.
        strokes: The edits of a refinement; None for a run from scratch.
        editing: The segment editor to write through.
        baselineOf: Returns the baseline of a segmentation.
        guard: Watches the nodes of the run.
        onWritten: Called after each structure.
        ui: Divides the work.

    Attributes:
        modality: What the image is taken for: decides codes and colours of new segments.
    """

    def __init__(
        self,
        request: NodeRequest,
        image: volumes.VolumeImage,
        region: Region | None,
        strokes: Strokes | None,
        editing: SegmentEditing,
        baselineOf: Callable[[Any], Baseline],
        guard: RunGuard,
        onWritten: Callable[[Written], None] | None,
        ui: UiYield,
    ) -> None:
        self._request = request
        self._image = image
        self._region = region
        self._strokes = strokes
        self._editing = editing
        self._baselineOf = baselineOf
        self._guard = guard
        self._onWritten = onWritten
        self._ui = ui
        self._node = request.segmentationNode
        self._added = False
        self._writer: SegmentWriter | None = None
        self._expected: tuple[str, ...] = ()
        self.modality = request.modality or "CT"
        if self._node is not None:
            prepareSegmentation(self._node, request.volumeNode)
            guard.watch(self._node, "segmentation")

    @property
    def writer(self) -> SegmentWriter | None:
        """The writer, None if nothing was written."""
        return self._writer

    def stream(self, name: str, cut: Cut) -> None:
        """Show a structure that is final while others are still being computed.

        One whose instances become separate segments, or that may yet lose voxels to others of the run, is written when
        all is known; so is one that was not found.
        """
        separate = name in self._request.options.instances or self._isInstance(name)
        if not separate and not cut.isEmpty:
            self._write(name, cut)

    def finish(self, answer: Answer) -> RunOutcome:
        """Write what is final now, and remember what was left for finding strokes.

        Raises:
            CancelledError: The run was cancelled, the volume was moved or replaced, or a node of the run was removed.
        """
        self.modality = answer.report.modality or self.modality
        self._expected = tuple(name for name, cut in answer.masks.items() if not cut.isEmpty)
        if self._writer is not None:
            self._writer.expect(self._expected)
        written = []
        for name, cut in answer.masks.items():
            self.checkNodes()
            if name in answer.instances:
                written += self._writeInstances(name, answer.instances[name])
            else:
                written.append(self._write(name, cut))
            self._ui.processEvents()
        self.checkNodes()
        if self._writer is not None:
            placeBesideVolume(self._node, self._request.volumeNode)
            decided = self._strokes.locked if self._strokes is not None else None
            self._remember(self._writer.written, decided)
        return RunOutcome(answer.report, tuple(written), self._node, self._strokes)

    def rollback(self, ui: UiYield) -> None:
        """Put everything back; a segmentation that the run added is removed."""
        if self._node is None or self._node.GetScene() is None:
            return
        if self._writer is not None:
            self._writer.rollback(ui)
        if self._added and self._node.GetScene() is not None:
            self._node.GetScene().RemoveNode(self._node)

    def checkNodes(self) -> None:
        """See whether what the run stands on is still there.

        Raises:
            CancelledError: A node of the run was removed, or the volume was moved or replaced.
        """
        if self._guard.reason:
            raise CancelledError(self._guard.reason, "Nothing was written.")
        node = self._request.volumeNode
        if node.GetImageData() is None or volumes.gridOf(node) != self._image.grid:
            raise CancelledError(f"{self._image.name} was moved or replaced during the run.", "Run it again.")

    def _write(self, name: str, cut: Cut, instance: int = 0) -> Written:
        if self._node is None:
            if cut.isEmpty:
                return Written(name, reason="absent")
            self._node = addSegmentation(self._request.volumeNode)
            self._added = True
            self._guard.watch(self._node, "segmentation")
        if self._writer is None:
            self._writer = self._makeWriter()
            self._writer.expect(self._expected)
        target = self._writer.target(name, instance)
        if target and not instance and not self._baselineOf(self._node).knows(target):
            self._remember({name: target})
        written = self._writer.write(name, cut, instance)
        if self._onWritten is not None:
            self._onWritten(written)
        return written

    def _remember(self, segmentIDs: Mapping[str, str], decided: Mapping[str, np.ndarray] | None = None) -> None:
        baseline = self._baselineOf(self._node)
        baseline.record(self._node, self._request.volumeNode, segmentIDs, decided, self._ui)

    def _writeInstances(self, name: str, cuts: Sequence[Cut]) -> list[Written]:
        written = [self._write(name, cut, number) for number, cut in enumerate(cuts, 1)]
        if cuts and self._node is not None:
            removeStaleInstances(self._node, name, len(cuts))
        return written or [Written(name, reason="absent")]

    def _makeWriter(self) -> SegmentWriter:
        request = self._request
        given: dict[str, str] = {}
        if self._strokes is not None:
            given = dict(self._strokes.segmentIDs)
        elif request.updatePrompts and request.promptsFrom in (None, request.segmentationNode):
            given = {structure: segmentID for segmentID, structure in request.spatialPrompts.items()}
        return SegmentWriter(
            self._node,
            request.volumeNode,
            self._editing,
            request.overlap,
            self._region,
            given,
            request.excludedIDs,
            self.modality,
            keepAbsent=self._strokes is None,
            ui=self._ui,
        )

    def _isInstance(self, name: str) -> bool:
        if "*" not in self._request.options.instances:
            return False
        structure = structureNamed(name, self.modality)
        return structure is not None and structure.kind == "instance"
