"""A run on every frame of a time series."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from MedalSLib.engine.interface import Engine, Progress
from MedalSLib.errors import InputError
from MedalSLib.slicer.request import RunOutcome, RunRequest
from MedalSLib.slicer.runner import Runner
from MedalSLib.slicer.sequences import VolumeSequence, addSegmentationSequence
from MedalSLib.slicer.writer import Written

FrameProgress = Callable[[int, Progress], None]


def runFrames(
    runner: Runner,
    engine: Engine,
    request: RunRequest,
    series: VolumeSequence,
    onProgress: FrameProgress | None = None,
    onWritten: Callable[[Written], None] | None = None,
    cancel: threading.Event | None = None,
) -> list[RunOutcome]:
    """Run a request on every frame; frames that were finished before a fault or a cancel keep their results.

    Args:
        runner: Runs each frame.
        engine: The engine.
        request: The run; without a segmentation, a segmentation sequence is added.
        series: The volume's sequence.
        onProgress: Called with the frame's index and the progress of the whole series.
        onWritten: Called after each structure of each frame.
        cancel: Set it to stop.

    Raises:
        InputError: The request's segmentation does not change with the frames, so they would overwrite each other.
        MedalSError: What `Runner.run` raises.
    """
    node = request.segmentationNode
    if node is None:
        node = addSegmentationSequence(series)
    elif series.browser.GetSequenceNode(node) is None:
        raise InputError(
            f"{node.GetName()} is the same in all frames, so each frame's result would replace the one before.",
            "Choose a new segmentation for all frames, or segment this frame only.",
        )
    outcomes = []
    with closing(series.frames()) as frames:
        for frame in frames:

            def scaled(event: Progress, frame: int = frame) -> None:
                if onProgress is not None:
                    fraction = (frame + event.fraction) / series.count
                    onProgress(frame, replace(event, fraction=fraction, seconds_left=None))

            outcomes.append(runner.run(engine, replace(request, segmentationNode=node), scaled, onWritten, cancel))
    return outcomes
