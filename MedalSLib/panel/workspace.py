"""The application behind the presenters: the chosen nodes, runs on them, and the review of the last result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import slicer

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import InputError, MedalSError
from MedalSLib.panel.comparison import Comparison
from MedalSLib.panel.defaults import belongsTo, likelySegmentation, likelyVolume, shownVolume
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.volume_facts import VolumeFacts
from MedalSLib.run import Estimate, Progress, ProgressCallback
from MedalSLib.service.describing import UploadDescription
from MedalSLib.slicer import segments, transforms, volumes
from MedalSLib.slicer.frames import FrameResults, runFrames
from MedalSLib.slicer.matching import SegmentMatch, matchSegments
from MedalSLib.slicer.parameters import Parameters
from MedalSLib.slicer.pointing import voxelUnderMouse
from MedalSLib.slicer.request import NodeRequest, RunOutcome, WrittenCallback
from MedalSLib.slicer.segment_volumes import SegmentVolumes
from MedalSLib.slicer.segmentations import addSegmentation
from MedalSLib.slicer.sequences import frameOf, sequenceOf
from MedalSLib.slicer.slices import shownSlice, showSlice
from MedalSLib.slicer.strokes import Strokes
from MedalSLib.slicer.targets import findTarget, isLocked, setLocked
from MedalSLib.volume import guess_modality
from MedalSLib.volume.ball import CLICK_MM, ball
from MedalSLib.volume.mask import BoxMask


class Workspace:
    """What the presenters see of 3D Slicer.

    Args:
        logic: The module's logic: `parameters`, and `runner`, which may be another one after the scene was closed.
        saveState: Saves a state in the history that the user's undo button works on.

    Attributes:
        state: What the scene keeps.
    """

    def __init__(self, logic: Any, saveState: Callable[[], object] = lambda: None) -> None:
        self._logic = logic
        self._saveState = saveState
        self._guess: tuple[tuple[Any, ...], VolumeFacts] | None = None
        self._review: FrameResults | None = None
        # Segmentation and frame of the last result; they stay known when its review ends, for the table's volumes.
        self._reviewed: tuple[Any, int] = (None, 0)
        self._ranOn: Any = None
        self._ranAt = 0
        self._former: tuple[FrameResults | None, tuple[Any, int], Any] | None = None
        self._comparison: Comparison | None = None
        self._volumes = SegmentVolumes()
        self.state: Parameters = logic.parameters

    def chooseDefaults(self) -> None:
        """Choose volume and segmentation where none is chosen, or where the choice does not fit the volume."""
        state, scene = self.state, slicer.mrmlScene
        if state.volume is None:
            state.volume = likelyVolume(scene)
        chosen = state.segmentation
        if chosen is None or not belongsTo(chosen, state.volume):
            state.segmentation = likelySegmentation(scene, state.volume)

    def shownInstead(self) -> Any:
        """Return the volume in the slice views if another one is chosen here, else None."""
        shown = shownVolume(slicer.mrmlScene)
        return None if shown is self.state.volume else shown

    def volume(self) -> VolumeFacts | None:
        """Return the chosen volume, None if none is chosen; its modality is guessed once for each image."""
        node = self.state.volume
        if node is None:
            return None
        problem = " ".join(part for part in volumes.whyUnusable(node) if part)
        if problem:
            return VolumeFacts(node.GetName(), problem)
        key = (*volumes.signatureOf(node), node.GetTransformNodeID())
        if self._guess is None or self._guess[0] != key:
            self._guess = (key, _facts(node))
        return self._guess[1]

    def segments(self, modality: str) -> Sequence[SegmentMatch]:
        """Return the segments of the chosen segmentation, with the structures they stand for."""
        node = self.state.segmentation
        return [] if node is None else matchSegments(node, modality)

    def strokes(self, modality: str) -> Strokes | None:
        """Return what was painted and erased since the last results, None if nothing was.

        Args:
            modality: What the volume is, to understand the names of segments that no run has written.
        """
        if not self._canPaint:
            return None
        self.see()
        strokes: Strokes | None = self._logic.runner.strokes(self.state.segmentation, self.state.volume, modality)
        return strokes

    def held(self) -> tuple[str, ...]:
        """Return the structures whose last result honours corrections."""
        node = self.state.segmentation
        held: tuple[str, ...] = () if node is None else self._logic.runner.baseline(node).held(node)
        return held

    def see(self) -> None:
        """Take note of segments before they are painted: of new ones, and of the one that is chosen in the editor."""
        if not self._canPaint:
            return
        node, runner = self.state.segmentation, self._logic.runner
        runner.baseline(node).seeNew(node, self.state.volume, runner.editing.node.GetSelectedSegmentID())

    def checkSlice(self) -> str:
        """Take note that the slice in view of the segment chosen in the editor is right; return the segment's name.

        Raises:
            InputError: No segment is chosen, or no slice of the volume is in view.
        """
        segmentID = self._selected()
        node, volume = self.state.segmentation, self.state.volume
        place = shownSlice(slicer.mrmlScene, volume)
        self._logic.runner.baseline(node).check(node, volume, segmentID, place)
        name: str = segments.segmentOf(node, segmentID).GetName()
        return name

    def checked(self, segmentID: str) -> frozenset[tuple[int, int]]:
        """Return axis (K, J, I) and index of each slice of a segment that the user found right."""
        node = self.state.segmentation
        none: frozenset[tuple[int, int]] = frozenset()
        return none if node is None else self._logic.runner.baseline(node).checked(segmentID)

    def showSlice(self, segmentID: str, place: tuple[int, int]) -> None:
        """Bring a slice of a segment into view: axis (K, J, I) and index."""
        node = self.state.segmentation
        if node is not None and segments.hasVoxels(node, segmentID):
            showSlice(slicer.mrmlScene, self.state.volume, place, node.GetSegmentCenterRAS(segmentID))

    def _selected(self) -> str:
        """Return the segment that is chosen in the editor.

        Raises:
            InputError: None is.
        """
        segmentID: str = self._logic.runner.editing.node.GetSelectedSegmentID() or ""
        node = self.state.segmentation
        if not self._canPaint or node.GetSegmentation().GetSegment(segmentID) is None:
            raise InputError("No segment is chosen.", "Click its row in the list of structures.")
        return segmentID

    def click(self, erase: bool) -> str:
        """Paint or erase a small ball at the mouse in the segment chosen in the editor; return the segment's name.

        Raises:
            InputError: No segment is chosen, it is locked, or the mouse is over no slice of the volume.
        """
        segmentID = self._paintable()
        volume, grid = self.state.volume, volumes.gridOf(self.state.volume)
        voxel = voxelUnderMouse(slicer.mrmlScene, volume)
        self.paint(ball(voxel, CLICK_MM, grid.spacing_ijk[::-1], grid.shape_kji), erase)
        name: str = segments.segmentOf(self.state.segmentation, segmentID).GetName()
        return name

    def paint(self, mask: BoxMask, erase: bool, begins: bool = True) -> None:
        """Paint or erase voxels in the segment chosen in the editor.

        Args:
            mask: The voxels, on the volume's grid.
            erase: Whether they are taken out.
            begins: Whether a stroke begins, which undo takes back as a whole.

        Raises:
            InputError: No segment is chosen, it is locked, or a transform bends it.
        """
        segmentID = self._paintable()
        node, volume, editing = self.state.segmentation, self.state.volume, self._logic.runner.editing
        lattice = segments.volumeMatrixIn(node, volume)
        if begins:
            self.see()
            editing.edit(node, volume)
            editing.saveState()
        editing.paint(node, segmentID, mask, lattice, erase)

    def _paintable(self) -> str:
        segmentID = self._selected()
        segment = segments.segmentOf(self.state.segmentation, segmentID)
        if isLocked(segment):
            raise InputError(f"{segment.GetName()} is locked.", "Unlock it by its role in the list.")
        return segmentID

    def addByHand(self, name: str) -> str:
        """Add an empty segment that the user will paint, and return its ID; the one of this name if there is one."""
        if self.state.segmentation is None:
            self.state.segmentation = addSegmentation(self.state.volume)
        node = self.state.segmentation
        found = findTarget(node, name)
        segmentID: str = found or node.GetSegmentation().AddEmptySegment("", name)
        self.see()
        return segmentID

    def takeAsPaint(self, segmentID: str) -> None:
        """Let all of a segment count as painted by the user, to be carried on by the next run."""
        node = self.state.segmentation
        self._logic.runner.baseline(node).see(node, self.state.volume, segmentID, asPaint=True)

    @property
    def _canPaint(self) -> bool:
        node, volume = self.state.segmentation, self.state.volume
        return node is not None and volume is not None and volume.GetImageData() is not None

    def lock(self, segmentID: str, locked: bool) -> None:
        """Lock or unlock a segment."""
        setLocked(self.state.segmentation, segmentID, locked)

    def makeVisible(self, segmentIDs: Iterable[str], visible: bool) -> None:
        """Show segments in the views, or hide them."""
        display = self.state.segmentation.GetDisplayNode()
        for segmentID in segmentIDs if display is not None else ():
            display.SetSegmentVisibility(segmentID, visible)

    def describeUpload(self, engine: Engine, request: NodeRequest) -> UploadDescription:
        """Say what a run on a server would send; sends nothing."""
        array = volumes.readVolume(request.volumeNode, copy=False).array
        describe = engine.describe_upload  # type: ignore[attr-defined]  # remote engines have it
        found: UploadDescription = describe(array, request.prompts, sorted(set(request.spatialPrompts.values())))
        return found

    def estimate(self, engine: Engine, request: NodeRequest, send: bool) -> Estimate | None:
        """Say what a run will cost.

        Args:
            engine: The engine.
            request: The run.
            send: Whether the image may be sent for that; None is returned where it would have to be and may not.
        """
        found: Estimate | None = self._logic.runner.estimate(engine, request, send)
        return found

    def run(
        self,
        engine: Engine,
        request: NodeRequest,
        onProgress: ProgressCallback,
        onWritten: WrittenCallback,
        cancel: threading.Event,
    ) -> Sequence[RunOutcome]:
        """Segment the volume, or every frame of its time series, or refine; one outcome for each frame.

        Args:
            engine: The engine.
            request: The run.
            onProgress: Called on the main thread.
            onWritten: Called after each structure.
            cancel: Set it to stop.
        """
        runner = self._logic.runner

        def progressed(_frame: int, event: Progress) -> None:
            onProgress(event)

        with self._lastReviewKept():
            self._ranOn = request.volumeNode
            if not request.refine:
                self._reviewed = (None, 0)
            series = sequenceOf(request.volumeNode) if request.allFrames and not request.refine else None
            if series is None:
                return (self._finished(runner.run(engine, request, onProgress, onWritten, cancel)),)
            results = FrameResults(series)
            try:
                return runFrames(runner, engine, request, series, progressed, onWritten, cancel, results)
            finally:  # frames that were finished before an error keep their results
                if results.frames:
                    self.state.segmentation, self._review = results.node, results

    @contextmanager
    def _lastReviewKept(self) -> Iterator[None]:
        """End the review of the last result, and take it up again if nothing of the run in this block is left."""
        self._former = self._review, self._reviewed, self._ranOn
        self._endReview()
        try:
            yield
        except BaseException:
            if self._review is None and self._former is not None:
                self._review, self._reviewed, self._ranOn = self._former
            raise
        finally:
            self._former = None

    def volumes(self) -> Mapping[str, float]:
        """Return the volume in ml by ID of each segment of the chosen segmentation."""
        node = self.state.segmentation
        return {} if node is None else self._volumes.of(node)

    @property
    def resultElsewhere(self) -> bool:
        """Whether the last run was on another volume, or left its result in another segmentation, than the chosen."""
        node = self._review.node if self._review is not None else self._reviewed[0]
        otherNode = node is not None and node is not self.state.segmentation
        return otherNode or (self._ranOn is not None and self._ranOn is not self.state.volume)

    @property
    def resultPlace(self) -> str:
        """Names of the volume and segmentation of the last result, where they are still there."""
        node = self._review.node if self._review is not None else self._reviewed[0]
        there = [one.GetName() for one in (self._ranOn, node) if one is not None and one.GetScene() is not None]
        return ", ".join(there)

    @property
    def resultFrame(self) -> int | None:
        """The frame of the last result, counted from 1, if another one is shown; else None."""
        node, volume = self._reviewed[0], self._ranOn
        if node is None or volume is None or volume.GetScene() is None or frameOf(volume) == self._ranAt:
            return None
        return self._ranAt + 1

    @property
    def showsResult(self) -> bool:
        """Whether the chosen frame is one of those that the last run was on."""
        node, frame = self._reviewed
        if self._review is not None and self._review.series is not None:
            return self._review.node is not None and self._review.node.GetScene() is not None
        return bool(node is not None and node.GetScene() is not None and frameOf(node) == frame)

    @property
    def canRevert(self) -> bool:
        """Whether a result on the frame that is shown, or on all frames, was neither accepted nor reverted yet."""
        review = self._review
        if review is None or not review.frames:
            return False
        return self.showsResult if review.series is None else review.node.GetScene() is not None

    def namesHere(
        self, engine: Engine, request: NodeRequest, onProgress: ProgressCallback, cancel: threading.Event
    ) -> tuple[str, ...]:
        """Return which structures of a request contain the voxel under the mouse; writes nothing.

        Raises:
            InputError: The mouse is over no slice of the volume.
        """
        voxel = voxelUnderMouse(slicer.mrmlScene, request.volumeNode)
        found: tuple[str, ...] = self._logic.runner.structuresAt(engine, request, voxel, onProgress, cancel)
        return found

    def revert(self, onProgress: ProgressCallback = lambda _event: None, cancel: threading.Event | None = None) -> None:
        """Put the segments back to what they were before the last run, on all frames after a run on all frames.

        The state is saved first, so that the editor's undo takes the revert back on the frame that is shown.

        Raises:
            InputError: There is no result.
            CancelledError: `cancel` was set after some frames of a time series; the rest can be taken back later.
        """
        if self._review is None or not self.canRevert:
            raise InputError("There is no result to take back.", "Run first.")
        self.compare(False)
        self._saveState()
        self._review.rollback(self._logic.runner, onProgress, cancel)
        self._endReview()

    def compare(self, before: bool) -> None:
        """Show the segments as they were before the last run, or as they are."""
        if self._comparison is not None:
            self._comparison.close()
            self._comparison = None
        if before and self._review is not None and self.canRevert:
            node = self._review.node
            self._comparison = Comparison(node, self._review.before(frameOf(node)))

    def show(self, segmentID: str) -> None:
        """Centre the slice views on a segment."""
        node = self.state.segmentation
        if node is None or node.GetSegmentation().GetSegment(segmentID) is None:
            return
        if segments.hasVoxels(node, segmentID):
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *node.GetSegmentCenterRAS(segmentID))

    def forget(self) -> None:
        """Close the image in the engine, which is about to close; results can still be compared and taken back."""
        self._logic.runner.closeSession()

    def sceneClosed(self) -> None:
        """Forget everything about the scene that was closed."""
        self._comparison, self._review, self._guess, self._former = None, None, None, None
        self._reviewed, self._ranOn = (None, 0), None
        try:
            self._logic.runner.forget()
        except MedalSError:
            return  # the session's server is gone; the next run opens another one

    def _finished(self, outcome: RunOutcome) -> RunOutcome:
        node, writer = outcome.segmentationNode, self._logic.runner.last
        if node is not None:
            self.state.segmentation = node
        if node is not None and writer is not None:
            self._reviewed, self._ranAt = (node, frameOf(node)), frameOf(self._ranOn)
            self._review = FrameResults()
            self._review.add(frameOf(node), outcome, writer)
        return outcome

    def _endReview(self) -> None:
        self.compare(False)
        self._review = None


def _facts(node: Any) -> VolumeFacts:
    guess = guess_modality(slicer.util.arrayFromVolume(node), _dicomModality(node))
    i, j, k = node.GetImageData().GetDimensions()
    x, y, z = node.GetSpacing()
    series = sequenceOf(node)
    frames = series.count if series is not None else 1
    remark = ""
    if not transforms.isLinearToWorld(node):
        remark = _("A transform bends this image: it is segmented as it was taken, and the result is bent with it.")
    size, spacing = (i, j, k), (x, y, z)
    return VolumeFacts(node.GetName(), "", size, spacing, guess.modality, guess.reason, guess.certain, frames, remark)


def _dicomModality(node: Any) -> str:
    """Return the DICOM modality of the series that a volume was loaded from, empty if it is not known."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if hierarchy is None:
        return ""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    item = hierarchy.GetItemByDataNode(node)
    return str(hierarchy.GetItemAttribute(item, name) or "") if item else ""
