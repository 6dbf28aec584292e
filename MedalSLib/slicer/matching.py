"""Which structure a segment stands for: by the run that wrote it, by its terminology codes, then by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from MedalSLib.slicer import segments, targets
from MedalSLib.slicer.segment_terminology import structureOfTerminology
from MedalSLib.vocabulary import resolve

How = Literal["result", "terminology", "name", ""]


@dataclass(frozen=True)
class SegmentMatch:
    """A segment as a spatial prompt.

    Attributes:
        segmentID: ID of the segment.
        name: Its name, as the user sees it.
        structure: Published name it stands for, empty if none was found; the user may change it.
        how: What the structure was concluded from: an earlier result, the terminology, or the name.
        empty: Whether it has no voxels.
        locked: Whether the user locked it.
        color: Red, green and blue, 0..1.
        visible: Whether it is shown in the views.
    """

    segmentID: str
    name: str
    structure: str
    how: How
    empty: bool
    locked: bool
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    visible: bool = True


def matchSegments(segmentationNode: Any, modality: str) -> list[SegmentMatch]:
    """Return every segment of a segmentation with the structure it stands for in a modality.

    Segments with one instance of a structure are left out: they are no prompt for the whole of it.
    """
    found = []
    display = segmentationNode.GetDisplayNode()
    for segmentID in segments.segmentIDs(segmentationNode):
        segment = segments.segmentOf(segmentationNode, segmentID)
        if targets.instanceOf(segment):
            continue
        structure, how = matchedStructure(segment, modality)
        empty = not segments.hasVoxels(segmentationNode, segmentID)
        locked, color = targets.isLocked(segment), segment.GetColor()
        visible = display is None or bool(display.GetSegmentVisibility(segmentID))
        found.append(SegmentMatch(segmentID, segment.GetName(), structure, how, empty, locked, color, visible))
    return found


def matchedStructure(segment: Any, modality: str) -> tuple[str, How]:
    """Return the published name that a segment stands for, empty if none was found, and what that was concluded from.

    Args:
        segment: vtkSegment.
        modality: Modality in which its name means something.
    """
    ours = targets.structureOf(segment)
    if ours:
        return ours, "result"
    coded = structureOfTerminology(targets.terminologyOf(segment), modality)
    if coded:
        return coded, "terminology"
    understood = resolve(segment.GetName(), modality=modality)
    names = [name for resolution in understood for name in resolution.classes]
    return (names[0], "name") if len(names) == 1 else ("", "")
