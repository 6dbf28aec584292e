"""vtkOrientedImageData to `BoxMask` and back.

A lattice is the endless grid of a 4x4 matrix: index (i, j, k) to RAS millimetres of the node that has the voxels.
Segments are stored and written as boxes on a lattice, so the cost follows the size of the structure and not that of
the image.  Masks and their boxes have the axes (K, J, I) here; VTK gives extents in the order i, j, k.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from MedalSLib.volume.box import EMPTY, Box, Shape, corner_of, intersection, relative, shape_of, slices
from MedalSLib.volume.mask import BoxMask

UNBOUNDED: Shape = (0, 0, 0)
"""Shape of masks on a lattice, which has no ends: a segment may reach beyond any image, to negative indices too."""
LATTICE_TOLERANCE = 0.01
"""Largest distance, in voxels, of two lattices' points that still counts as the same point."""
SLAB_VOXELS = 4_000_000
"""Voxels that are interpolated in one call, which takes some ten milliseconds and cannot be interrupted."""
_FULL = 200
"""Value of a full voxel while it is interpolated."""


def toOrientedImage(mask: BoxMask, matrix: np.ndarray) -> Any:
    """Return a vtkOrientedImageData (0 and 1, unsigned char) with the voxels of a mask on the lattice `matrix`."""
    return _image(mask.crop().view(np.uint8), mask.box or EMPTY, matrix)


def fromOrientedImage(image: Any, label: int, within: Box | None = None) -> BoxMask:
    """Return the voxels of a vtkOrientedImageData that have the value `label`, on the image's own lattice.

    Args:
        image: The image.
        label: Value that counts.
        within: Look at this part of the lattice only.
    """
    array, box = _voxels(image), _boxOf(image.GetExtent())
    part = box if within is None else intersection(within, box)
    if array is None or part is None:
        return BoxMask.empty(UNBOUNDED)
    return BoxMask.from_crop(array[slices(relative(part, box))] == label, corner_of(part), UNBOUNDED)


def countVoxels(image: Any, label: int) -> int:
    """Return how many voxels of a vtkOrientedImageData have the value `label`."""
    array = _voxels(image)
    return 0 if array is None else int(np.count_nonzero(array == label))


def hasLabel(image: Any, label: int) -> bool:
    """Whether a vtkOrientedImageData has a voxel of the value `label`; looks no further than the first."""
    array = _voxels(image)
    return array is not None and any((plane == label).any() for plane in array)


def matrixOfImage(image: Any) -> np.ndarray:
    """Return the 4x4 index-to-RAS matrix of a vtkOrientedImageData."""
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return fromVtkMatrix(matrix)


def fromVtkMatrix(matrix: Any) -> np.ndarray:
    """Return a vtkMatrix4x4 as a (4, 4) array."""
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def toVtkMatrix(array: np.ndarray) -> Any:
    """Return a (4, 4) array as a vtkMatrix4x4."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy([float(value) for value in np.asarray(array).ravel()])
    return matrix


def resampled(
    mask: BoxMask, matrix: np.ndarray, target: np.ndarray, box: Box | None = None, transform: Any = None
) -> BoxMask:
    """Return a mask on another lattice; exact if the lattices have their points in common.

    Otherwise the voxels are interpolated linearly and count from one half on.  Nearest neighbour would shift a shape by
    up to half a voxel towards one side where points of the lattices lie halfway between each other.

    Args:
        mask: The mask.
        matrix: Its lattice.
        target: Lattice of the result.
        box: Bounds of the result on `target`; None for none, only without a transform.
        transform: vtkAbstractTransform from the RAS of `matrix` to that of `target`; None for none.
    """
    if mask.box is None:
        return BoxMask.empty(UNBOUNDED)
    if transform is None:
        offset = latticeOffset(matrix, target, mask.box)
        if offset is not None:
            moved = mask.placed(offset, UNBOUNDED)
            return moved if box is None else moved.limited(box)
        reached = _reach(mask.box, matrix, target)
        box = reached if box is None else intersection(box, reached)
    if box is None:
        return BoxMask.empty(UNBOUNDED)
    # One empty voxel all round: outside the image the resampler repeats the border otherwise.
    padded = np.pad(mask.crop().view(np.uint8) * np.uint8(_FULL), 1)
    k, j, i = ((low - 1, high + 1) for low, high in mask.box)
    source = _image(padded, (k, j, i), matrix)
    voxels = np.zeros(shape_of(box), bool)
    for slab in _slabs(box):
        voxels[slices(relative(slab, box))] = _interpolated(source, target, slab, transform)
    return BoxMask.from_crop(voxels, corner_of(box), UNBOUNDED)


def latticeOffset(matrix: np.ndarray, target: np.ndarray, box: Box) -> Shape | None:
    """Return the whole-voxel shift (k, j, i) from one lattice's indices to another's, None if the lattices differ.

    Args:
        matrix: The lattice on which `box` is given.
        target: The other lattice.
        box: Where they have to agree; rounding in the matrices grows with the distance.
    """
    corners = _corners(box)
    moved = _transformed(corners, np.linalg.inv(target) @ matrix)
    offset = np.rint((moved - corners)[0])
    if np.abs(moved - corners - offset).max() > LATTICE_TOLERANCE:
        return None
    i, j, k = (int(value) for value in offset)
    return k, j, i


def _reach(box: Box, matrix: np.ndarray, target: np.ndarray) -> Box:
    """Return the bounds on another lattice that hold all of a box, with a voxel to spare."""
    moved = _transformed(_corners(box) - 0.5, np.linalg.inv(target) @ matrix)
    low, high = np.floor(moved.min(axis=0)).astype(int), np.ceil(moved.max(axis=0)).astype(int) + 1
    i, j, k = ((int(start), int(stop)) for start, stop in zip(low, high, strict=True))
    return k, j, i


def _corners(box: Box) -> np.ndarray:
    """Return the eight corners of a box as indices (8, 3) in the order i, j, k, the lowest first."""
    return np.array([[box[2 - axis][bit >> axis & 1] for axis in range(3)] for bit in range(8)], float)


def _transformed(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    moved: np.ndarray = points @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _slabs(box: Box) -> Iterator[Box]:
    """Divide a box along k into slabs of about `SLAB_VOXELS`."""
    (k0, k1), (j0, j1), (i0, i1) = box
    thickness = max(1, SLAB_VOXELS // max(1, (i1 - i0) * (j1 - j0)))
    for k in range(k0, k1, thickness):
        yield (k, min(k + thickness, k1)), (j0, j1), (i0, i1)


def _interpolated(source: Any, target: np.ndarray, box: Box, transform: Any) -> np.ndarray:
    """Return which voxels of a box are more full than not, boolean (K, J, I)."""
    reference, output = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetExtent(*_extent(box))
    reference.SetImageToWorldMatrix(toVtkMatrix(target))
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source, reference, output, True, False, transform
    )
    array, found = _voxels(output), _boxOf(output.GetExtent())
    inside = np.zeros(shape_of(box), bool)
    shared = None if array is None else intersection(box, found)
    if array is not None and shared is not None:  # the resampler may leave out what the source does not reach
        inside[slices(relative(shared, box))] = array[slices(relative(shared, found))] >= _FULL // 2
    return inside


def _image(voxels: np.ndarray, box: Box, matrix: np.ndarray) -> Any:
    """Return a vtkOrientedImageData of unsigned char voxels (K, J, I), which are copied."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*_extent(box))
    image.SetImageToWorldMatrix(toVtkMatrix(matrix))
    scalars = numpy_to_vtk(voxels.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def _voxels(image: Any) -> np.ndarray | None:
    """Return the voxels (K, J, I) of a vtkOrientedImageData as they are in memory, None if it has none."""
    scalars, shape = image.GetPointData().GetScalars(), shape_of(_boxOf(image.GetExtent()))
    if scalars is None or min(shape) <= 0:
        return None
    array: np.ndarray = vtk_to_numpy(scalars).reshape(shape)
    return array


def _boxOf(extent: tuple[int, ...]) -> Box:
    i0, i1, j0, j1, k0, k1 = extent
    return (k0, k1 + 1), (j0, j1 + 1), (i0, i1 + 1)


def _extent(box: Box) -> tuple[int, int, int, int, int, int]:
    (k0, k1), (j0, j1), (i0, i1) = box
    return i0, i1 - 1, j0, j1 - 1, k0, k1 - 1
