"""Writes a run's structures into the segmentation as they come; takes them all back if the run fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from MedalSLib.errors import CancelledError
from MedalSLib.run import RunResult
from MedalSLib.slicer import volumes
from MedalSLib.slicer.disjoint import instanceMasks
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.request import NodeRequest, RunOutcome, Written, WrittenCallback
from MedalSLib.slicer.run_guard import RunGuard
from MedalSLib.slicer.run_inputs import RunInputs
from MedalSLib.slicer.segment_terminology import structureNamed
from MedalSLib.slicer.segmentations import addSegmentation, placeBesideVolume, prepareSegmentation
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.writer import SegmentWriter, removeStaleInstances
from MedalSLib.volume.mask import BoxMask


class RunOutput:
    """Where the structures of one run go.

    Args:
        request: The run.
        image: The volume as it was when the run began.
        inputs: What the engine is asked: with the regions outside which nothing changes.
        strokes: The edits of a refinement; None for a run from scratch.
        editing: The segment editor to write through.
        baselineOf: Returns the baseline of a segmentation.
        guard: Watches the nodes of the run.
        onWritten: Called after each structure.
        ui: Keeps the GUI responsive.

    Attributes:
        modality: What the image is taken for: decides codes and colours of new segments.
        writer: The writer, None while nothing was written.
    """

    def __init__(
        self,
        request: NodeRequest,
        image: volumes.VolumeImage,
        inputs: RunInputs,
        strokes: Strokes | None,
        editing: SegmentEditing,
        baselineOf: Callable[[Any], Baseline],
        guard: RunGuard,
        onWritten: WrittenCallback | None,
        ui: UiYield,
    ) -> None:
        self._request = request
        self._image = image
        self._inputs = inputs
        self._strokes = strokes
        self._editing = editing
        self._baselineOf = baselineOf
        self._guard = guard
        self._onWritten = onWritten
        self._ui = ui
        self._node = request.segmentationNode
        self._added = False
        self._expected: tuple[str, ...] = ()
        self.writer: SegmentWriter | None = None
        self.modality = request.modality or "CT"
        if self._node is not None:
            prepareSegmentation(self._node, request.volumeNode)
            guard.watch(self._node, "segmentation")

    def stream(self, name: str, mask: BoxMask) -> None:
        """Show a structure that is final while others are still being computed.

        One whose instances become separate segments is written when all is known; so is one that was not found.
        """
        separate = name in self._request.options.instances or self._isInstance(name)
        if not separate and not mask.is_empty:
            self._write(name, mask)

    def finish(self, result: RunResult) -> RunOutcome:
        """Write what is final now, and remember what was left for finding strokes.

        Raises:
            CancelledError: The run was cancelled, the volume was moved or replaced, or a node of the run was removed.
        """
        self.modality = result.report.modality or self.modality
        self._expected = tuple(name for name, mask in result.box_masks.items() if not mask.is_empty)
        if self.writer is not None:
            self.writer.expect(self._expected)
        written = []
        for name, mask in result.box_masks.items():
            self.checkNodes()
            if name in result.instances:
                labels = result.instances[name]
                masks = self._ui.offload(partial(instanceMasks, labels), labels.crop.size)
                written += self._writeInstances(name, masks)
            else:
                written.append(self._write(name, mask))
            self._ui.processEvents()
        self.checkNodes()  # the user may have removed a node while events were processed
        if self.writer is not None:
            placeBesideVolume(self._node, self._request.volumeNode)
            decided = self._strokes.locked if self._strokes is not None else None
            baseline = self._baselineOf(self._node)
            baseline.record(self._node, self._request.volumeNode, self.writer.written, decided, self._ui)
        cut = self.writer.cut if self.writer is not None else ()
        return RunOutcome(result.report, tuple(written), self._node, self._strokes, cut)

    def rollback(self, ui: UiYield) -> None:
        """Put everything back; a segmentation that the run added is removed."""
        if self._node is None or self._node.GetScene() is None:
            return
        if self.writer is not None:
            self.writer.rollback(ui)
        if self._added and self._node.GetScene() is not None:
            self._node.GetScene().RemoveNode(self._node)

    def checkNodes(self) -> None:
        """See whether the nodes of the run are still there and the volume still in its place.

        Raises:
            CancelledError: A node of the run was removed, or the volume was moved or replaced.
        """
        if self._guard.reason:
            raise CancelledError(self._guard.reason, "Nothing was written.")
        node = self._request.volumeNode
        if node.GetImageData() is None or volumes.gridOf(node) != self._image.grid:
            raise CancelledError(f"{self._image.name} was moved or replaced during the run.", "Run it again.")

    def _write(self, name: str, mask: BoxMask, instance: int = 0) -> Written:
        if self._node is None:
            if mask.is_empty:
                return Written(name, reason="absent")
            self._node = addSegmentation(self._request.volumeNode)
            self._added = True
            self._guard.watch(self._node, "segmentation")
        if self.writer is None:
            self.writer = self._makeWriter()
            self.writer.expect(self._expected)
        target = self.writer.target(name, instance)
        if target and not instance:  # an undo brings back what the user drew before, and is no painting
            baseline, volumeNode = self._baselineOf(self._node), self._request.volumeNode
            baseline.see(self._node, volumeNode, target, ui=self._ui)
            if name not in self.writer.written:
                baseline.look(self._node, volumeNode, target, self._ui)
        written = self.writer.write(name, mask, instance)
        if self._onWritten is not None:
            self._onWritten(written)
        return written

    def _writeInstances(self, name: str, masks: list[BoxMask]) -> list[Written]:
        written = [self._write(name, mask, number) for number, mask in enumerate(masks, 1)]
        if masks and self._node is not None:
            removeStaleInstances(self._node, name, len(masks))
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
            self._inputs.region,
            self._inputs.refined,
            given,
            request.excludedIDs,
            self.modality,
            self._ui,
        )

    def _isInstance(self, name: str) -> bool:
        if "*" not in self._request.options.instances:
            return False
        structure = structureNamed(name, self.modality)
        return structure is not None and structure.kind == "instance"
