"""Boxes of voxels between numpy and VTK.

A lattice is the endless grid that a 4x4 matrix spans: index (i, j, k) to RAS millimetres.  A `Patch` is a box of
boolean voxels on it; segments are stored and written as such boxes, so the cost follows the size of the structure and
not that of the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from MedalSLib.volume.geometry import Box

LATTICE_TOLERANCE = 0.01
"""Largest distance, in voxels, of two lattices' points that still counts as the same point."""
SLAB_VOXELS = 4_000_000
"""Voxels that are interpolated in one call, which takes some ten milliseconds and cannot be interrupted."""
_FULL = 200
"""Value of a full voxel while it is interpolated."""


@dataclass(frozen=True, eq=False)
class Patch:
    """A box of boolean voxels on a lattice.

    Attributes:
        mask: Boolean (K, J, I).
        start: Lattice index (i, j, k) of `mask[0, 0, 0]`; may be negative.
        matrix: 4x4, lattice index (i, j, k) to RAS millimetres of the node that owns the voxels.
    """

    mask: np.ndarray
    start: tuple[int, int, int]
    matrix: np.ndarray

    @property
    def box(self) -> Box:
        """Half-open lattice bounds ((i0, i1), (j0, j1), (k0, k1))."""
        (i, j, k), (ni, nj, nk) = self.start, self.mask.shape[::-1]
        return (i, i + ni), (j, j + nj), (k, k + nk)

    @property
    def isEmpty(self) -> bool:
        """Whether no voxel is set."""
        return self.mask.size == 0 or not self.mask.any()

    def cropped(self) -> Patch:
        """Return the smallest patch that holds all set voxels."""
        bounds = boundingBox(self.mask)
        if bounds is None:
            return Patch(np.zeros((0, 0, 0), bool), self.start, self.matrix)
        (i0, i1), (j0, j1), (k0, k1) = bounds
        i, j, k = self.start
        return Patch(self.mask[k0:k1, j0:j1, i0:i1], (i + i0, j + j0, k + k0), self.matrix)

    def slices(self, box: Box) -> tuple[slice, slice, slice]:
        """Return where a box within the patch lies in `mask`."""
        i, j, k = (slice(low - start, high - start) for (low, high), start in zip(box, self.start, strict=True))
        return k, j, i

    def on(self, box: Box) -> np.ndarray:
        """Return a boolean (K, J, I) copy of the voxels in `box`; False outside the patch."""
        (i0, i1), (j0, j1), (k0, k1) = box
        out = np.zeros((max(0, k1 - k0), max(0, j1 - j0), max(0, i1 - i0)), bool)
        common = intersection(box, self.box)
        if common is not None:
            (a0, a1), (b0, b1), (c0, c1) = common
            i, j, k = self.start
            out[c0 - k0 : c1 - k0, b0 - j0 : b1 - j0, a0 - i0 : a1 - i0] = self.mask[
                c0 - k : c1 - k, b0 - j : b1 - j, a0 - i : a1 - i
            ]
        return out


def emptyPatch(matrix: np.ndarray) -> Patch:
    """Return a patch without voxels."""
    return Patch(np.zeros((0, 0, 0), bool), (0, 0, 0), matrix)


def patchOf(mask: np.ndarray, box: Box, matrix: np.ndarray) -> Patch:
    """Return the patch of the voxels `mask` (K, J, I) of a box."""
    return Patch(mask, (box[0][0], box[1][0], box[2][0]), matrix)


def boundingBox(mask: np.ndarray) -> Box | None:
    """Return the half-open bounds of the set voxels of a boolean (K, J, I) array, None if there are none.

    Reads eight voxels at a time where the rows allow it: a 512x512x300 mask takes some ten milliseconds.
    """
    if mask.size == 0:
        return None
    wide = mask.view(np.uint64) if mask.flags.c_contiguous and mask.shape[2] % 8 == 0 else mask.view(np.uint8)
    ks = np.flatnonzero(wide.max(axis=(1, 2)))
    if not ks.size:
        return None
    k0, k1 = int(ks[0]), int(ks[-1]) + 1
    js = np.flatnonzero(wide[k0:k1].max(axis=(0, 2)))
    j0, j1 = int(js[0]), int(js[-1]) + 1
    rows = np.bitwise_or.reduce(wide[k0:k1, j0:j1], axis=(0, 1))
    columns = np.flatnonzero(np.ascontiguousarray(rows).view(np.uint8))
    return (int(columns[0]), int(columns[-1]) + 1), (j0, j1), (k0, k1)


def intersection(a: Box, b: Box) -> Box | None:
    """Return the bounds that two boxes share, None if they share nothing."""
    (i, j, k) = [(max(p[0], q[0]), min(p[1], q[1])) for p, q in zip(a, b, strict=True)]
    return None if i[0] >= i[1] or j[0] >= j[1] or k[0] >= k[1] else (i, j, k)


def union(*boxes: Box) -> Box:
    """Return the smallest box that holds all the given ones; boxes without voxels do not count."""
    full = [box for box in boxes if all(low < high for low, high in box)]
    if not full:
        return (0, 0), (0, 0), (0, 0)
    i, j, k = [(min(box[axis][0] for box in full), max(box[axis][1] for box in full)) for axis in range(3)]
    return i, j, k


def sameVoxels(a: Patch, b: Patch) -> bool:
    """Whether two patches of one lattice have the same voxels set."""
    a, b = a.cropped(), b.cropped()
    return a.mask.size == b.mask.size == 0 or (a.box == b.box and np.array_equal(a.mask, b.mask))


def latticeOffset(matrix: np.ndarray, target: np.ndarray, box: Box) -> tuple[int, int, int] | None:
    """Return the whole-voxel shift that takes indices of one lattice to another, None if the lattices differ.

    Args:
        matrix: The lattice on which `box` is given.
        target: The other lattice.
        box: Where they have to agree; rounding in the matrices grows with the distance.
    """
    relation = np.linalg.inv(target) @ matrix
    offset = np.rint(relation[:3, 3] + (relation[:3, :3] - np.eye(3)) @ [bounds[0] for bounds in box])
    corners = np.array([[box[axis][bit >> axis & 1] for axis in range(3)] for bit in range(8)], float)
    moved = corners @ relation[:3, :3].T + relation[:3, 3]
    if np.abs(moved - corners - offset).max() > LATTICE_TOLERANCE:
        return None
    i, j, k = (int(value) for value in offset)
    return i, j, k


def resampled(patch: Patch, matrix: np.ndarray, box: Box, transform: Any = None) -> Patch:
    """Return `patch` on another lattice; exact if the lattices have their points in common.

    Otherwise the voxels are interpolated linearly and count from one half on.  Nearest neighbour would shift a shape by
    up to half a voxel towards one side where points of the lattices lie halfway between each other.

    Args:
        patch: Voxels on their own lattice.
        matrix: Lattice of the answer.
        box: Bounds of the answer on `matrix`.
        transform: vtkAbstractTransform from the RAS of `patch` to that of `matrix`; None for none.
    """
    cropped = patch.cropped()
    if cropped.isEmpty:
        return emptyPatch(matrix)
    if transform is None:
        offset = latticeOffset(cropped.matrix, matrix, cropped.box)
        if offset is not None:
            i, j, k = (start + shift for start, shift in zip(cropped.start, offset, strict=True))
            moved = Patch(cropped.mask, (i, j, k), matrix)
            return patchOf(moved.on(box), box, matrix)
        near = reach(cropped, matrix)
        common = intersection(box, near)
        if common is None:
            return emptyPatch(matrix)
        box = common
    source = toOrientedImage(_padded(cropped), _FULL)
    out = Patch(np.zeros([high - low for low, high in box[::-1]], bool), (box[0][0], box[1][0], box[2][0]), matrix)
    for slab in slabs(box):
        out.mask[out.slices(slab)] = _interpolated(source, matrix, slab, transform)
    return out


def slabs(box: Box) -> Iterator[Box]:
    """Divide a box along k into slabs of about `SLAB_VOXELS`."""
    (i0, i1), (j0, j1), (k0, k1) = box
    thickness = max(1, SLAB_VOXELS // max(1, (i1 - i0) * (j1 - j0)))
    for k in range(k0, k1, thickness):
        yield (i0, i1), (j0, j1), (k, min(k + thickness, k1))


def reach(patch: Patch, matrix: np.ndarray) -> Box:
    """Return the bounds on another lattice that hold all of a patch, with a voxel to spare."""
    corners = np.array([[patch.box[axis][bit >> axis & 1] for axis in range(3)] for bit in range(8)], float) - 0.5
    relation = np.linalg.inv(matrix) @ patch.matrix
    moved = corners @ relation[:3, :3].T + relation[:3, 3]
    low, high = np.floor(moved.min(axis=0)).astype(int), np.ceil(moved.max(axis=0)).astype(int) + 1
    i, j, k = [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    return i, j, k


def toOrientedImage(patch: Patch, value: int = 1) -> Any:
    """Return a vtkOrientedImageData (0 and `value`, unsigned char) with the voxels of a patch; they are copied."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*_extent(patch.box))
    image.SetImageToWorldMatrix(toVtkMatrix(patch.matrix))
    voxels = np.ascontiguousarray(patch.mask).view(np.uint8)
    scalars = numpy_to_vtk((voxels if value == 1 else voxels * np.uint8(value)).ravel(), deep=True)
    scalars.SetName("ImageScalars")
    image.GetPointData().SetScalars(scalars)
    return image


def fromOrientedImage(image: Any, label: int | None = None, within: Box | None = None) -> Patch:
    """Return the voxels of a vtkOrientedImageData that have the value `label` (any but 0 if None), as a patch.

    Args:
        image: The image.
        label: Value that counts.
        within: Read this part of the image's own lattice only.
    """
    matrix = matrixOfImage(image)
    array = _voxels(image)
    if array is None:
        return emptyPatch(matrix)
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if within is not None:
        common = intersection(within, ((i0, i1 + 1), (j0, j1 + 1), (k0, k1 + 1)))
        if common is None:
            return emptyPatch(matrix)
        (a0, a1), (b0, b1), (c0, c1) = common
        array = array[c0 - k0 : c1 - k0, b0 - j0 : b1 - j0, a0 - i0 : a1 - i0]
        i0, j0, k0 = a0, b0, c0
    return Patch(array != 0 if label is None else array == label, (i0, j0, k0), matrix)


def holds(image: Any, label: int) -> bool:
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


def _voxels(image: Any) -> np.ndarray | None:
    """Return the voxels (K, J, I) of a vtkOrientedImageData as they are in memory, None if it has none."""
    scalars = image.GetPointData().GetScalars()
    i0, i1, j0, j1, k0, k1 = image.GetExtent()
    if scalars is None or i0 > i1 or j0 > j1 or k0 > k1:
        return None
    array: np.ndarray = vtk_to_numpy(scalars).reshape(_shape(image.GetExtent()))
    return array


def _interpolated(source: Any, matrix: np.ndarray, box: Box, transform: Any) -> np.ndarray:
    """Return which voxels of a box are more full than not, boolean (K, J, I)."""
    reference = slicer.vtkOrientedImageData()
    reference.SetExtent(*_extent(box))
    reference.SetImageToWorldMatrix(toVtkMatrix(matrix))
    output = slicer.vtkOrientedImageData()
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        source, reference, output, True, False, transform
    )
    array = vtk_to_numpy(output.GetPointData().GetScalars()).reshape(_shape(output.GetExtent()))
    i0, _, j0, _, k0, _ = output.GetExtent()
    return Patch(array >= _FULL // 2, (i0, j0, k0), matrix).on(box)


def _shape(extent: tuple[int, ...]) -> tuple[int, int, int]:
    i0, i1, j0, j1, k0, k1 = extent
    return k1 - k0 + 1, j1 - j0 + 1, i1 - i0 + 1


def _extent(box: Box) -> tuple[int, int, int, int, int, int]:
    (i0, i1), (j0, j1), (k0, k1) = box
    return i0, i1 - 1, j0, j1 - 1, k0, k1 - 1


def _padded(patch: Patch) -> Patch:
    """One empty voxel all round: outside the image the resampler repeats the border otherwise."""
    i, j, k = patch.start
    return Patch(np.pad(patch.mask, 1), (i - 1, j - 1, k - 1), patch.matrix)
