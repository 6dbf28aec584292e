"""A run in terms of MRML nodes, and what it did; imports no Slicer, so that the panel's presenters can use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from MedalSLib.run import Report, RunOptions

if TYPE_CHECKING:
    from MedalSLib.slicer.strokes import Strokes


class Overlap(str, Enum):
    """What happens where a result meets segments that are not part of the run; locked ones never change."""

    ALLOW = "allow"
    KEEP_OTHERS = "keep"
    OVERWRITE = "overwrite"


@dataclass(frozen=True, eq=False)
class NodeRequest:
    """What to segment, where, and into which segmentation.

    Attributes:
        volumeNode: The image.
        segmentationNode: Where the results go; None for a new one, added when the first structure is found.
        prompts: Phrases as typed.
        modality: "CT", "MRI", ...; None to let the engine guess.
        spatialPrompts: Published name by ID of each segment that is a spatial prompt.
        promptsFrom: Segmentation of those segments; None for `segmentationNode`.
        updatePrompts: Whether the segment that was a prompt becomes the result (undo brings it back), or keeps its
            voxels and the result is a new one.
        excludedIDs: Segments of `segmentationNode` that no result may enter.
        roiNode: Markups ROI: hard limits of the result; None for the whole volume.
        options: Choices of the engine.
        overlap: What happens where results meet segments that are not part of the run.
        refine: Whether the corrected segments are refined around the user's strokes, which stay as they are.  Prompts
            name what is segmented beside them; spatial prompts and ROI do not count.
        allFrames: Whether every frame of the volume's time series is segmented; `Runner.run` looks at one frame.
    """

    volumeNode: Any
    segmentationNode: Any = None
    prompts: tuple[str, ...] = ()
    modality: str | None = None
    spatialPrompts: Mapping[str, str] = field(default_factory=dict)
    promptsFrom: Any = None
    updatePrompts: bool = True
    excludedIDs: tuple[str, ...] = ()
    roiNode: Any = None
    options: RunOptions = field(default_factory=RunOptions)
    overlap: Overlap = Overlap.ALLOW
    refine: bool = False
    allFrames: bool = False


@dataclass(frozen=True)
class Written:
    """What became of one structure's mask.

    Attributes:
        structure: Published name.
        segmentID: Segment that holds it; empty if nothing was written.
        changed: Whether any voxel changed.
        reason: Why nothing was written ("locked", "absent"), empty otherwise.
    """

    structure: str
    segmentID: str = ""
    changed: bool = False
    reason: str = ""


WrittenCallback = Callable[[Written], None]
"""Called on the main thread after each structure was written."""


@dataclass(frozen=True, eq=False)
class RunOutcome:
    """What a run did.

    Attributes:
        report: The engine's report: time, device, warnings, volume of each structure.
        written: What became of each structure, in the order of the report.
        segmentationNode: Where the results are; None if nothing was found and there was none before.
        strokes: The edits that a refinement honoured.
        cut: Names of the user's segments that results took voxels from, as `Overlap.OVERWRITE` says.
    """

    report: Report
    written: tuple[Written, ...]
    segmentationNode: Any = None
    strokes: Strokes | None = None
    cut: tuple[str, ...] = ()
