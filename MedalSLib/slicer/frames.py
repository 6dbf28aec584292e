"""Runs on every frame of a time series, and takes their results back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

from MedalSLib.engine.interface import Engine
from MedalSLib.errors import CancelledError
from MedalSLib.run import Progress, ProgressCallback
from MedalSLib.slicer.request import NodeRequest, RunOutcome, Written
from MedalSLib.slicer.runner import Runner
from MedalSLib.slicer.sequences import VolumeSequence, addSegmentationSequence
from MedalSLib.slicer.writer import Before, SegmentWriter

FrameProgress = Callable[[int, Progress], None]


class FrameResults:
    """What a run left in a segmentation, or in its frames, so that it can be compared and taken back.

    Args:
        series: The volume's sequence after a run on all frames; None after a run on one image.

    Attributes:
        node: The segmentation, for a time series its proxy node; None while no frame is finished.
    """

    def __init__(self, series: VolumeSequence | None = None) -> None:
        self.series = series
        self.node: Any = None
        self._writers: dict[int, SegmentWriter] = {}

    @property
    def frames(self) -> tuple[int, ...]:
        """Frames that hold results to take back; frame 0 for a segmentation that does not change with time."""
        return tuple(self._writers)

    def add(self, frame: int, outcome: RunOutcome, writer: SegmentWriter | None) -> None:
        """Note a frame that is finished.

        Args:
            frame: Its index.
            outcome: What the run did.
            writer: `Runner.last` after the run; None if it wrote nothing.
        """
        self.node = outcome.segmentationNode
        if writer is not None:
            self._writers[frame] = writer

    def before(self, frame: int) -> Mapping[str, Before]:
        """Return how the changed segments of a frame were before the run, by segment ID."""
        writer = self._writers.get(frame)
        return {} if writer is None else writer.before

    def rollback(
        self, runner: Runner, onProgress: ProgressCallback | None = None, cancel: threading.Event | None = None
    ) -> None:
        """Put back the segments of every frame; the frame that is shown now is shown again at the end.

        Args:
            runner: The runner of the run.
            onProgress: Called before each frame of a time series.
            cancel: Set it to stop after the current frame; the rest can be taken back later.

        Raises:
            CancelledError: `cancel` was set.
            ResourceError: A run is going on.
        """
        if self.series is None:
            runner.rollback(list(self._writers.values()))
            self._writers.clear()
            return
        total = len(self._writers)
        with closing(self.series.frames(self.frames)) as frames:
            for done, frame in enumerate(frames):
                if cancel is not None and cancel.is_set():
                    raise CancelledError(
                        f"{done} of {total} frames are as they were before the run.", "Revert again for the rest."
                    )
                if onProgress is not None:
                    onProgress(Progress("reverting", done / total, done, total))
                runner.rollback([self._writers[frame]])
                del self._writers[frame]


def runFrames(
    runner: Runner,
    engine: Engine,
    request: NodeRequest,
    series: VolumeSequence,
    onProgress: FrameProgress | None = None,
    onWritten: Callable[[Written], None] | None = None,
    cancel: threading.Event | None = None,
    results: FrameResults | None = None,
) -> list[RunOutcome]:
    """Run a request on every frame; frames that were finished before an error or a cancel keep their results.

    Args:
        runner: Runs each frame.
        engine: The engine.
        request: The run; a segmentation sequence is added if its segmentation does not change with the frames, and its
            segments serve as prompts in each of them.
        series: The volume's sequence.
        onProgress: Called with the frame's index and the progress of the whole series.
        onWritten: Called after each structure of each frame.
        cancel: Set it to stop.
        results: Takes note of each frame that is finished.

    Raises:
        MedalSError: What `Runner.run` raises.
    """
    node = request.segmentationNode
    if node is None or series.browser.GetSequenceNode(node) is None:
        request = replace(request, promptsFrom=request.promptsFrom or node)
        node = addSegmentationSequence(series)
    outcomes = []
    with closing(series.frames()) as frames:
        for frame in frames:

            def scaled(event: Progress, frame: int = frame) -> None:
                if onProgress is not None:
                    fraction = (frame + event.fraction) / series.count
                    onProgress(frame, replace(event, fraction=fraction, seconds_left=None))

            outcome = runner.run(engine, replace(request, segmentationNode=node), scaled, onWritten, cancel)
            outcomes.append(outcome)
            if results is not None:
                results.add(frame, outcome, runner.last)
    return outcomes
