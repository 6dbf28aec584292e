"""Segments as masks, on a volume's grid or on a lattice of their segmentation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import slicer

from MedalSLib.errors import InputError
from MedalSLib.slicer import transforms, volumes
from MedalSLib.slicer.oriented_image import (
    UNBOUNDED,
    fromOrientedImage,
    hasLabel,
    matrixOfImage,
    resampled,
    toVtkMatrix,
)
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.box import EMPTY, Box, shape_of, whole
from MedalSLib.volume.mask import BoxMask

LABELMAP = "Binary labelmap"
SURFACE = "Closed surface"


def segmentIDs(segmentationNode: Any) -> tuple[str, ...]:
    """Return the IDs of all segments, in their order."""
    return tuple(segmentationNode.GetSegmentation().GetSegmentIDs())


def segmentOf(segmentationNode: Any, segmentID: str) -> Any:
    """Return a vtkSegment.

    Raises:
        InputError: The segmentation has no such segment (any more).
    """
    segment = segmentationNode.GetSegmentation().GetSegment(segmentID)
    if segment is None:
        raise InputError(
            f"{segmentationNode.GetName()} has no segment {segmentID} any more.", "Choose another segment."
        )
    return segment


def readSegment(segmentationNode: Any, segmentID: str, volumeNode: Any, ui: UiYield | None = None) -> BoxMask:
    """Return a segment as a mask (K, J, I) on the grid of a volume.

    The segment may lie on another grid and under another transform, non-linear ones included: its voxels are brought
    to their place (see `oriented_image.resampled`).

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        volumeNode: The volume.
        ui: Keeps the GUI responsive.

    Raises:
        InputError: No such segment, or its shape cannot be made into voxels.
    """
    stored, lattice = storedMask(segmentationNode, segmentID, volumeNode)
    shape, matrix = volumes.shapeOf(volumeNode), volumes.localMatrix(volumeNode)
    if stored.is_empty:
        return BoxMask.empty(shape)
    relation = transforms.matrixBetween(segmentationNode, volumeNode)
    general = None
    if relation is None:
        general = transforms.generalBetween(segmentationNode, volumeNode)
    else:
        lattice = relation @ lattice  # a linear transform moves the lattice and leaves the voxels as they are

    def work() -> BoxMask:
        return resampled(stored, lattice, matrix, whole(shape), general).placed((0, 0, 0), shape)

    return (ui or UiYield()).offload(work, voxelCount(stored))


def storedMask(segmentationNode: Any, segmentID: str, volumeNode: Any = None) -> tuple[BoxMask, np.ndarray]:
    """Return a segment's voxels as they are stored, and their lattice in the segmentation's own coordinates.

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        volumeNode: Whose grid to use for a segment that is stored as a surface only.

    Raises:
        InputError: No such segment, or a surface that cannot be made into voxels.
    """
    segment = segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(LABELMAP)
    if image is None:
        return _voxelsOfSurface(segmentationNode, segmentID, volumeNode)
    return fromOrientedImage(image, segment.GetLabelValue()), matrixOfImage(image)


def maskOn(
    segmentationNode: Any,
    segmentID: str,
    matrix: np.ndarray,
    box: Box | None = None,
    volumeNode: Any = None,
    ui: UiYield | None = None,
) -> BoxMask:
    """Return a segment's voxels on a lattice of the segmentation's coordinates.

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        matrix: The lattice.
        box: Look at this part of the lattice only; None for all of it.
        volumeNode: Whose grid to use for a segment that is stored as a surface only.
        ui: Keeps the GUI responsive.
    """
    segment = segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(LABELMAP)
    if image is not None and np.allclose(matrixOfImage(image), matrix, rtol=0, atol=1e-9):
        return fromOrientedImage(image, segment.GetLabelValue(), box)  # reads no more than the box
    stored, lattice = storedMask(segmentationNode, segmentID, volumeNode)
    return (ui or UiYield()).offload(lambda: resampled(stored, lattice, matrix, box), voxelCount(stored))


def voxelCount(*masks: BoxMask) -> int:
    """Return how many voxels the boxes of masks have: what work on them costs."""
    return sum(math.prod(shape_of(mask.box or EMPTY)) for mask in masks)


def hasVoxels(segmentationNode: Any, segmentID: str) -> bool:
    """Whether a segment has any voxel, or is stored as a surface only; looks no further than the first voxel."""
    segment = segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(LABELMAP)
    if image is None:
        return segment.GetRepresentation(SURFACE) is not None
    return hasLabel(image, segment.GetLabelValue())


def segmentationMatrix(segmentationNode: Any) -> np.ndarray | None:
    """Return the lattice on which a segmentation is edited, in its own coordinates; None if it has none yet."""
    geometry = slicer.vtkSlicerSegmentEditorLogic.GetReferenceImageGeometryStringFromSegmentation(
        segmentationNode.GetSegmentation()
    )
    if not geometry:
        return None
    image = slicer.vtkOrientedImageData()
    if not slicer.vtkSegmentationConverter.DeserializeImageGeometry(geometry, image, False):
        return None
    return matrixOfImage(image)


def volumeMatrixIn(segmentationNode: Any, volumeNode: Any) -> np.ndarray:
    """Return the lattice of a volume in the coordinates of a segmentation.

    Raises:
        InputError: A non-linear transform lies between the two, so the volume's voxels form no grid there.
    """
    relation = transforms.matrixBetween(volumeNode, segmentationNode)
    if relation is None:
        raise InputError(
            f"A non-linear transform lies between {volumeNode.GetName()} and {segmentationNode.GetName()}.",
            "Put the segmentation under the same transform as the volume, or harden the transforms.",
        )
    return relation @ volumes.localMatrix(volumeNode)


def _voxelsOfSurface(segmentationNode: Any, segmentID: str, volumeNode: Any) -> tuple[BoxMask, np.ndarray]:
    """Convert a copy: the user's segmentation keeps its representations as they are."""
    source = segmentationNode.GetSegmentation()
    if volumeNode is None or not source.ContainsRepresentation(SURFACE):
        return BoxMask.empty(UNBOUNDED), np.eye(4)
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(source.GetSourceRepresentationName())
    copy.CopySegmentFromSegmentation(source, segmentID, False)
    reference = slicer.vtkOrientedImageData()
    i, j, k = volumeNode.GetImageData().GetDimensions()
    reference.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    reference.SetImageToWorldMatrix(toVtkMatrix(volumeMatrixIn(segmentationNode, volumeNode)))
    copy.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(),
        slicer.vtkSegmentationConverter.SerializeImageGeometry(reference),
    )
    if not copy.CreateRepresentation(LABELMAP):
        name = source.GetSegment(segmentID).GetName()
        raise InputError(
            f"The surface of {name} cannot be converted to voxels.",
            "Convert the segmentation to binary labelmap in the Segmentations module first.",
        )
    segment = copy.GetSegment(segmentID)
    image = segment.GetRepresentation(LABELMAP)
    return fromOrientedImage(image, segment.GetLabelValue()), matrixOfImage(image)
