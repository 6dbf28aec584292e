"""What the user asked for, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from MedalSLib.engine.interface import Options, Report
from MedalSLib.slicer.strokes import Strokes
from MedalSLib.slicer.writer import Overlap, Written


@dataclass(frozen=True, eq=False)
class RunRequest:
    """One run, in nodes.

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
        roiNode: Markups ROI: hard limits of the answer; None for the whole volume.
        options: Choices of the engine.
        overlap: What happens where results meet segments that are not part of the run.
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
    options: Options = field(default_factory=Options)
    overlap: Overlap = Overlap.ALLOW


@dataclass(frozen=True, eq=False)
class RunOutcome:
    """What a run did.

    Attributes:
        report: The engine's report: time, device, warnings, volume of each structure.
        written: What became of each structure, in the order of the report.
        segmentationNode: Where the results are; None if nothing was found and there was none before.
        strokes: The edits that a refinement honoured.
    """

    report: Report
    written: tuple[Written, ...]
    segmentationNode: Any
    strokes: Strokes | None = None
