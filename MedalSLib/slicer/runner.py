"""A run from nodes to nodes: volume, prompts and segments in, segments out, class by class, the interface alive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import vtk

from MedalSLib.engine.interface import Engine, Session
from MedalSLib.errors import CancelledError, InputError, PromptError, ResourceError
from MedalSLib.run import REFINE_MARGIN_MM, Estimate, Progress, ProgressCallback
from MedalSLib.slicer.answers import Answer, Cut, answerOf
from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.request import NodeRequest, Overlap, RunOutcome, WrittenCallback
from MedalSLib.slicer.roi import Region
from MedalSLib.slicer.run_guard import RunGuard
from MedalSLib.slicer.run_inputs import IsOpen, RunInputs, readImage, readInputs
from MedalSLib.slicer.run_output import RunOutput
from MedalSLib.slicer.sequences import HeldFrame, frameOf
from MedalSLib.slicer.session_holder import SessionHolder
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.volumes import readVolume
from MedalSLib.slicer.writer import SegmentWriter

Prepare = Callable[[UiYield], tuple[RunInputs, Strokes | None]]


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
        self._sessions = SessionHolder()
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
        request: NodeRequest,
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

        def prepare(ui: UiYield) -> tuple[RunInputs, None]:
            inputs = readInputs(request, ui, self._isOpen(engine, request))
            inputs.requireSomething()
            return inputs, None

        return self._run(engine, request, prepare, onProgress, onWritten, cancel)

    def refine(
        self,
        engine: Engine,
        request: NodeRequest,
        onProgress: ProgressCallback | None = None,
        onWritten: WrittenCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunOutcome:
        """Refine the last result around the user's strokes, which stay as he made them; see `run`.

        Raises:
            InputError: There are no strokes since the last result.
        """

        def prepare(ui: UiYield) -> tuple[RunInputs, Strokes]:
            node, strokes = request.segmentationNode, None
            if node is not None:
                strokes = self._baselineOf(node).strokes(node, request.volumeNode, ui)
            if strokes is None:
                raise InputError(
                    "Nothing was painted or erased since the last result.",
                    "Correct a segment of the last run with the Segment Editor's tools, then refine.",
                )
            image = readImage(request.volumeNode, ui, self._isOpen(engine, request))
            region = Region(image.grid.grow_box(strokes.box, REFINE_MARGIN_MM))
            options = replace(request.options, mode="refine")
            return RunInputs(image, (), request.modality, strokes.masks, strokes.locked, region, options), strokes

        return self._run(engine, request, prepare, onProgress, onWritten, cancel)

    def estimate(self, engine: Engine, request: NodeRequest, send: bool = True) -> Estimate | None:
        """Say what a run will cost; opens the image in the engine, which the run then finds open.

        Args:
            engine: Does it.
            request: What the run would be asked.
            send: Whether the image may be opened for this; otherwise the answer is None unless it is open already.

        Raises:
            InputError: The volume, a segment or the region cannot be used.
        """
        with self._exclusive():
            isOpen = self._isOpen(engine, request)
            # What may not be sent need not be copied.
            inputs = readInputs(request, self._uiYield(), isOpen if send else lambda _image: True)
            if not send and not isOpen(inputs.image):
                return None
            call = self._worker.submit(
                lambda _send: self._session(engine, inputs).estimate(inputs.prompts, inputs.masks, inputs.options)
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
                writer.rollback(self._uiYield(HeldFrame(writer.node).restore))

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
            self._sessions.close()

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
        request: NodeRequest,
        prepare: Prepare,
        onProgress: ProgressCallback | None,
        onWritten: WrittenCallback | None,
        cancel: threading.Event | None,
    ) -> RunOutcome:
        image = readVolume(request.volumeNode, copy=False)
        stop = cancel if cancel is not None else threading.Event()
        with self._exclusive(), RunGuard(request.volumeNode.GetScene(), stop) as guard:
            self._stop = stop
            guard.watch(request.volumeNode, "volume")
            output: RunOutput | None = None
            held = HeldFrame(request.segmentationNode)

            def check() -> None:
                if stop.is_set():
                    raise CancelledError
                held.restore()

            try:
                ui = self._uiYield(check)
                inputs, strokes = prepare(ui)
                output = RunOutput(
                    request,
                    image,
                    inputs.region,
                    strokes,
                    self._editing,
                    self._baselineOf,
                    guard,
                    onWritten,
                    ui,
                )
                output.checkNodes()  # masks and strokes were read for the place where the volume was at first
                outcome = self._compute(engine, inputs, request.overlap, output, onProgress, check)
            except BaseException as error:
                lost = guard.reason
                if output is not None:
                    held.restore()
                    output.rollback(self._uiYield(held.restore))
                self._dropBroken(error)
                if lost:
                    raise CancelledError(lost, "Nothing was written.") from error
                raise
            self._last = output.writer
            return outcome

    def _compute(
        self,
        engine: Engine,
        inputs: RunInputs,
        overlap: Overlap,
        output: RunOutput,
        onProgress: ProgressCallback | None,
        check: Callable[[], None],
    ) -> RunOutcome:
        """Let the engine work on the worker thread, and write what comes from it."""
        stop = self._stop
        assert stop is not None

        def work(send: Callable[[Any], None]) -> Answer:
            session = self._session(engine, inputs, send, stop)
            send(_Opened(session.modality))
            result = session.segment(
                inputs.prompts,
                inputs.masks,
                inputs.locked,
                None if inputs.region is None else inputs.region.box,
                options=inputs.options,
                on_progress=send,
                on_structure=lambda name, mask: send((name, Cut.of(mask.array()))),
                cancel=stop,
            )
            return answerOf(result, overlapping=overlap is Overlap.ALLOW)

        def received(event: Any) -> None:
            if isinstance(event, Progress):
                if onProgress is not None:
                    onProgress(event)
            elif isinstance(event, _Opened):
                output.modality = event.modality
            else:
                check()
                output.stream(*event)

        answer = self._worker.submit(work).drive(self._pump, received, stop.set, self._poll)
        check()
        return output.finish(answer)

    def _session(
        self,
        engine: Engine,
        inputs: RunInputs,
        onProgress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Session:
        return self._sessions.session(engine, inputs.image, inputs.modality, onProgress, cancel)

    def _uiYield(self, check: Callable[[], None] = lambda: None) -> UiYield:
        return UiYield(self._pump, self._helper, check)

    def _isOpen(self, engine: Engine, request: NodeRequest) -> IsOpen:
        return lambda image: self._sessions.holds(engine, image, request.modality)

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
            self._sessions.close()

    def _exclusive(self) -> _Busy:
        return _Busy(self)

    def _release(self) -> None:
        self._busy, self._stop = False, None
        if self._closeLater:
            self._closeLater = False
            self._sessions.close()
        if self._closed:
            self._helper.close()


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
