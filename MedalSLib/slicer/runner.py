"""Runs requests on MRML nodes: the engine on a worker thread, the results written on the main thread as they come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import vtk

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError, InputError, PromptError, ResourceError
from MedalSLib.run import Estimate, Progress, ProgressCallback, RunResult
from MedalSLib.slicer.background import POLL_SECONDS, Pump, Worker
from MedalSLib.slicer.disjoint import disjoint
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.request import NodeRequest, Overlap, RunOutcome, WrittenCallback
from MedalSLib.slicer.run_guard import RunGuard
from MedalSLib.slicer.run_inputs import IsOpen, RunInputs, readInputs
from MedalSLib.slicer.run_output import RunOutput
from MedalSLib.slicer.sequences import HeldFrame, frameOf
from MedalSLib.slicer.session_holder import SessionHolder
from MedalSLib.slicer.strokes import Baseline, Strokes
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.volumes import readVolume
from MedalSLib.slicer.writer import SegmentWriter
from MedalSLib.volume.ball import box_around
from MedalSLib.volume.mask import BoxMask

AROUND_MM = 48.0
"""How far around a point the engine looks for what is there: about a patch."""


class Runner:
    """Runs requests one at a time, and remembers what they left, so that strokes can be found.

    Nothing of the user's is lost: after a cancelled or failed run, every segment is as it was.

    Args:
        editing: See `editing`.
        pump: Lets the application process its events (`slicer.app.processEvents`).
        poll: Seconds between two rounds of events.

    Attributes:
        editing: The segment editor to write through.
        last: The writer of the last finished run, for before/after and `rollback`; None if there is none.
    """

    def __init__(self, editing: SegmentEditing, pump: Pump, poll: float = POLL_SECONDS) -> None:
        self.editing = editing
        self._pump = pump
        self._poll = poll
        self._worker = Worker()
        self._helper = Worker()
        self._sessions = SessionHolder()
        self._closeLater = False
        self._closed = False
        self._stop: threading.Event | None = None
        self._baselines: dict[tuple[str, int], tuple[Any, Baseline]] = {}
        self.last: SegmentWriter | None = None
        self._busy = False

    def strokes(self, segmentationNode: Any, volumeNode: Any, modality: str | None = None) -> Strokes | None:
        """Return the user's edits since the last result in a segmentation, None if there are none.

        Args:
            segmentationNode: The segmentation.
            volumeNode: The volume.
            modality: What the volume is, to understand the names of segments that no run has written.
        """
        return self.baseline(segmentationNode).strokes(segmentationNode, volumeNode, modality)

    def run(
        self,
        engine: Engine,
        request: NodeRequest,
        onProgress: ProgressCallback | None = None,
        onWritten: WrittenCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> RunOutcome:
        """Segment or refine, and write each structure as soon as it is final.

        Args:
            engine: The engine.
            request: What to do.
            onProgress: Called on the main thread.
            onWritten: Called on the main thread after each structure was written.
            cancel: Set it to stop.

        Raises:
            InputError: The volume, a segment or the region cannot be used, or there are no strokes to refine around.
            PromptError: There is no prompt, or it names nothing known.
            CancelledError: `cancel` was set, the scene closed, or a node of the run was removed.
            ResourceError: Another run is going on, or memory ran out.
        """
        image = readVolume(request.volumeNode, copy=False)
        stop = cancel if cancel is not None else threading.Event()
        with self._exclusive(), RunGuard(request.volumeNode.GetScene(), stop) as guard:
            self._stop = stop
            guard.watch(request.volumeNode, "volume")
            output: RunOutput | None = None
            frame = HeldFrame(request.segmentationNode)

            def check() -> None:  # after each round of events
                if stop.is_set():
                    raise CancelledError
                frame.restore()

            try:
                ui = self._uiYield(check)
                strokes = self._strokesOf(request, ui) if request.refine else None
                inputs = readInputs(request, ui, self._isOpen(engine, request), strokes)
                if not inputs.request.prompts and not inputs.request.masks:
                    raise PromptError(
                        "There is nothing to segment.", "Type the name of a structure, or choose a segment."
                    )
                output = RunOutput(request, image, inputs, strokes, self.editing, self.baseline, guard, onWritten, ui)
                output.checkNodes()  # masks and strokes were read for the place where the volume was at first
                outcome = self._compute(engine, inputs, request.overlap, output, onProgress, check)
            except BaseException as error:
                reason = guard.reason
                if output is not None:
                    frame.restore()
                    output.rollback(self._uiYield(frame.restore))
                self._dropBroken(error)
                if reason:
                    raise CancelledError(reason, "Nothing was written.") from error
                raise
            self.last = output.writer
            return outcome

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

            def work(_send: object) -> Estimate:
                session = self._sessions.session(engine, inputs.image, inputs.modality)
                return session.estimate(inputs.request.prompts, inputs.request.masks, inputs.request.options)

            return self._worker.submit(work).drive(self._pump, poll=self._poll)

    def structuresAt(
        self,
        engine: Engine,
        request: NodeRequest,
        voxel_kji: tuple[int, int, int],
        onProgress: ProgressCallback,
        cancel: threading.Event,
    ) -> tuple[str, ...]:
        """Return which structures of a request contain a voxel; looks around it only, and writes nothing.

        Args:
            engine: Does it.
            request: The names to try.
            voxel_kji: Index (k, j, i) on the volume's grid.
            onProgress: Called on the main thread.
            cancel: Set it to stop.

        Raises:
            MedalSError: See `run`.
        """
        with self._exclusive():
            self._stop = cancel
            inputs = readInputs(request, self._uiYield(), self._isOpen(engine, request))
            grid = inputs.image.grid
            k, j, i = box_around(voxel_kji, AROUND_MM, grid.spacing_ijk[::-1], grid.shape_kji)
            asked = replace(inputs.request, masks={}, roi=(i, j, k))

            def work(send: Callable[[Any], None]) -> RunResult:
                session = self._sessions.session(engine, inputs.image, inputs.modality, send, cancel)
                return session.run(asked, on_progress=send, cancel=cancel)

            result = self._worker.submit(work).drive(self._pump, onProgress, cancel.set, self._poll)
            here = BoxMask.from_crop(np.ones((1, 1, 1), bool), voxel_kji, grid.shape_kji)
            return tuple(name for name, mask in result.box_masks.items() if not (mask & here).is_empty)

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
        self.last = None
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

        def work(send: Callable[[Any], None]) -> RunResult:
            session = self._sessions.session(engine, inputs.image, inputs.modality, send, stop)
            send(session.modality)
            result = session.run(
                inputs.request,
                on_progress=send,
                on_structure=lambda name, mask: send((name, mask)),
                cancel=stop,
            )
            return result if overlap is Overlap.ALLOW else replace(result, box_masks=disjoint(result))

        def received(event: Any) -> None:
            if isinstance(event, Progress):
                if onProgress is not None:
                    onProgress(event)
            elif isinstance(event, str):  # the image is open, and the engine takes it for this modality
                output.modality = event
            else:
                check()
                output.stream(*event)

        result = self._worker.submit(work).drive(self._pump, received, stop.set, self._poll)
        check()
        return output.finish(result)

    def _strokesOf(self, request: NodeRequest, ui: UiYield) -> Strokes:
        node, strokes = request.segmentationNode, None
        if node is not None:
            strokes = self.baseline(node).strokes(node, request.volumeNode, request.modality, ui)
        if strokes is None:
            raise InputError(
                "Nothing was painted or erased since the last result.",
                "Correct a segment of the last run with the Segment Editor's tools, then refine.",
            )
        return strokes

    def _uiYield(self, check: Callable[[], None] = lambda: None) -> UiYield:
        return UiYield(self._pump, self._helper, check)

    def _isOpen(self, engine: Engine, request: NodeRequest) -> IsOpen:
        return lambda image: self._sessions.holds(engine, image, request.modality)

    def baseline(self, segmentationNode: Any) -> Baseline:
        """Return the baseline of a segmentation (of its frame); one of a former scene with its ID does not count."""
        # Node IDs are given again after a scene was closed, so the node itself has to be the same too.
        key = (segmentationNode.GetID(), frameOf(segmentationNode))
        node, baseline = self._baselines.get(key, (None, Baseline()))
        if node is None or node.Get() is not segmentationNode:
            node, baseline = vtk.vtkWeakReference(), Baseline()
            node.Set(segmentationNode)
            self._baselines[key] = (node, baseline)
        return baseline

    def _dropBroken(self, error: BaseException) -> None:
        """Close the session after an error: one whose server or memory is gone would fail for ever."""
        if not isinstance(error, CancelledError | PromptError | InputError):
            self._sessions.close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Refuse a second run: while the first one processes events, the user may press the button again."""
        if self._busy:
            raise ResourceError("A run is going on.", "Wait for its end, or cancel it.")
        self._busy = True
        try:
            yield
        finally:
            self._busy, self._stop = False, None
            if self._closeLater:
                self._closeLater = False
                self._sessions.close()
            if self._closed:
                self._helper.close()
