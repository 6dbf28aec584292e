"""A run from nodes to nodes: volume, prompts and segments in, segments out, class by class, the interface alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import vtk

from MedalSLib.engine.interface import (
    Engine,
    Estimate,
    Options,
    Progress,
    ProgressCallback,
    SegmentationResult,
    Session,
)
from MedalSLib.errors import CancelledError, InputError, MedalSError, PromptError, ResourceError
from MedalSLib.slicer import segments, volumes
from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.regions import Region, regionOf
from MedalSLib.slicer.request import RunOutcome, RunRequest
from MedalSLib.slicer.results import ResultSink
from MedalSLib.slicer.sequences import frameOf
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.watch import SceneWatch
from MedalSLib.slicer.writer import SegmentWriter, Written
from MedalSLib.volume.geometry import Box

REFINE_MARGIN_MM = 20.0
"""How far around the strokes a refinement may change the result."""

WrittenCallback = Callable[[Written], None]


@dataclass(frozen=True, eq=False)
class _Inputs:
    """A request in arrays: all that the worker thread sees."""

    image: volumes.VolumeImage
    prompts: tuple[str, ...]
    modality: str | None
    masks: dict[str, np.ndarray]
    locked: dict[str, np.ndarray]
    region: Region | None
    options: Options


@dataclass(frozen=True)
class _Opened:
    """The image is open in the engine, which reads it as of this modality."""

    modality: str


class Runner:
    """Runs requests one at a time, and remembers what they left, so that strokes can be found.

    Nothing of the user's is lost: after a cancelled or failed run, every segment is as it was.

    Args:
        editing: The segment editor to write through.
        pump: Lets the application process its events (`slicer.app.processEvents`).
        poll: Seconds between two rounds of events.
    """

    def __init__(self, editing: SegmentEditing, pump: Pump, poll: float = POLL_SECONDS) -> None:
        self._editing = editing
        self._pump = pump
        self._poll = poll
        self._worker = Worker()
        self._session: Session | None = None
        self._sessionKey: tuple[Any, ...] = ()
        self._sessionEngine: Engine | None = None
        self._closeLater = False
        self._stop: threading.Event | None = None
        self._baselines: dict[tuple[str, int], tuple[Any, Baseline]] = {}
        self._last: SegmentWriter | None = None
        self._busy = False

    @property
    def isRunning(self) -> bool:
        """Whether a run is going on."""
        return self._busy

    @property
    def last(self) -> SegmentWriter | None:
        """The writer of the last finished run, for before/after and `rollback`; None if there is none."""
        return self._last

    def strokes(self, segmentationNode: Any, volumeNode: Any) -> Strokes | None:
        """Return the user's edits since the last result in a segmentation, None if there are none."""
        return self._baselineOf(segmentationNode).strokes(segmentationNode, volumeNode)

    def run(
        self,
        engine: Engine,
        request: RunRequest,
        onProgress: ProgressCallback | None = None,
        onWritten: WrittenCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunOutcome:
        """Segment, and write each structure as soon as it is final.

        Args:
            engine: The engine.
            request: What to do.
            onProgress: Called on the main thread.
            onWritten: Called on the main thread after each structure was written.
            cancel: Set it to stop.

        Raises:
            InputError: The volume, a segment or the region cannot be used.
            PromptError: There is no prompt, or it names nothing known.
            CancelledError: `cancel` was set, the scene closed, or a node of the run was removed.
            ResourceError: Another run is going on, or memory ran out.
        """
        inputs = self._inputs(request)
        if not inputs.prompts and not inputs.masks:
            raise PromptError("There is nothing to segment.", "Type the name of a structure, or choose a segment.")
        return self._run(engine, request, inputs, None, onProgress, onWritten, cancel)

    def refine(
        self,
        engine: Engine,
        request: RunRequest,
        onProgress: ProgressCallback | None = None,
        onWritten: WrittenCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunOutcome:
        """Refine the last result around the user's strokes, which stay as he made them; see `run`.

        Raises:
            InputError: There are no strokes since the last result.
        """
        node = request.segmentationNode
        strokes = self.strokes(node, request.volumeNode) if node is not None else None
        if strokes is None:
            raise InputError(
                "Nothing was painted or erased since the last result.",
                "Correct a segment of the last run with the Segment Editor's tools, then refine.",
            )
        image = volumes.readVolume(request.volumeNode)
        margin = [int(np.ceil(REFINE_MARGIN_MM / step)) for step in image.grid.spacing_ijk]
        (i, di), (j, dj), (k, dk) = zip(strokes.box, margin, strict=True)
        box: Box = image.grid.clip_box(((i[0] - di, i[1] + di), (j[0] - dj, j[1] + dj), (k[0] - dk, k[1] + dk)))
        options = replace(request.options, mode="refine")
        inputs = _Inputs(image, (), request.modality, strokes.masks, strokes.locked, Region(box), options)
        return self._run(engine, request, inputs, strokes, onProgress, onWritten, cancel)

    def estimate(self, engine: Engine, request: RunRequest) -> Estimate:
        """Say what a run will cost; opens the image in the engine, which the run then finds open."""
        inputs = self._inputs(request)
        with self._exclusive():
            call = self._worker.submit(
                lambda _send: self._open(engine, inputs).estimate(inputs.prompts, inputs.masks, inputs.options)
            )
            return call.drive(self._pump, poll=self._poll)

    def cancel(self) -> None:
        """Ask the run that goes on, if any, to stop."""
        if self._stop is not None:
            self._stop.set()

    def forget(self) -> None:
        """Close the open image and forget all results: the scene was closed or the engine changed.

        While a run goes on, the image is closed at its end: the worker thread still uses it.
        """
        self._baselines.clear()
        self._last = None
        if self._busy:
            self._closeLater = True
        else:
            self._closeSession()

    def close(self) -> None:
        """Free everything; a run that goes on is cancelled."""
        self.cancel()
        self.forget()
        self._worker.close()

    def _run(
        self,
        engine: Engine,
        request: RunRequest,
        inputs: _Inputs,
        strokes: Strokes | None,
        onProgress: ProgressCallback | None,
        onWritten: WrittenCallback | None,
        cancel: threading.Event | None,
    ) -> RunOutcome:
        stop = self._stop = cancel if cancel is not None else threading.Event()
        with self._exclusive(), SceneWatch(request.volumeNode.GetScene(), stop) as watch:
            watch.follow(request.volumeNode, "volume")
            sink = ResultSink(
                request,
                inputs.image,
                inputs.region,
                strokes,
                self._editing,
                self._baselineOf,
                watch,
                onWritten,
                self._pump,
            )

            def work(send: Callable[[Any], None]) -> SegmentationResult:
                session = self._open(engine, inputs)
                send(_Opened(session.modality))
                return session.segment(
                    inputs.prompts,
                    inputs.masks,
                    inputs.locked,
                    None if inputs.region is None else inputs.region.box,
                    options=inputs.options,
                    on_progress=send,
                    on_structure=lambda name, mask: send((name, mask)),
                    cancel=stop,
                )

            def received(event: Any) -> None:
                if isinstance(event, Progress):
                    if onProgress is not None:
                        onProgress(event)
                elif isinstance(event, _Opened):
                    sink.modality = event.modality
                elif not stop.is_set():
                    sink.stream(*event)

            try:
                result = self._worker.submit(work).drive(self._pump, received, stop.set, self._poll)
                if stop.is_set():
                    raise CancelledError
                outcome = sink.finish(result)
            except BaseException as error:
                lost = watch.lost
                sink.rollback()
                self._dropBroken(error)
                if lost:
                    raise CancelledError(lost, "Nothing was written.") from error
                raise
            self._last = sink.writer
            return outcome

    def _inputs(self, request: RunRequest) -> _Inputs:
        image = volumes.readVolume(request.volumeNode)
        source = request.promptsFrom or request.segmentationNode
        masks: dict[str, np.ndarray] = {}
        for segmentID, structure in request.spatialPrompts.items():
            if source is None:
                raise InputError("The segments to use as prompts have no segmentation.", "Choose a segmentation.")
            mask = segments.readSegment(source, segmentID, request.volumeNode)
            if not mask.any():
                name = segments.segmentOf(source, segmentID).GetName()
                raise InputError(
                    f"The segment {name} has no voxel in {image.name}, so it cannot be a prompt.",
                    "Draw it on this volume, or take it off the prompts.",
                )
            masks[structure] = masks[structure] | mask if structure in masks else mask
        region = None if request.roiNode is None else regionOf(request.roiNode, request.volumeNode)
        prompts = tuple(phrase for phrase in request.prompts if phrase.strip())
        return _Inputs(image, prompts, request.modality, masks, {}, region, request.options)

    def _open(self, engine: Engine, inputs: _Inputs) -> Session:
        """Return the session of the image, the open one if it is still the same image; on the worker thread."""
        key = (inputs.image.signature, inputs.modality)
        if self._session is None or self._sessionEngine is not engine or self._sessionKey != key:
            self._closeSession()
            grid = inputs.image.grid
            self._session = engine.open_session(inputs.image.array, np.array(grid.affine_ras), inputs.modality)
            self._sessionKey, self._sessionEngine = key, engine
        return self._session

    def _baselineOf(self, segmentationNode: Any) -> Baseline:
        """Return the baseline of a segmentation (of its frame); one of a former scene with its ID does not count."""
        key = (segmentationNode.GetID(), frameOf(segmentationNode))
        node, baseline = self._baselines.get(key, (None, Baseline()))
        if node is None or node.Get() is not segmentationNode:
            node, baseline = vtk.vtkWeakReference(), Baseline()
            node.Set(segmentationNode)
            self._baselines[key] = (node, baseline)
        return baseline

    def _dropBroken(self, error: BaseException) -> None:
        """Open the image anew after a fault: a session whose server or memory is gone would fail for ever."""
        if not isinstance(error, CancelledError | PromptError | InputError):
            self._closeSession()

    def _closeSession(self) -> None:
        self._closeLater = False
        session, self._session, self._sessionEngine = self._session, None, None
        if session is None:
            return
        try:
            session.close()
        except MedalSError as error:  # its server is gone, and the session with it
            logging.info("The engine's session could not be closed: %s", error)

    def _exclusive(self) -> _Busy:
        return _Busy(self)

    def _release(self) -> None:
        self._busy, self._stop = False, None
        if self._closeLater:
            self._closeSession()


class _Busy:
    """Refuses a second run: the first one's event pump lets the user press the button again."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __enter__(self) -> None:
        if self._runner._busy:
            raise ResourceError("A run is going on.", "Wait for its end, or cancel it.")
        self._runner._busy = True

    def __exit__(self, *_error: object) -> None:
        self._runner._release()
