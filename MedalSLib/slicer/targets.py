"""Which segment a result belongs to, and how segments of ours are marked."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from MedalSLib.slicer.segments import LABELMAP, hasVoxels, segmentIDs, segmentOf

STRUCTURE_TAG = "MedalS.Structure"
INSTANCE_TAG = "MedalS.Instance"
LOCK_TAG = "MedalS.Locked"
CORRECTED_TAG = "MedalS.Corrected"


def structureOf(segment: Any) -> str:
    """Return the published name whose result a segment holds, empty if it is none of ours."""
    return tag(segment, STRUCTURE_TAG)


def instanceOf(segment: Any) -> int:
    """Return the number of the instance that a segment holds, 0 if it holds the whole structure."""
    text = tag(segment, INSTANCE_TAG)
    return int(text) if text.isdigit() else 0


def isLocked(segment: Any) -> bool:
    """Whether a segment was locked by the user: no run changes it."""
    return tag(segment, LOCK_TAG) == "1"


def setLocked(segmentationNode: Any, segmentID: str, locked: bool) -> None:
    """Lock or unlock a segment; kept in the scene and in .seg.nrrd files.

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        locked: Whether runs leave it alone.
    """
    _mark(segmentOf(segmentationNode, segmentID), LOCK_TAG, locked)


def isCorrected(segment: Any) -> bool:
    """Whether a segment holds corrections of the user's: no run replaces it unasked."""
    return tag(segment, CORRECTED_TAG) == "1"


def setCorrected(segment: Any, corrected: bool) -> None:
    """Note in the scene, and in .seg.nrrd files, whether a segment holds corrections."""
    if isCorrected(segment) is not corrected:
        _mark(segment, CORRECTED_TAG, corrected)


def _mark(segment: Any, name: str, marked: bool) -> None:
    if marked:
        segment.SetTag(name, "1")
    else:
        segment.RemoveTag(name)


def tag(segment: Any, name: str) -> str:
    """Return the value of a segment's tag, empty if it has none."""
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def terminologyOf(segment: Any) -> str:
    """Return a segment's terminology tag, empty if it has none."""
    return tag(segment, slicer.vtkSegment.GetTerminologyEntryTagName())


def findTarget(segmentationNode: Any, structure: str, instance: int = 0) -> str:
    """Return the ID of the segment that holds, or is meant to hold, the result of a structure; empty if none.

    First a segment that an earlier run wrote; then an empty one of that name, as a user adds before the run.

    Args:
        segmentationNode: The segmentation.
        structure: Published name.
        instance: Number of the instance, 0 for the whole structure.
    """
    segmentation = segmentationNode.GetSegmentation()
    for segmentID in segmentIDs(segmentationNode):
        segment = segmentation.GetSegment(segmentID)
        if structureOf(segment) == structure and instanceOf(segment) == instance:
            return segmentID
    if instance:
        return ""
    for segmentID in segmentIDs(segmentationNode):
        segment = segmentation.GetSegment(segmentID)
        same = segment.GetName().strip().casefold() == structure.casefold()
        if same and not structureOf(segment) and not hasVoxels(segmentationNode, segmentID):
            return segmentID
    return ""


def addSegment(segmentationNode: Any, structure: str, instance: int = 0) -> str:
    """Add an empty segment for a structure, on a layer of its own, and return its ID.

    A layer of its own keeps writing fast and undo small; Slicer merges layers when it saves the file.

    Args:
        segmentationNode: The segmentation.
        structure: Published name.
        instance: Number of the instance, 0 for the whole structure.
    """
    segmentation = segmentationNode.GetSegmentation()
    taken = {segmentation.GetSegment(segmentID).GetName() for segmentID in segmentIDs(segmentationNode)}
    base = f"{structure} {instance}" if instance else structure
    name, number = base, 2
    while name in taken:
        name, number = f"{base} ({number})", number + 1
    segment = slicer.vtkSegment()
    segment.SetName(name)
    segment.SetTag(STRUCTURE_TAG, structure)
    if instance:
        segment.SetTag(INSTANCE_TAG, str(instance))
    segment.AddRepresentation(LABELMAP, slicer.vtkOrientedImageData())
    segmentID: str = segmentation.GenerateUniqueSegmentID(name)
    segmentation.AddSegment(segment, segmentID)
    return segmentID
