"""Which files of a DICOM folder make one volume, in which order, and on which grid."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading
from MedalSLib.volume.geometry import Grid, swap_ras_lps
from MedalSLib.volume.image import chosen_frame

_TAGS = [
    "SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Modality",
    "InstanceNumber", "AcquisitionNumber", "TemporalPositionIdentifier", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
]  # fmt: skip
_NOT_IMAGES = {"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC"}
_SAME_PLACE_MM = 0.01
_UNEVEN = 0.02
_TILT_DEGREES = 0.5
_REMEDY_EXPORT = "Load the series into 3D Slicer and save the volume as .nrrd."


@dataclass(frozen=True)
class Slice:
    """One slice of a series: a file, or a frame of a multi-frame file.

    Attributes:
        path: The file.
        position: LPS position in mm of the first voxel's centre.
        orientation: Six cosines in LPS: direction of the rows, then of the columns.
        spacing: Distance in mm of rows, then of columns.
        shape: Rows, columns.
        order: What tells slices at the same place apart, such as time.
        frame: Index in a multi-frame file, else 0.
    """

    path: Path
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    order: tuple[int, ...] = ()
    frame: int = 0


@dataclass(frozen=True)
class Stack:
    """Slices in the order of k, their grid, and what the user should know."""

    slices: tuple[Slice, ...]
    grid: Grid
    warnings: tuple[str, ...]


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as DICOM files do, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def headers(paths: Iterable[Path], on_progress: Callable[[float], None] | None = None) -> dict[str, list[Any]]:
    """Return the headers of the DICOM images among `paths` by series UID; `filename` is kept in each.

    Raises:
        InputError: A DICOM file is damaged; it is named.
    """
    import pydicom

    files = sorted(paths)
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for number, path in enumerate(files):
        if on_progress is not None:
            on_progress(number / len(files))
        if not is_dicom(path):
            continue  # folders on a CD hold other files too
        with reading(path, "DICOM"):
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
        if not header.get("SOPClassUID"):
            raise InputError(f"The header of {path} is damaged.", "Copy or export the series again.")
        if header.get("Rows") and header.get("Modality", "") not in _NOT_IMAGES:
            uid = str(header.get("SOPInstanceUID", path))  # the same image copied twice counts once
            found[str(header.get("SeriesInstanceUID", ""))].setdefault(uid, header)
    return {series: list(by_uid.values()) for series, by_uid in found.items()}


def choose_series(found: dict[str, list[Any]], wanted: str | None, path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return the headers of the wanted series, or of the one with most images, and a warning if others were left out.

    Args:
        found: Headers by series UID.
        wanted: Series UID, series number, or a part of the series description.
        path: The folder, for messages.

    Raises:
        InputError: No image at all, or none that is wanted.
    """
    if not found:
        raise InputError(f"There is no DICOM image in {path}.", "Choose the folder that holds the slices.")
    ranked = sorted(found.items(), key=lambda item: (-images_in(item[1]), _number(item[1][0]), item[0]))
    listed = "; ".join(
        f"series {_number(group[0])} ({_kind(group[0])}, {images_in(group)} images)" for _, group in ranked
    )
    if wanted is not None:
        matches = [group for uid, group in ranked if _is_wanted(uid, group[0], wanted)]
        if not matches:
            raise InputError(f"There is no series '{wanted}' in {path}.", f"Choose one of: {listed}.")
        return matches[0], ()
    if len(ranked) == 1:
        return ranked[0][1], ()
    chosen = _number(ranked[0][1][0])
    return ranked[0][1], (f"The folder holds {len(ranked)} series; series {chosen}, the largest, was read: {listed}.",)


def images_in(group: Sequence[Any]) -> int:
    """Return the number of slices in a series."""
    return sum(int(header.get("NumberOfFrames") or 1) for header in group)


def slices_of(group: Sequence[Any], path: Path) -> list[Slice]:
    """Return the slices of a series of single-frame files.

    Raises:
        InputError: A file does not say where its slice lies.
    """
    slices = []
    for header in group:
        position, orientation = header.get("ImagePositionPatient"), header.get("ImageOrientationPatient")
        spacing = header.get("PixelSpacing")
        if not position or not orientation or not spacing:
            raise InputError(f"The DICOM images in {path} do not say where in the patient they lie.", _REMEDY_EXPORT)
        order = (
            header.get("TemporalPositionIdentifier"),
            header.get("AcquisitionNumber"),
            header.get("InstanceNumber"),
        )
        x, y, z = (float(value) for value in position)
        slices.append(
            Slice(
                path=Path(header.filename),
                position=(x, y, z),
                orientation=tuple(float(value) for value in orientation),
                spacing=(float(spacing[0]), float(spacing[1])),
                shape=(int(header.Rows), int(header.Columns)),
                order=tuple(int(value) if value is not None else 0 for value in order),
            )
        )
    return slices


def stack(slices: Sequence[Slice], frame: int | None, path: Path) -> Stack:
    """Sort slices along their normal and give them a grid.

    The axis of the slices runs from the first to the last position, so a tilted gantry gives a sheared grid in which
    each voxel lies where it was measured.

    Args:
        slices: All slices of a series, in any order.
        frame: Which of several slices at each place, for a 4-D series.
        path: The folder or file, for messages.

    Raises:
        InputError: The series is 4-D and no frame is chosen, or all slices lie at one place.
    """
    kept, warnings = _largest_group(slices)
    row, column = np.asarray(kept[0].orientation).reshape(2, 3)
    normal = np.cross(row, column)
    if not 0.9 < np.linalg.norm(normal) < 1.1:
        raise InputError(f"The orientation of the DICOM images in {path} is not valid.", _REMEDY_EXPORT)
    places = _places(kept, normal)
    counts = {len(place) for place in places}
    if len(counts) == 1:
        number = chosen_frame(frame, counts.pop(), path)
        chosen = [place[number] for place in places]
    else:
        chosen = [place[0] for place in places]
        warnings.append("Some slices lie at the same place as others; the first of each was read.")
    positions = np.array([item.position for item in chosen])
    warnings += _spacing_warnings(positions @ normal)
    step = (positions[-1] - positions[0]) / max(1, len(chosen) - 1) if len(chosen) > 1 else normal
    tilt = np.degrees(np.arccos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step)))))
    if tilt > _TILT_DEGREES:
        warnings.append(
            f"The slices are sheared by {tilt:.1f} degrees (tilted gantry); the masks will lie on this sheared grid."
        )
    affine = np.eye(4)
    affine[:3, 0] = row * chosen[0].spacing[1]
    affine[:3, 1] = column * chosen[0].spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    rows, columns = chosen[0].shape
    return Stack(tuple(chosen), Grid((len(chosen), rows, columns), swap_ras_lps(affine)), tuple(warnings))


def _largest_group(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Leave out localizers and the like: slices with another orientation, spacing or size than most."""

    def key(item: Slice) -> tuple[Any, ...]:
        return (
            tuple(round(value, 3) for value in item.orientation),
            tuple(round(v, 4) for v in item.spacing),
            item.shape,
        )

    common, count = Counter(key(item) for item in slices).most_common(1)[0]
    if count == len(slices):
        return list(slices), []
    return [item for item in slices if key(item) == common], [
        f"{len(slices) - count} images of the series were left out, because their orientation or size differs."
    ]


def _places(slices: Sequence[Slice], normal: np.ndarray) -> list[list[Slice]]:
    """Return the slices at each place, in the order of the places along the normal."""
    ranked = sorted(
        (float(np.asarray(item.position) @ normal), item.order, number) for number, item in enumerate(slices)
    )
    places: list[list[Slice]] = []
    last = -np.inf
    for place, _, number in ranked:
        if place - last > _SAME_PLACE_MM:
            places.append([])
            last = place
        places[-1].append(slices[number])
    return [sorted(place, key=lambda item: item.order) for place in places]


def _spacing_warnings(places: np.ndarray) -> list[str]:
    if len(places) < 3:
        return []
    gaps = np.diff(places)
    usual = float(np.median(gaps))
    odd = np.abs(gaps - usual) > _UNEVEN * usual
    if not odd.any():
        return []
    missing = np.rint(gaps[odd] / usual) - 1
    if (missing >= 1).all() and np.allclose(gaps[odd] / usual, missing + 1, atol=0.1):
        return [f"{int(missing.sum())} slices of the series are missing; sizes along the slices will be wrong there."]
    return [
        f"The distance of the slices is not even ({gaps.min():.3g} to {gaps.max():.3g} mm); it was taken as "
        f"{gaps.mean():.3g} mm everywhere, so shapes are distorted along the slices."
    ]


def _number(header: Any) -> int:
    return int(header.get("SeriesNumber") or 0)


def _kind(header: Any) -> str:
    return str(header.get("Modality") or "unknown")


def _is_wanted(uid: str, header: Any, wanted: str) -> bool:
    description = str(header.get("SeriesDescription") or "").casefold()
    return wanted == uid or wanted == str(_number(header)) or (bool(description) and wanted.casefold() in description)
