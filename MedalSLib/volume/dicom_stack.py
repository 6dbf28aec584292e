"""Where the slices of a DICOM series lie: which of them make one volume, in which order, and on which regular grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_phases import Phases, split_phases
from MedalSLib.volume.dicom_slices import REMEDY_EXPORT, Slice
from MedalSLib.volume.geometry import Grid, swap_ras_lps
from MedalSLib.volume.image import chosen_frame

_SAME_PLACE_PIXELS = 0.05
_SAME_PIXEL = 0.5
_UNEVEN, _UNEVEN_MM, _UNEVEN_AT_MOST = 0.02, 0.06, 0.1
_MULTIPLE, _FEW = 0.1, 0.25
_SIDEWAYS_PIXELS = 0.25
_PARALLEL = 0.999
_FINEST, _HOLE = 4, 5.0
_TILT_DEGREES = 0.5
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Stack:
    """The slices of one volume and the regular grid on which it is laid out.

    Attributes:
        slices: In the order of k.
        grid: Regular grid; where the slices are regular, each of its planes is one of them.
        planes: Fractional index k of each slice on the grid.
        shifts: (n, 2), by how many voxels (j, i) each slice lies off the line of the others.
        resampled: Whether the planes of the grid are not the slices.
        warnings: What the user should know.
    """

    slices: tuple[Slice, ...]
    grid: Grid
    planes: np.ndarray
    shifts: np.ndarray
    resampled: bool
    warnings: tuple[str, ...]


def stack(slices: Sequence[Slice], frame: int | None, path: Path) -> Stack:
    """Sort slices along their normal and give them a grid.

    The axis of the slices follows their positions, so a tilted gantry gives a sheared grid in which each voxel lies
    where it was measured.  Slices at uneven distances, or with some missing, get a regular grid between them.

    Args:
        slices: All slices of a series, in any order.
        frame: Which of several slices at each place, for a 4-D series.
        path: The folder or file, for messages.

    Raises:
        InputError: The series is 4-D and no frame is chosen, slices at one place cannot be told apart, most slices are
            missing, or those of two kinds lie between each other.
    """
    phases = phases_of(slices, path)
    chosen = phases.members[chosen_frame(frame, len(phases.members), path, phases.said)]
    axes = _axes(chosen[0], path)
    ordered = sorted(chosen, key=lambda item: float(np.asarray(item.position) @ axes[2]))
    return _arranged(ordered, axes, list(phases.warnings), path)


def phases_of(slices: Sequence[Slice], path: Path) -> Phases:
    """Return the slices of a volume by phase, without those of another kind.

    Args:
        slices: All slices of a series, in any order.
        path: The folder or file, for messages.

    Raises:
        InputError: Slices at one place cannot be told apart, or those of two kinds lie between each other.
    """
    kept, warnings = _largest_group(slices, path)
    phases = split_phases(_places(kept, _axes(kept[0], path)[2]), path)
    return replace(phases, warnings=(*warnings, *phases.warnings))


def resample_planes(planes: np.ndarray, arranged: Stack) -> np.ndarray:
    """Return the planes (K, J, I) of the stack's grid from those of its slices (n, J, I), by linear interpolation.

    Args:
        planes: The slices' planes, in their order.
        arranged: The stack.
    """
    from scipy.ndimage import shift

    if np.abs(arranged.shifts).max() > _SIDEWAYS_PIXELS:
        moved = [
            shift(plane.astype(np.float32), by, order=1, mode="nearest")
            for plane, by in zip(planes, arranged.shifts, strict=True)
        ]
        planes = np.stack(moved) if planes.dtype.kind == "f" else np.rint(moved).astype(planes.dtype)
    result = np.empty((arranged.grid.shape_kji[0], *planes.shape[1:]), dtype=planes.dtype)
    last = len(planes) - 1
    for k in range(len(result)):
        upper = int(np.clip(np.searchsorted(arranged.planes, k), 1, last))
        below, above = arranged.planes[upper - 1 : upper + 1]
        share = float(np.clip((k - below) / (above - below), 0, 1))
        if min(share, 1 - share) < 1e-3:
            result[k] = planes[upper - 1 + round(share)]
            continue
        mixed = (1 - share) * planes[upper - 1].astype(np.float32) + share * planes[upper].astype(np.float32)
        result[k] = mixed if planes.dtype.kind == "f" else np.rint(mixed)
    return result


def _axes(item: Slice, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    row, column = np.asarray(item.orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(row, column)
    if not 0.9 < np.linalg.norm(normal) < 1.1:
        raise InputError(f"The orientation of the DICOM images in {path} is not valid.", REMEDY_EXPORT)
    return row / np.linalg.norm(row), column / np.linalg.norm(column), normal / np.linalg.norm(normal)


def _arranged(
    chosen: Sequence[Slice], axes: tuple[np.ndarray, np.ndarray, np.ndarray], warnings: list[str], path: Path
) -> Stack:
    row, column, normal = axes
    positions = np.array([item.position for item in chosen], dtype=np.float64)
    along = positions @ normal
    first, count = along[0], len(chosen)
    # The line on which the slices lie, as a position for each millimetre along the normal.
    slope, start = normal, positions[0]
    if count > 1:
        slope, at_zero = np.linalg.lstsq(np.stack([along - first, np.ones(count)], axis=1), positions, rcond=None)[0]
        start = at_zero
    beside = positions - (start + (along - first)[:, None] * slope)
    rows_mm, columns_mm = chosen[0].spacing
    shifts = np.stack([beside @ column / rows_mm, beside @ row / columns_mm], axis=1)
    planes, said = _regular_planes(along, chosen, path)
    step_mm = (along[-1] - first) / max(1.0, planes[-1]) if count > 1 else 1.0
    sideways = float(np.abs(shifts).max())
    if sideways > _SIDEWAYS_PIXELS:
        said.append(
            f"Some slices are moved sideways, by up to {sideways * max(rows_mm, columns_mm):.3g} mm; the image was "
            "resampled so that each voxel lies where it was measured."
        )
    tilt = np.degrees(np.arccos(min(1.0, float(slope @ normal) / float(np.linalg.norm(slope)))))
    if tilt > _TILT_DEGREES:
        said.append(
            f"The slices are sheared by {tilt:.1f} degrees (tilted gantry); the masks will lie on this sheared grid."
        )
    affine = np.eye(4)
    affine[:3, 0] = row * columns_mm
    affine[:3, 1] = column * rows_mm
    affine[:3, 2] = slope * step_mm
    affine[:3, 3] = start
    rows, columns = chosen[0].shape
    grid = Grid((round(planes[-1]) + 1, rows, columns), swap_ras_lps(affine))
    resampled = sideways > _SIDEWAYS_PIXELS or grid.shape_kji[0] != count or bool(np.ptp(planes - np.arange(count)))
    return Stack(tuple(chosen), grid, planes, shifts, resampled, (*warnings, *said))


def _regular_planes(along: np.ndarray, chosen: Sequence[Slice], path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the index of each slice on a regular grid, and what is said about it.

    Args:
        along: Positions along the normal in mm, increasing.
        chosen: The slices.
        path: For messages.
    """
    count = len(along)
    even = np.arange(count, dtype=np.float64)
    if count < 3:
        return even, []
    gaps, length = np.diff(along), float(along[-1] - along[0])
    mean = length / (count - 1)
    off = float(np.abs(along - along[0] - even * mean).max())
    if off <= min(max(_UNEVEN * mean, _UNEVEN_MM), _UNEVEN_AT_MOST * mean):
        return even, []
    usual = float(np.median(gaps))
    steps = np.rint(gaps / usual)
    holes = int(np.count_nonzero(steps > 1))
    if (steps >= 1).all() and 0 < holes <= max(1, _FEW * count) and np.abs(gaps / usual - steps).max() <= _MULTIPLE:
        missing = int(steps.sum()) - (count - 1)
        where = _holes(chosen, steps)
        if missing > count / 2:
            raise InputError(
                f"{missing} slices of the series in {path} are missing, and only {count} are there ({where}).",
                "Export or copy the whole series again.",
            )
        planes = np.concatenate([[0.0], np.cumsum(gaps)]) / (length / steps.sum())
        return planes, [
            f"{missing} slices of the series are missing ({where}); what lies between was interpolated, so that all "
            f"others stay in their place (up to {off:.3g} mm from where even distances would put them)."
        ]
    widest = int(np.argmax(gaps))
    if gaps[widest] > max(length / 2, _HOLE * usual):
        raise InputError(
            f"Between {_name(chosen[widest])} and {_name(chosen[widest + 1])} in {path} there is a gap of "
            f"{gaps[widest]:.4g} mm.",
            "Export or copy the whole series again.",
        )
    if off > mean / 2:
        finest = max(float(gaps.min()), mean / _FINEST)
        number = round(length / finest)  # of a head CT in steps of 2.5 and 5 mm, every slice is kept as it is
    else:
        number = count - 1
    step = length / number
    return (along - along[0]) / step, [
        f"The distance of the slices is not even ({gaps.min():.3g} to {gaps.max():.3g} mm); the image was resampled to "
        f"{number + 1} slices of {step:.3g} mm, since even distances would put slices up to {off:.3g} mm off."
    ]


def _holes(chosen: Sequence[Slice], steps: np.ndarray) -> str:
    names = [
        f"{int(steps[at]) - 1} between {_name(chosen[at])} and {_name(chosen[at + 1])}"
        for at in np.flatnonzero(steps > 1).tolist()
    ]
    more = f"; and in {len(names) - _NAMED} more places" if len(names) > _NAMED else ""
    return "; ".join(names[:_NAMED]) + more


def _name(item: Slice) -> str:
    return item.path.name if item.frames == 1 else f"frame {item.frame + 1}"


def _largest_group(slices: Sequence[Slice], path: Path) -> tuple[list[Slice], list[str]]:
    """Leave out localizers and the like: slices with another orientation, spacing or size than most."""
    groups: list[list[Slice]] = []
    for item in slices:
        group = next((group for group in groups if _same_pixels(group[0], item)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    kept = max(groups, key=len)
    if len(kept) == len(slices):
        return kept, []
    others = [item for group in groups if group is not kept for item in group]
    _check_not_between(kept, others, path)
    return kept, [
        f"{len(others)} images of the series were left out, because their orientation or size differs "
        f"({_listed(others)})."
    ]


def _listed(items: Sequence[Slice]) -> str:
    names = list(dict.fromkeys(_name(item) for item in items))
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _same_pixels(a: Slice, b: Slice) -> bool:
    """Return whether two slices at one position would have the same pixels, but for the last digits of their header."""
    if a.shape != b.shape:
        return False
    return bool(np.linalg.norm(_diagonal(a) - _diagonal(b), axis=1).max() <= _SAME_PIXEL * min(*a.spacing, *b.spacing))


def _diagonal(item: Slice) -> np.ndarray:
    """Return the vectors in mm along the last row and along the last column of a slice."""
    row, column = np.asarray(item.orientation, dtype=np.float64).reshape(2, 3)
    rows, columns = item.shape
    return np.stack([row * item.spacing[1] * (columns - 1), column * item.spacing[0] * (rows - 1)])


def _check_not_between(kept: Sequence[Slice], others: Sequence[Slice], path: Path) -> None:
    """Refuse to leave out slices that are part of the volume: parallel ones at places of their own between the others.

    Raises:
        InputError: There are such slices.
    """
    normal = _axes(kept[0], path)[2]
    along = np.sort([float(np.asarray(item.position) @ normal) for item in kept])
    near = _SAME_PLACE_PIXELS * min(kept[0].spacing)
    between = []
    for item in others:
        row, column = np.asarray(item.orientation, dtype=np.float64).reshape(2, 3)
        place = float(np.asarray(item.position) @ normal)
        parallel = abs(float(np.cross(row, column) @ normal)) > _PARALLEL
        if parallel and along[0] < place < along[-1] and np.abs(along - place).min() > near:
            between.append(item)
    if between:
        raise InputError(
            f"{len(between)} slices in {path} lie between the others, but their size or spacing differs "
            f"({_listed(between)}).",
            REMEDY_EXPORT,
        )


def _places(slices: Sequence[Slice], normal: np.ndarray) -> list[list[Slice]]:
    """Return the slices at each place, in the order of the places along the normal."""
    along = np.array([np.asarray(item.position) @ normal for item in slices])
    near = _SAME_PLACE_PIXELS * min(slices[0].spacing)
    places: list[list[Slice]] = []
    last = -np.inf
    for number in np.argsort(along, kind="stable").tolist():
        if along[number] - last > near:
            places.append([])
            last = along[number]
        places[-1].append(slices[number])
    return places
