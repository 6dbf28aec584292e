"""A run from nodes to nodes: volume, prompts and segments in, segments out, class by class, the interface alive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
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
    Session,
)
from MedalSLib.errors import CancelledError, InputError, MedalSError, PromptError, ResourceError
from MedalSLib.slicer import segments, volumes
from MedalSLib.slicer.answers import Answer, Cut, answerOf
from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.regions import Region, regionOf
from MedalSLib.slicer.request import RunOutcome, RunRequest
from MedalSLib.slicer.results import ResultSink
from MedalSLib.slicer.sequences import HeldFrame, frameOf
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.turns import Turns
from MedalSLib.slicer.watch import SceneWatch
from MedalSLib.slicer.writer import Overlap, SegmentWriter, Written
from MedalSLib.volume.geometry import Box, Grid

REFINE_MARGIN_MM = 20.0
"""How far around the strokes a refinement may change the result."""

WrittenCallback = Callable[[Written], None]
Prepare = Callable[["Turns"], "tuple[_Inputs, Strokes | None]"]


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
        self._helper = Worker()
        self._session: Session | None = None
        self._sessionKey: tuple[Any, ...] = ()
        self._sessionEngine: Engine | None = None
        self._closeLater = False
        self._closed = False
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

        def prepare(turns: Turns) -> tuple[_Inputs, None]:
            inputs = self._inputs(engine, request, turns)
            if not inputs.prompts and not inputs.masks:
                raise PromptError("There is nothing to segment.", "Type the name of a structure, or choose a segment.")
            return inputs, None

        return self._run(engine, request, prepare, onProgress, onWritten, cancel)

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

        def prepare(turns: Turns) -> tuple[_Inputs, Strokes]:
            node, strokes = request.segmentationNode, None
            if node is not None:
                strokes = self._baselineOf(node).strokes(node, request.volumeNode, turns)
            if strokes is None:
                raise InputError(
                    "Nothing was painted or erased since the last result.",
                    "Correct a segment of the last run with the Segment Editor's tools, then refine.",
                )
            image = self._image(engine, request, turns)
            region = Region(_around(strokes.box, image.grid))
            options = replace(request.options, mode="refine")
            return _Inputs(image, (), request.modality, strokes.masks, strokes.locked, region, options), strokes

        return self._run(engine, request, prepare, onProgress, onWritten, cancel)

    def estimate(self, engine: Engine, request: RunRequest) -> Estimate:
        """Say what a run will cost; opens the image in the engine, which the run then finds open."""
        with self._exclusive():
            inputs = self._inputs(engine, request, self._turns())
            call = self._worker.submit(
                lambda _send: self._open(engine, inputs).estimate(inputs.prompts, inputs.masks, inputs.options)
            )
            return call.drive(self._pump, poll=self._poll)

    def rollback(self, writers: Sequence[SegmentWriter]) -> None:
        """Put back what runs changed, the interface alive meanwhile; the latest of them first.

        Args:
            writers: Of the runs to take back, as `last` gives them.

        Raises:
            ResourceError: A run is going on.
        """
        with self._exclusive():
            for writer in reversed(writers):
                writer.rollback(self._turns(HeldFrame(writer.node).restore))

    def cancel(self) -> None:
        """Ask the run that goes on, if any, to stop."""
        if self._stop is not None:
            self._stop.set()

    def forget(self) -> None:
        """Close the open image and forget all results: the scene was closed.

        While a run goes on, the image is closed at its end: the worker thread still uses it.
        """
        self._baselines.clear()
        self._last = None
        self.closeSession()

    def closeSession(self) -> None:
        """Close the open image: the engine is about to close.  Results stay known, so strokes on them are found.

        While a run goes on, the image is closed at its end: the worker thread still uses it.
        """
        if self._busy:
            self._closeLater = True
        else:
            self._closeImage()

    def close(self) -> None:
        """Free everything; a run that goes on is cancelled."""
        self.cancel()
        self.forget()
        self._worker.close()
        self._closed = True
        if not self._busy:
            self._helper.close()

    def _run(
        self,
        engine: Engine,
        request: RunRequest,
        prepare: Prepare,
        onProgress: ProgressCallback | None,
        onWritten: WrittenCallback | None,
        cancel: threading.Event | None,
    ) -> RunOutcome:
        volumes.readVolume(request.volumeNode, copy=False)
        stop = cancel if cancel is not None else threading.Event()
        with self._exclusive(), SceneWatch(request.volumeNode.GetScene(), stop) as watch:
            self._stop = stop
            watch.follow(request.volumeNode, "volume")
            sink: ResultSink | None = None
            held = HeldFrame(request.segmentationNode)

            def check() -> None:
                if stop.is_set():
                    raise CancelledError
                held.restore()

            try:
                turns = self._turns(check)
                inputs, strokes = prepare(turns)
                sink = ResultSink(
                    request,
                    inputs.image,
                    inputs.region,
                    strokes,
                    self._editing,
                    self._baselineOf,
                    watch,
                    onWritten,
                    turns,
                )
                outcome = self._compute(engine, inputs, request.overlap, sink, onProgress, check)
            except BaseException as error:
                lost = watch.lost
                if sink is not None:
                    held.restore()
                    sink.rollback(self._turns(held.restore))
                self._dropBroken(error)
                if lost:
                    raise CancelledError(lost, "Nothing was written.") from error
                raise
            self._last = sink.writer
            return outcome

    def _compute(
        self,
        engine: Engine,
        inputs: _Inputs,
        overlap: Overlap,
        sink: ResultSink,
        onProgress: ProgressCallback | None,
        check: Callable[[], None],
    ) -> RunOutcome:
        """Let the engine work on the worker thread, and write what comes from it."""
        stop = self._stop
        assert stop is not None

        def work(send: Callable[[Any], None]) -> Answer:
            session = self._open(engine, inputs)
            send(_Opened(session.modality))
            result = session.segment(
                inputs.prompts,
                inputs.masks,
                inputs.locked,
                None if inputs.region is None else inputs.region.box,
                options=inputs.options,
                on_progress=send,
                on_structure=lambda name, mask: send((name, Cut.of(mask))),
                cancel=stop,
            )
            return answerOf(result, overlapping=overlap is Overlap.ALLOW)

        def received(event: Any) -> None:
            if isinstance(event, Progress):
                if onProgress is not None:
                    onProgress(event)
            elif isinstance(event, _Opened):
                sink.modality = event.modality
            else:
                check()
                sink.stream(*event)

        answer = self._worker.submit(work).drive(self._pump, received, stop.set, self._poll)
        check()
        return sink.finish(answer)

    def _turns(self, check: Callable[[], None] = lambda: None) -> Turns:
        return Turns(self._pump, self._helper, check)

    def _inputs(self, engine: Engine, request: RunRequest, turns: Turns) -> _Inputs:
        image = self._image(engine, request, turns)
        source = request.promptsFrom or request.segmentationNode
        masks: dict[str, np.ndarray] = {}
        for segmentID, structure in request.spatialPrompts.items():
            if source is None:
                raise InputError("The segments to use as prompts have no segmentation.", "Choose a segmentation.")
            mask = segments.readSegment(source, segmentID, request.volumeNode, turns)
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

    def _image(self, engine: Engine, request: RunRequest, turns: Turns) -> volumes.VolumeImage:
        """Read the volume; without copying its voxels, which takes long, if they are open in the engine."""
        node = request.volumeNode
        image = volumes.readVolume(node, copy=False)
        if self._isOpen(engine, image, request.modality):
            return image
        array = turns.aside(image.array.copy, image.array.size)
        if volumes.readVolume(node, copy=False).signature != image.signature:
            return volumes.readVolume(node)  # changed while it was copied: in one go then
        return replace(image, array=array)

    def _isOpen(self, engine: Engine, image: volumes.VolumeImage, modality: str | None) -> bool:
        key = (image.signature, modality)
        return self._session is not None and self._sessionEngine is engine and self._sessionKey == key

    def _open(self, engine: Engine, inputs: _Inputs) -> Session:
        """Return the session of the image, the open one if it is still the same image; on the worker thread."""
        image = inputs.image
        if self._session is None or not self._isOpen(engine, image, inputs.modality):
            self._closeImage()
            self._session = engine.open_session(image.array, np.array(image.grid.affine_ras), inputs.modality)
            self._sessionKey, self._sessionEngine = (image.signature, inputs.modality), engine
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
            self._closeImage()

    def _closeImage(self) -> None:
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
            self._closeImage()
        if self._closed:
            self._helper.close()


def _around(box: Box, grid: Grid) -> Box:
    """Return the part of a grid that lies within the refinement's margin of a box."""
    margin = [int(np.ceil(REFINE_MARGIN_MM / step)) for step in grid.spacing_ijk]
    (i, di), (j, dj), (k, dk) = zip(box, margin, strict=True)
    return grid.clip_box(((i[0] - di, i[1] + di), (j[0] - dj, j[1] + dj), (k[0] - dk, k[1] + dk)))


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
