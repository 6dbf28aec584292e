"""Volumes of segments in ml, computed again only where voxels changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from MedalSLib.slicer import segments, transforms
from MedalSLib.slicer.oriented_image import countVoxels, matrixOfImage


class SegmentVolumes:
    """Volumes of the segments of one segmentation at a time; cheap to ask again after each stroke."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], float]] = {}

    def of(self, segmentationNode: Any) -> dict[str, float]:
        """Return the volume in ml by ID of each segment; 0 for one that is stored as a surface only.

        A linear parent transform counts, a non-linear one does not: voxels have no common size under it.
        """
        scale = 1.0
        if transforms.isLinearToWorld(segmentationNode):
            scale = abs(float(np.linalg.det(transforms.matrixToWorld(segmentationNode)[:3, :3])))
        known = {key: self._measured(segmentationNode, key) for key in segments.segmentIDs(segmentationNode)}
        self._known = known
        return {key: volume * scale for key, (_state, volume) in known.items()}

    def _measured(self, segmentationNode: Any, segmentID: str) -> tuple[tuple[object, ...], float]:
        segment = segments.segmentOf(segmentationNode, segmentID)
        image = segment.GetRepresentation(segments.LABELMAP)
        if image is None:
            return (), 0.0
        # VTK's times of change are unique, so another image has another one.
        state = (segmentationNode.GetID(), image.GetMTime(), segment.GetLabelValue())
        if segmentID in self._known and self._known[segmentID][0] == state:
            return self._known[segmentID]
        voxel_ml = abs(float(np.linalg.det(matrixOfImage(image)[:3, :3]))) / 1000
        return state, countVoxels(image, segment.GetLabelValue()) * voxel_ml
