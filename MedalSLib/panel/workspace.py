"""What the presenters see of the application: nodes as plain facts, runs as plain requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from MedalSLib.engine.interface import Engine, Estimate, Options, Progress, Report
from MedalSLib.service.describing import UploadDescription


@dataclass(frozen=True)
class VolumeFacts:
    """The chosen volume.

    Attributes:
        name: Its name.
        problem: Why it cannot be segmented and what to do, empty if it can.
        shape: Voxels along (i, j, k).
        spacing: Millimetres along (i, j, k).
        modality: Modality it seems to have.
        reason: What told, as a sentence.
        certain: Whether the user need not check the modality.
        frames: Frames of the time series it belongs to, 1 for a single volume.
    """

    name: str
    problem: str = ""
    shape: tuple[int, int, int] = (0, 0, 0)
    spacing: tuple[float, float, float] = (0.0, 0.0, 0.0)
    modality: str = ""
    reason: str = ""
    certain: bool = True
    frames: int = 1


class SegmentFacts(Protocol):
    """A segment that may become a spatial prompt; `slicer.matching.SegmentMatch` is one."""

    @property
    def segmentID(self) -> str: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def structure(self) -> str: ...  # noqa: D102
    @property
    def how(self) -> str: ...  # noqa: D102
    @property
    def empty(self) -> bool: ...  # noqa: D102
    @property
    def locked(self) -> bool: ...  # noqa: D102


class WrittenFacts(Protocol):
    """What became of one structure; `slicer.writer.Written` is one."""

    @property
    def structure(self) -> str: ...  # noqa: D102
    @property
    def segmentID(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


class Outcome(Protocol):
    """What a run did; `slicer.request.RunOutcome` is one."""

    @property
    def report(self) -> Report: ...  # noqa: D102
    @property
    def written(self) -> Sequence[WrittenFacts]: ...  # noqa: D102


@dataclass(frozen=True)
class Wishes:
    """One run as the panel asks for it; volume, segmentation and region are those chosen in the state.

    Attributes:
        prompts: Names, as typed.
        modality: Modality; None to let the engine guess.
        spatialPrompts: Published name by ID of each segment that is a prompt.
        excluded: IDs of segments that no result may enter.
        overlap: "allow", "keep" or "overwrite".
        allFrames: Whether every frame of the time series is segmented.
        options: Choices of the engine.
    """

    prompts: tuple[str, ...] = ()
    modality: str | None = None
    spatialPrompts: Mapping[str, str] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    overlap: str = "allow"
    allFrames: bool = False
    options: Options = field(default_factory=Options)


OnProgress = Callable[[Progress], None]
OnWritten = Callable[[WrittenFacts], None]


class Workspace(Protocol):
    """The application, as far as the presenters need it.

    Attributes:
        state: What the scene keeps: `slicer.parameters.Parameters`, with `overlap` as a text.
    """

    state: Any

    def volume(self) -> VolumeFacts | None:
        """Return the chosen volume, None if none is chosen."""
        ...

    def segments(self, modality: str) -> Sequence[SegmentFacts]:
        """Return the segments of the chosen segmentation, with the structures they stand for."""
        ...

    def lock(self, segmentID: str, locked: bool) -> None:
        """Lock or unlock a segment."""
        ...

    def describeUpload(self, engine: Engine, wishes: Wishes) -> UploadDescription:
        """Say what a run on a server would send; sends nothing."""
        ...

    def estimate(self, engine: Engine, wishes: Wishes, send: bool) -> Estimate | None:
        """Say what a run will cost; None if the image would have to be sent for that, and `send` is false."""
        ...

    def run(
        self, engine: Engine, wishes: Wishes, onProgress: OnProgress, onWritten: OnWritten, cancel: threading.Event
    ) -> Sequence[Outcome]:
        """Segment; one outcome for each frame."""
        ...

    def refine(
        self, engine: Engine, wishes: Wishes, onProgress: OnProgress, onWritten: OnWritten, cancel: threading.Event
    ) -> Sequence[Outcome]:
        """Refine the last result around the user's strokes."""
        ...

    def volumes(self) -> Mapping[str, float] | None:
        """Return the volume in ml by ID of each segment beside the last result; None if that is not shown now."""
        ...

    @property
    def resultElsewhere(self) -> bool:
        """Whether the last run was on another volume, or left its result in another segmentation, than the chosen."""
        ...

    @property
    def canRevert(self) -> bool:
        """Whether there is a result that was not accepted or reverted yet."""
        ...

    def revert(self, onProgress: OnProgress, cancel: threading.Event) -> None:
        """Put the segments back to what they were before the last run; the editor's undo takes that back.

        Raises:
            CancelledError: `cancel` was set after some frames of a time series; the rest can be taken back later.
        """
        ...

    def accept(self) -> None:
        """Keep the last result: it is no longer compared or reverted."""
        ...

    def compare(self, before: bool) -> None:
        """Show the segments as they were before the last run, or as they are."""
        ...

    def show(self, segmentID: str) -> None:
        """Bring a segment into view and select it in the editor."""
        ...

    def forget(self) -> None:
        """Close the image that is open in the engine: the engine is about to close."""
        ...
