"""Segments as boolean arrays on a volume's grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer

from MedalSLib.errors import InputError
from MedalSLib.slicer import transforms, volumes
from MedalSLib.slicer.oriented_image import (
    Patch,
    emptyPatch,
    fromOrientedImage,
    holds,
    matrixOfImage,
    resampled,
    toVtkMatrix,
)
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.geometry import Box

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


def readSegment(segmentationNode: Any, segmentID: str, volumeNode: Any, ui: UiYield | None = None) -> np.ndarray:
    """Return a segment as a boolean (K, J, I) array on the grid of a volume.

    The segment may lie on another grid and under another transform, non-linear ones included: its voxels are brought
    to their place (see `lattice.resampled`).

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        volumeNode: The volume.
        ui: Divides the work.

    Raises:
        InputError: No such segment, or its shape cannot be made into voxels.
    """
    ui = ui or UiYield()
    i, j, k = volumeNode.GetImageData().GetDimensions()
    patch = readSegmentPatch(segmentationNode, segmentID, volumeNode, ui)
    return ui.offload(lambda: patch.on(((0, i), (0, j), (0, k))), i * j * k)


def readSegmentPatch(segmentationNode: Any, segmentID: str, volumeNode: Any, ui: UiYield | None = None) -> Patch:
    """Return a segment as the smallest patch on the lattice of a volume, within the volume; see `readSegment`."""
    ui = ui or UiYield()
    matrix = volumes.localMatrix(volumeNode)
    i, j, k = volumeNode.GetImageData().GetDimensions()
    whole: Box = ((0, i), (0, j), (0, k))
    patch = storedPatch(segmentationNode, segmentID, volumeNode)
    if patch.isEmpty:
        return emptyPatch(matrix)
    relation = transforms.matrixBetween(segmentationNode, volumeNode)
    general = None
    if relation is None:
        general = transforms.generalBetween(segmentationNode, volumeNode)
    else:
        patch = Patch(patch.mask, patch.start, relation @ patch.matrix)
    return ui.offload(lambda: resampled(patch, matrix, whole, general).cropped(), patch.mask.size)


def storedPatch(segmentationNode: Any, segmentID: str, volumeNode: Any = None) -> Patch:
    """Return a segment's voxels as they are stored, in the segmentation's own coordinates.

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
    return fromOrientedImage(image, segment.GetLabelValue()).cropped()


def hasVoxels(segmentationNode: Any, segmentID: str) -> bool:
    """Whether a segment has any voxel, or is stored as a surface only; looks no further than the first voxel."""
    segment = segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(LABELMAP)
    if image is None:
        return segment.GetRepresentation(SURFACE) is not None
    return holds(image, segment.GetLabelValue())


def storedWithin(
    segmentationNode: Any, segmentID: str, matrix: np.ndarray, box: Box, volumeNode: Any, ui: UiYield | None = None
) -> Patch:
    """Return a segment's voxels in a box of a lattice of the segmentation's coordinates, as a patch within the box.

    Reads no more than the box where the segment is stored on that lattice.

    Args:
        segmentationNode: The segmentation.
        segmentID: The segment.
        matrix: The lattice.
        box: Bounds on it.
        volumeNode: Whose grid to use for a segment that is stored as a surface only.
        ui: Divides the work.
    """
    segment = segmentOf(segmentationNode, segmentID)
    image = segment.GetRepresentation(LABELMAP)
    if image is not None and np.allclose(matrixOfImage(image), matrix, rtol=0, atol=1e-9):
        return fromOrientedImage(image, segment.GetLabelValue(), box)
    patch = storedPatch(segmentationNode, segmentID, volumeNode)
    return (ui or UiYield()).offload(lambda: resampled(patch, matrix, box), patch.mask.size)


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
    return fromOrientedImage(image).matrix


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


def _voxelsOfSurface(segmentationNode: Any, segmentID: str, volumeNode: Any) -> Patch:
    """Convert a copy: the user's segmentation keeps its representations as they are."""
    source = segmentationNode.GetSegmentation()
    if volumeNode is None or not source.ContainsRepresentation(SURFACE):
        return emptyPatch(np.eye(4))
    matrix = volumeMatrixIn(segmentationNode, volumeNode)
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(source.GetSourceRepresentationName())
    copy.CopySegmentFromSegmentation(source, segmentID, False)
    reference = slicer.vtkOrientedImageData()
    i, j, k = volumeNode.GetImageData().GetDimensions()
    reference.SetExtent(0, i - 1, 0, j - 1, 0, k - 1)
    reference.SetImageToWorldMatrix(toVtkMatrix(matrix))
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
    return fromOrientedImage(segment.GetRepresentation(LABELMAP), segment.GetLabelValue()).cropped()
