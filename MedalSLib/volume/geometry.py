"""Grids and orientation: the only module of the project that flips or permutes an axis.

An image lives on a `Grid`: an array indexed `[k, j, i]` and an affine that takes `(i, j, k)` to RAS millimetres.  The
networks want `(z, y, x)` in a known anatomical orientation; `NetworkFrame` goes there and back along the nearest
permutation and flips of the axes, so nothing is interpolated and an oblique grid stays oblique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.box import Box
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

Bounds = tuple[int, int]
Roi = tuple[Bounds, Bounds, Bounds]
"""Half-open index bounds ((i0, i1), (j0, j1), (k0, k1)) on a grid, in the order in which users and files count."""

_POSITIVE, _NEGATIVE = "RAS", "LPI"
_OPPOSITE = dict(zip(_POSITIVE + _NEGATIVE, _NEGATIVE + _POSITIVE, strict=True))
_SIDES = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REMEDY_AFFINE = (
    "Correct the image's spacing and orientation (in 3D Slicer: Volumes, Volume Information) and try again."
)


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the voxels of an image lie in the patient.

    Attributes:
        shape_kji: Number of voxels along k, j, i, the axes of the array.
        affine_ras: 4x4, takes the index (i, j, k) of a voxel's centre to RAS millimetres; read-only, float64.

    Raises:
        InputError: The shape is not three positive sizes, or the affine is not a finite, invertible 4x4 matrix.
    """

    shape_kji: tuple[int, int, int]
    affine_ras: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape_kji)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(
                f"The image has the shape {'x'.join(map(str, shape))}, not three sizes of at least one voxel.",
                "Choose a 3-D image; of a 4-D image, choose one frame.",
            )
        affine = np.array(self.affine_ras, dtype=np.float64)
        _check_affine(affine)
        affine.setflags(write=False)
        object.__setattr__(self, "shape_kji", shape)
        object.__setattr__(self, "affine_ras", affine)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        return self.shape_kji == other.shape_kji and np.array_equal(self.affine_ras, other.affine_ras)

    def __hash__(self) -> int:
        return hash((self.shape_kji, tuple(self.affine_ras.ravel().tolist())))

    @property
    def shape_ijk(self) -> tuple[int, int, int]:
        """Number of voxels along i, j, k."""
        k, j, i = self.shape_kji
        return i, j, k

    @property
    def spacing_ijk(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine_ras[:3, :3], axis=0).tolist()
        return i, j, k

    @property
    def spacing_kji(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxel centres along k, j, i in mm."""
        i, j, k = self.spacing_ijk
        return k, j, i

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of a voxel in millilitres (right for sheared grids too)."""
        return float(abs(np.linalg.det(self.affine_ras[:3, :3]))) / 1000.0

    @property
    def directions(self) -> np.ndarray:
        """3x3, columns are the unit vectors of i, j, k in RAS."""
        return self.affine_ras[:3, :3] / np.asarray(self.spacing_ijk)

    @property
    def orientation(self) -> str:
        """Letters of the directions to which i, j, k grow, nearest axis ("LPS" for a usual axial CT)."""
        columns, signs = _nearest_axes(self.directions)
        return "".join((_POSITIVE if sign > 0 else _NEGATIVE)[row] for row, sign in zip(columns, signs, strict=True))

    @property
    def whole_box(self) -> Roi:
        """Bounds of the whole grid."""
        i, j, k = self.shape_ijk
        return (0, i), (0, j), (0, k)

    def index_to_ras(self, index_ijk: np.ndarray | Sequence[float]) -> np.ndarray:
        """Return RAS positions in mm of indices (..., 3) in the order i, j, k; fractions are allowed."""
        index = np.asarray(index_ijk, dtype=np.float64)
        return index @ self.affine_ras[:3, :3].T + self.affine_ras[:3, 3]

    def ras_to_index(self, position_ras: np.ndarray | Sequence[float]) -> np.ndarray:
        """Return fractional indices (..., 3) in the order i, j, k of RAS positions in mm."""
        offset = np.asarray(position_ras, dtype=np.float64) - self.affine_ras[:3, 3]
        return offset @ np.linalg.inv(self.affine_ras[:3, :3]).T

    def clip_box(self, box: Sequence[Sequence[int]]) -> Roi:
        """Return the part of `box` that lies on the grid.

        Raises:
            InputError: Not three pairs of integers, or nothing of the box lies on the grid.
        """
        pairs = [tuple(int(bound) for bound in pair) for pair in box]
        if len(pairs) != 3 or any(len(pair) != 2 for pair in pairs):
            raise InputError("A region needs three pairs of index bounds.", "Give it as i0,i1,j0,j1,k0,k1.")
        clipped = [(max(0, low), min(size, high)) for (low, high), size in zip(pairs, self.shape_ijk, strict=True)]
        if any(low >= high for low, high in clipped):
            raise InputError(
                f"The region {tuple(pairs)} contains no voxel of the image, which has {self.shape_ijk} voxels.",
                "Move the region onto the image.",
            )
        i, j, k = clipped
        return i, j, k

    def crop(self, box: Sequence[Sequence[int]]) -> Grid:
        """Return the grid of the voxels in `box`; each keeps its place in the patient."""
        (i0, i1), (j0, j1), (k0, k1) = self.clip_box(box)
        affine = self.affine_ras.copy()
        affine[:3, 3] = self.index_to_ras((i0, j0, k0))
        return Grid((k1 - k0, j1 - j0, i1 - i0), affine)

    def sides_touched(self, mask: BoxMask) -> tuple[str, ...]:
        """Return at which sides of the grid a mask (K, J, I) ends with the image ("feet", "left", ...)."""
        if mask.box is None:
            return ()
        touched = []
        for letter, (start, stop), size in zip(self.orientation, mask.box[::-1], self.shape_ijk, strict=True):
            if stop == size:
                touched.append(_SIDES[letter])
            if start == 0:
                touched.append(_SIDES[_OPPOSITE[letter]])
        return tuple(touched)

    @property
    def is_sheared(self) -> bool:
        """Whether two axes are not perpendicular, but for rounding: half a voxel over the whole grid is more."""
        cosines = np.abs(self.directions.T @ self.directions - np.eye(3))
        reach = np.asarray(self.shape_ijk) * np.asarray(self.spacing_ijk)
        return bool((cosines * reach[None, :]).max() > min(self.spacing_ijk) / 2)

    def unsheared(self) -> Grid:
        """Return a grid with perpendicular axes that holds every voxel of this one, with the same i and j axes.

        The third axis becomes the normal of the slices; there are as many of them, at their own distance.
        """
        first = self.affine_ras[:3, 0]
        normal = np.cross(first, self.affine_ras[:3, 1])
        normal /= np.linalg.norm(normal)
        second = np.cross(normal, first)
        second *= np.linalg.norm(self.affine_ras[:3, 1]) / np.linalg.norm(second)
        step = float(self.affine_ras[:3, 2] @ normal)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([first, second, normal * step], axis=1)
        upright = np.linalg.inv(affine[:3, :3])
        corners = self.corners_ras() @ upright.T
        low = corners.min(axis=0)
        affine[:3, 3] = affine[:3, :3] @ low
        i, j, k = (int(count) for count in np.ceil(corners.max(axis=0) - low - 1e-6) + 1)
        return Grid((k, j, i), affine)

    def corners_ras(self) -> np.ndarray:
        """Return (8, 3) RAS positions in mm of the centres of the corner voxels."""
        last = np.asarray(self.shape_ijk) - 1
        corners = np.stack(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij"), axis=-1).reshape(8, 3)
        return self.index_to_ras(corners * last)


@dataclass(frozen=True)
class NetworkFrame:
    """Axis order and flips between an array [k, j, i] and the network's [d, h, w] = [z, y, x] in a fixed orientation.

    Attributes:
        grid: Grid of the image.
        code: Letters of the directions to which x, y, z grow; "LPS" is left, back, head.

    Raises:
        InputError: `code` does not name each anatomical axis once.
    """

    grid: Grid
    code: str = "LPS"

    def __post_init__(self) -> None:
        _parse_code(self.code)

    @cached_property
    def _layout(self) -> tuple[tuple[int, int, int], tuple[int, ...]]:
        """Array axis (of k, j, i) that becomes d, h, w; and which of d, h, w are flipped (as negative axes)."""
        rows, signs = _nearest_axes(self.grid.directions)
        axis_of_row = {row: 2 - column for column, row in enumerate(rows)}
        sign_of_row = dict(zip(rows, signs, strict=True))
        wanted = _parse_code(self.code)[::-1]
        d, h, w = (axis_of_row[row] for row, _ in wanted)
        flips = tuple(axis - 3 for axis, (row, sign) in enumerate(wanted) if sign_of_row[row] != sign)
        return (d, h, w), flips

    @property
    def shape_dhw(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        d, h, w = (self.grid.shape_kji[axis] for axis in self._layout[0])
        return d, h, w

    @property
    def spacing_dhw(self) -> tuple[float, float, float]:
        """Voxel spacing along z, y, x in mm."""
        d, h, w = (self.grid.spacing_kji[axis] for axis in self._layout[0])
        return d, h, w

    @cached_property
    def network_grid(self) -> Grid:
        """Grid of the [d, h, w] array: takes the index (x, y, z) to RAS millimetres."""
        order, flips = self._layout
        flipped = {axis + 3 for axis in flips}
        affine = np.eye(4)
        origin_ijk = np.zeros(3)
        for axis, kji_axis in enumerate(order):
            column = self.grid.affine_ras[:3, 2 - kji_axis]
            affine[:3, 2 - axis] = -column if axis in flipped else column
            if axis in flipped:
                origin_ijk[2 - kji_axis] = self.grid.shape_kji[kji_axis] - 1
        affine[:3, 3] = self.grid.index_to_ras(origin_ijk)
        return Grid(self.shape_dhw, affine)

    def slice_from_network(self, index_d: int) -> tuple[int, int]:
        """Return axis (0, 1, 2 for K, J, I) and index in the image of a slice normal to the network's first axis."""
        order, flips = self._layout
        axis = order[0]
        return axis, self.grid.shape_kji[axis] - 1 - index_d if -3 in flips else index_d

    def to_network(self, array_kji: np.ndarray) -> np.ndarray:
        """Return a view [d, h, w] of an array [k, j, i] on the grid.

        Raises:
            InputError: The array is on another grid.
        """
        self._check(array_kji, self.grid.shape_kji)
        order, flips = self._layout
        view = array_kji.transpose(order)
        return np.flip(view, flips) if flips else view

    def mask_to_network(self, mask_kji: BoxMask) -> BoxMask:
        """Return a mask (K, J, I) on the grid as one of the frame (D, H, W)."""
        order, flips = self._layout
        return mask_kji.turned(order, [axis + 3 for axis in flips])

    def mask_from_network(self, mask_dhw: BoxMask) -> BoxMask:
        """Return a mask (D, H, W) of the frame as one on the grid (K, J, I)."""
        return mask_dhw.turned(*self._back)

    def array_from_network(self, array_dhw: BoxArray) -> BoxArray:
        """Return labels or probabilities (D, H, W) of the frame as those on the grid (K, J, I), a view."""
        return array_dhw.turned(*self._back)

    @cached_property
    def _back(self) -> tuple[list[int], list[int]]:
        """Axis of d, h, w that becomes k, j, i; and which of k, j, i are flipped."""
        order, flips = self._layout
        return np.argsort(order).tolist(), [order[axis + 3] for axis in flips]

    def roi_to_network(self, roi: Sequence[Sequence[int]]) -> Box:
        """Return the box along d, h, w that holds the voxels of `roi` = ((i0, i1), (j0, j1), (k0, k1)).

        Raises:
            InputError: Nothing of the region lies on the grid.
        """
        bounds_kji = self.grid.clip_box(roi)[::-1]
        order, flips = self._layout
        d, h, w = (
            _mirror(bounds_kji[kji_axis], self.shape_dhw[axis]) if axis - 3 in flips else bounds_kji[kji_axis]
            for axis, kji_axis in enumerate(order)
        )
        return d, h, w

    @staticmethod
    def _check(array: np.ndarray, shape: tuple[int, int, int]) -> None:
        if array.shape != shape:
            raise InputError(
                f"An array of the shape {'x'.join(map(str, array.shape))} does not lie on the image's grid of "
                f"{'x'.join(map(str, shape))} voxels.",
                "Bring it onto the image's grid first.",
            )


def same_grid(a: Grid, b: Grid, tolerance: float = 0.05) -> bool:
    """Return whether two grids are the same but for rounding in their files.

    Args:
        a: One grid.
        b: The other.
        tolerance: Largest distance of corresponding corners, as a share of the smallest voxel edge.
    """
    if a.shape_kji != b.shape_kji:
        return False
    distance = np.linalg.norm(a.corners_ras() - b.corners_ras(), axis=1).max()
    return bool(distance <= tolerance * min(*a.spacing_ijk, *b.spacing_ijk))


def swap_ras_lps(affine: np.ndarray) -> np.ndarray:
    """Return a 4x4 to LPS millimetres from one to RAS millimetres, or the other way round."""
    return _RAS_LPS @ np.asarray(affine, dtype=np.float64)


def grid_from_lps(
    shape_kji: Sequence[int], origin_lps: Sequence[float], spacing_ijk: Sequence[float], direction: Sequence[float]
) -> Grid:
    """Return the grid of an ITK image.

    Args:
        shape_kji: Voxels along k, j, i.
        origin_lps: LPS position in mm of the first voxel.
        spacing_ijk: Spacing along i, j, k in mm.
        direction: Nine cosines by row; columns are the directions of i, j, k in LPS.

    Raises:
        InputError: Zero, negative or non-finite spacing, or an axis that is no direction.
    """
    spacing = np.asarray(spacing_ijk, dtype=np.float64)
    if spacing.shape != (3,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise InputError(f"The image's voxel spacing is {tuple(spacing.tolist())} mm.", _REMEDY_AFFINE)
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(direction, dtype=np.float64).reshape(3, 3) * spacing
    affine[:3, 3] = origin_lps
    k, j, i = shape_kji
    return Grid((k, j, i), swap_ras_lps(affine))


def lps_of_grid(grid: Grid) -> tuple[list[float], list[float], list[float]]:
    """Return origin, spacing and direction (nine cosines by row) of a grid as ITK and DICOM want them, in LPS."""
    affine = swap_ras_lps(grid.affine_ras)
    spacing = np.asarray(grid.spacing_ijk)
    return affine[:3, 3].tolist(), spacing.tolist(), (affine[:3, :3] / spacing).ravel().tolist()


def axial_grid(shape_dhw: Sequence[int], spacing_dhw: Sequence[float], code: str = "LPS") -> Grid:
    """Return an upright grid at the origin whose x, y, z axes (i, j, k) grow to the directions of `code`.

    For arrays without a position in the patient, such as the challenge's npz files.

    Args:
        shape_dhw: Voxels along z, y, x.
        spacing_dhw: Spacing along z, y, x in mm.
        code: Letters of the directions to which x, y, z grow.
    """
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, ((row, sign), spacing) in enumerate(zip(_parse_code(code), tuple(spacing_dhw)[::-1], strict=True)):
        affine[row, column] = sign * spacing
    k, j, i = shape_dhw
    return Grid((k, j, i), affine)


def checked_orientation(code: str) -> str:
    """Return an orientation code such as "LAS" in capitals.

    Raises:
        InputError: It does not name each anatomical axis once.
    """
    _parse_code(code.upper())
    return code.upper()


def _mirror(bounds: Bounds, size: int) -> Bounds:
    return size - bounds[1], size - bounds[0]


def _check_affine(affine: np.ndarray) -> None:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise InputError("The image's affine is not a 4x4 matrix of finite numbers.", _REMEDY_AFFINE)
    if not np.allclose(affine[3], (0, 0, 0, 1)):
        raise InputError("The last row of the image's affine is not 0 0 0 1.", _REMEDY_AFFINE)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if (spacing <= 0).any():
        raise InputError(f"The image's voxel spacing is {tuple(spacing.tolist())} mm.", _REMEDY_AFFINE)
    if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-4:
        raise InputError("Two axes of the image point in the same direction.", _REMEDY_AFFINE)


def _nearest_axes(directions: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for each column, the RAS axis it is assigned to and its sign: the nearest signed permutation.

    Of all assignments in which no axis is perpendicular to its own direction, the one with the largest sum of cosines.
    """
    size = np.abs(directions)

    def fit(rows: tuple[int, ...]) -> tuple[bool, float]:
        cosines = [size[row, column] for column, row in enumerate(rows)]
        return min(cosines) > 1e-9, round(float(sum(cosines)), 9)

    best = max(permutations(range(3)), key=fit)
    return best, tuple(1 if directions[row, column] > 0 else -1 for column, row in enumerate(best))


def _parse_code(code: str) -> tuple[tuple[int, int], ...]:
    """Return (RAS axis, sign) of each letter."""
    pairs = tuple(
        (_POSITIVE.index(letter), 1) if letter in _POSITIVE else (_NEGATIVE.index(letter), -1)
        for letter in code
        if letter in _POSITIVE + _NEGATIVE
    )
    if len(code) != 3 or {row for row, _ in pairs} != {0, 1, 2}:
        raise InputError(
            f"The orientation code '{code}' does not name each axis once.",
            "Use one letter each of L/R, A/P and S/I, such as LPS.",
        )
    return pairs
