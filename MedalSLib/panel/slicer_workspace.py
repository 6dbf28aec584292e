"""The workspace of the real application: the scene's nodes behind the presenters' plain facts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

import slicer

from MedalSLib.engine.interface import Engine, Estimate, Progress
from MedalSLib.errors import InputError, MedalSError
from MedalSLib.panel.comparison import Comparison
from MedalSLib.panel.defaults import belongsTo, likelySegmentation, likelyVolume
from MedalSLib.panel.workspace import OnProgress, OnWritten, VolumeFacts, Wishes
from MedalSLib.service.describing import UploadDescription
from MedalSLib.slicer import segments, volumes
from MedalSLib.slicer.frames import FrameResults, runFrames
from MedalSLib.slicer.matching import SegmentMatch, matchSegments
from MedalSLib.slicer.measuring import SegmentVolumes
from MedalSLib.slicer.parameters import Parameters
from MedalSLib.slicer.request import RunOutcome, RunRequest
from MedalSLib.slicer.sequences import frameOf, sequenceOf
from MedalSLib.slicer.targets import setLocked
from MedalSLib.slicer.writer import Overlap, SegmentWriter
from MedalSLib.volume import guess_modality


class SceneState:
    """The typed parameters, with enumerations as texts, as the presenters take them.

    Args:
        parameters: The state in the scene.
    """

    def __init__(self, parameters: Parameters) -> None:
        object.__setattr__(self, "_parameters", parameters)

    def __getattr__(self, name: str) -> Any:
        value = getattr(object.__getattribute__(self, "_parameters"), name)
        return value.value if isinstance(value, Enum) else value

    def __setattr__(self, name: str, value: Any) -> None:
        parameters = object.__getattribute__(self, "_parameters")
        setattr(parameters, name, Overlap(value) if name == "overlap" else value)


class SlicerWorkspace:
    """See `workspace.Workspace`.

    Args:
        logic: The module's logic: `parameters`, and `runner`, which may be another one after the scene was closed.
        saveState: Saves a state in the history that the user's undo button works on.
    """

    def __init__(self, logic: Any, saveState: Callable[[], object] = lambda: None) -> None:
        self._logic = logic
        self._saveState = saveState
        self._guess: tuple[tuple[Any, ...], VolumeFacts] | None = None
        self._review: SegmentWriter | None = None
        self._reviewed: tuple[Any, int] = (None, 0)
        self._frames: FrameResults | None = None
        self._ranOn: Any = None
        self._comparison: Comparison | None = None
        self._volumes = SegmentVolumes()
        self.state: Any = SceneState(logic.parameters)

    def chooseDefaults(self) -> None:
        """Choose volume and segmentation where none is chosen, or where the choice does not fit the volume."""
        state, scene = self.state, slicer.mrmlScene
        if state.volume is None:
            state.volume = likelyVolume(scene)
        chosen = state.segmentation
        if chosen is None or not belongsTo(chosen, state.volume):
            state.segmentation = likelySegmentation(scene, state.volume)

    def volume(self) -> VolumeFacts | None:
        """Return the chosen volume's facts; the guess of its modality is made once for each image."""
        node = self.state.volume
        if node is None:
            return None
        problem = " ".join(part for part in volumes.whyUnusable(node) if part)
        if problem:
            return VolumeFacts(node.GetName(), problem)
        key = volumes.signatureOf(node)
        if self._guess is None or self._guess[0] != key:
            self._guess = (key, self._facts(node))
        return self._guess[1]

    def segments(self, modality: str) -> Sequence[SegmentMatch]:
        """Return the segments of the chosen segmentation."""
        node = self.state.segmentation
        return [] if node is None else matchSegments(node, modality)

    def lock(self, segmentID: str, locked: bool) -> None:
        """Lock or unlock a segment."""
        setLocked(self.state.segmentation, segmentID, locked)

    def describeUpload(self, engine: Engine, wishes: Wishes) -> UploadDescription:
        """Say what a run would send."""
        array = slicer.util.arrayFromVolume(self._volumeNode())
        describe = engine.describe_upload  # type: ignore[attr-defined]  # remote engines have it
        found: UploadDescription = describe(array, wishes.prompts, sorted(set(wishes.spatialPrompts.values())))
        return found

    def estimate(self, engine: Engine, wishes: Wishes, send: bool) -> Estimate | None:
        """Say what a run will cost."""
        found: Estimate | None = self._logic.runner.estimate(engine, self._request(wishes), send)
        return found

    def run(
        self, engine: Engine, wishes: Wishes, onProgress: OnProgress, onWritten: OnWritten, cancel: threading.Event
    ) -> Sequence[RunOutcome]:
        """Segment the volume, or every frame of its time series."""
        request = self._request(wishes)
        self._endReview()
        runner = self._logic.runner
        self._reviewed, self._ranOn = (None, 0), request.volumeNode
        series = sequenceOf(request.volumeNode) if wishes.allFrames else None
        if series is not None:

            def progressed(_frame: int, event: Progress) -> None:
                onProgress(event)

            results = FrameResults(series)
            try:
                return runFrames(runner, engine, request, series, progressed, onWritten, cancel, results)
            finally:  # frames that were finished before a fault keep their results
                if results.frames:
                    self.state.segmentation, self._frames = results.node, results
        outcome = runner.run(engine, request, onProgress, onWritten, cancel)
        self._finished(outcome)
        return (outcome,)

    def refine(
        self, engine: Engine, wishes: Wishes, onProgress: OnProgress, onWritten: OnWritten, cancel: threading.Event
    ) -> Sequence[RunOutcome]:
        """Refine around the user's strokes."""
        request = self._request(wishes)
        self._endReview()
        outcome = self._logic.runner.refine(engine, request, onProgress, onWritten, cancel)
        self._finished(outcome)
        return (outcome,)

    def volumes(self) -> Mapping[str, float] | None:
        """Return the volumes of the segments of the last result's segmentation, None if another frame is shown."""
        return self._volumes.of(self._reviewed[0]) if self._showsResult else None

    @property
    def resultElsewhere(self) -> bool:
        """Whether the last run was on another volume, or left its result in another segmentation, than the chosen."""
        node = self._frames.node if self._frames is not None else self._reviewed[0]
        otherNode = node is not None and node is not self.state.segmentation
        return otherNode or (self._ranOn is not None and self._ranOn is not self.state.volume)

    @property
    def _showsResult(self) -> bool:
        node, frame = self._reviewed
        return bool(node is not None and node.GetScene() is not None and frameOf(node) == frame)

    @property
    def canRevert(self) -> bool:
        """Whether there is a result to review on the frame that is shown, or on all frames."""
        if self._frames is not None:
            return bool(self._frames.frames) and self._frames.node.GetScene() is not None
        return self._review is not None and self._showsResult

    def revert(self, onProgress: OnProgress = lambda _event: None, cancel: threading.Event | None = None) -> None:
        """Put the segments back, of all frames after a run on all frames.

        The state before is saved, so that the editor's undo takes the revert back on the frame that is shown.
        """
        if not self.canRevert:
            raise InputError("There is no result to take back.", "Run first.")
        self.compare(False)
        self._saveState()
        if self._frames is not None:
            self._frames.rollback(self._logic.runner, onProgress, cancel)
        elif self._review is not None:
            self._logic.runner.rollback([self._review])
        self._endReview()

    def accept(self) -> None:
        """Keep the result."""
        self._endReview()

    def compare(self, before: bool) -> None:
        """Show the segments as they were before the run, or as they are."""
        if self._comparison is not None:
            self._comparison.close()
            self._comparison = None
        if not before or not self.canRevert:
            return
        if self._frames is not None:
            node = self._frames.node
            self._comparison = Comparison(node, self._frames.before(frameOf(node)))
        elif self._review is not None:
            self._comparison = Comparison(self._reviewed[0], self._review.before)

    def show(self, segmentID: str) -> None:
        """Centre the slice views on a segment."""
        node = self.state.segmentation
        if node is None or node.GetSegmentation().GetSegment(segmentID) is None:
            return
        if not segments.storedPatch(node, segmentID).isEmpty:
            slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *node.GetSegmentCenterRAS(segmentID))

    def forget(self) -> None:
        """Close the image in the engine; results can still be corrected, compared and taken back."""
        self._logic.runner.closeSession()

    def sceneClosed(self) -> None:
        """Forget everything about the scene that was closed."""
        self._comparison, self._review, self._frames, self._guess = None, None, None, None
        self._reviewed, self._ranOn = (None, 0), None
        try:
            self._logic.runner.forget()
        except MedalSError:
            return  # the session's server is gone; the next run opens another one

    def _facts(self, node: Any) -> VolumeFacts:
        guess = guess_modality(slicer.util.arrayFromVolume(node), _dicomModality(node))
        i, j, k = node.GetImageData().GetDimensions()
        x, y, z = node.GetSpacing()
        series = sequenceOf(node)
        frames = series.count if series is not None else 1
        return VolumeFacts(
            node.GetName(), "", (i, j, k), (x, y, z), guess.modality, guess.reason, guess.certain, frames
        )

    def _volumeNode(self) -> Any:
        node = self.state.volume
        if node is None:
            raise InputError(*volumes.whyUnusable(None))
        return node

    def _request(self, wishes: Wishes) -> RunRequest:
        return RunRequest(
            volumeNode=self._volumeNode(),
            segmentationNode=self.state.segmentation,
            prompts=wishes.prompts,
            modality=wishes.modality,
            spatialPrompts=dict(wishes.spatialPrompts),
            excludedIDs=wishes.excluded,
            roiNode=self.state.region,
            options=wishes.options,
            overlap=Overlap(wishes.overlap),
        )

    def _finished(self, outcome: RunOutcome) -> None:
        self._chooseResult(outcome)
        self._review = self._logic.runner.last if outcome.segmentationNode is not None else None
        if self._review is not None:
            self._reviewed = (outcome.segmentationNode, frameOf(outcome.segmentationNode))

    def _chooseResult(self, outcome: RunOutcome) -> None:
        if outcome.segmentationNode is not None:
            self.state.segmentation = outcome.segmentationNode

    def _endReview(self) -> None:
        self.compare(False)
        self._review = self._frames = None


def _dicomModality(node: Any) -> str:
    """Return the DICOM modality of the series that a volume was loaded from, empty if it is not known."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if hierarchy is None:
        return ""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMSeriesModalityAttributeName()
    item = hierarchy.GetItemByDataNode(node)
    return str(hierarchy.GetItemAttribute(item, name) or "") if item else ""
