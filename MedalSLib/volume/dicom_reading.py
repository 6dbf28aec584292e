"""Read DICOM images: a folder, one of its slices, or a multi-frame file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_series import Slice, Stack, choose_series, headers, slices_of, stack
from MedalSLib.volume.files import reading
from MedalSLib.volume.image import Image, Source, check_volume, checked_intensities, grid_warnings
from MedalSLib.volume.modality_guess import guess_modality

Progress = Callable[[float], None]
_HEADER_SHARE = 0.3


def read_dicom(
    path: Path, frame: int | None = None, series: str | None = None, on_progress: Progress | None = None
) -> Image:
    """Read a DICOM folder, the series of one slice, or a multi-frame file.

    Slices are sorted by their position, never by their name; rescale slope and intercept are applied.

    Args:
        path: A folder (searched with its subfolders) or a file.
        frame: Which frame of a 4-D series.
        series: Series UID, number or part of the description; the largest series if None.
        on_progress: Called with the share that is done; may raise to stop.

    Raises:
        InputError: No image, no such series, slices without a place, or damaged files.
    """
    report = on_progress or (lambda share: None)
    warnings: list[str] = []
    with reading(path, "DICOM"):
        if path.is_dir():
            files = [item for item in path.rglob("*") if item.is_file() and item.name.upper() != "DICOMDIR"]
            group, notes = choose_series(headers(files, lambda s: report(s * _HEADER_SHARE)), series, path)
        else:
            group, notes = _series_of_file(path)
        warnings += notes
        if any(int(header.get("SamplesPerPixel") or 1) > 1 for header in group):
            raise InputError(f"{path} holds colour images.", "Convert them to grey values first.")
        multi = [header for header in group if int(header.get("NumberOfFrames") or 1) > 1]
        result = _read_multi_frame(multi[0], frame, report) if multi else _read_files(group, frame, path, report)
    array, arranged = result
    if multi and len(group) > 1:
        warnings.append(f"The series has {len(group)} multi-frame files; the first was read.")
    check_volume(array.shape, path)
    array = checked_intensities(array, path)
    return Image(
        array_kji=array,
        grid=arranged.grid,
        modality=guess_modality(array, str(group[0].get("Modality") or "")),
        source=Source(path, "DICOM", tuple(dict.fromkeys(item.path for item in arranged.slices))),
        warnings=(*warnings, *arranged.warnings, *grid_warnings(arranged.grid)),
    )


def _series_of_file(path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return the headers of all files beside `path` that belong to its series."""
    own = headers([path])
    if not own:
        raise InputError(f"{path} is not a DICOM image.", "Choose an image, or the folder of the series.")
    uid, group = next(iter(own.items()))
    if int(group[0].get("NumberOfFrames") or 1) > 1:
        return group, ()
    siblings = headers(item for item in path.parent.iterdir() if item.is_file()).get(uid, group)
    if len(siblings) == 1:
        return siblings, ()
    return siblings, (f"{path.name} is one of {len(siblings)} slices of a series; the whole series was read.",)


def _read_files(group: list[Any], frame: int | None, path: Path, report: Progress) -> tuple[np.ndarray, Stack]:
    import SimpleITK

    arranged = stack(slices_of(group, path), frame, path)
    planes = []
    for number, item in enumerate(arranged.slices):
        report(_HEADER_SHARE + (1 - _HEADER_SHARE) * number / len(arranged.slices))
        with reading(item.path, "DICOM"):
            planes.append(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(item.path))).reshape(item.shape))
    report(1.0)
    return np.stack(planes), arranged


def _read_multi_frame(header: Any, frame: int | None, report: Progress) -> tuple[np.ndarray, Stack]:
    import pydicom

    path = Path(header.filename)
    dataset = pydicom.dcmread(path)
    slices, scales = _frames_of(dataset, path)
    arranged = stack(slices, frame, path)
    pixels = _pixels(dataset, path)
    planes = []
    for number, item in enumerate(arranged.slices):
        report(_HEADER_SHARE + (1 - _HEADER_SHARE) * number / len(arranged.slices))
        slope, intercept = scales[item.frame]
        plane = pixels[item.frame]
        planes.append(plane if (slope, intercept) == (1.0, 0.0) else plane * slope + intercept)
    report(1.0)
    return _narrow(np.stack(planes)), arranged


def _pixels(dataset: Any, path: Path) -> np.ndarray:
    try:
        return np.asarray(dataset.pixel_array)
    except (RuntimeError, NotImplementedError) as error:  # pydicom's words for "no decoder"
        raise InputError(
            f"The pixels of {path} are compressed in a way that cannot be read here "
            f"({dataset.file_meta.TransferSyntaxUID.name}).",
            "Export the series uncompressed, or load it into 3D Slicer and save the volume as .nrrd.",
        ) from error


def _frames_of(dataset: Any, path: Path) -> tuple[list[Slice], list[tuple[float, float]]]:
    """Return the place, and slope and intercept, of each frame of an enhanced multi-frame image."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if len(frames) != int(dataset.NumberOfFrames):
        raise InputError(
            f"The frames of {path} do not say where in the patient they lie (a film?).",
            "Choose an enhanced multi-frame image, or the folder of a series.",
        )

    def item(group: Any, name: str) -> Any:
        for source in (group, shared[0]):
            if source is not None and source.get(name):
                return source[name][0]
        return None

    slices: list[Slice] = []
    scales: list[tuple[float, float]] = []
    for number, group in enumerate(frames):
        position, orientation = item(group, "PlanePositionSequence"), item(group, "PlaneOrientationSequence")
        measures, scale = item(group, "PixelMeasuresSequence"), item(group, "PixelValueTransformationSequence")
        content = item(group, "FrameContentSequence")
        if position is None or orientation is None or measures is None:
            raise InputError(
                f"Frame {number} of {path} does not say where it lies.", "Export the series as single slices."
            )
        x, y, z = (float(value) for value in position.ImagePositionPatient)
        temporal = content.get("TemporalPositionIndex") if content is not None else None
        slices.append(
            Slice(
                path=path,
                position=(x, y, z),
                orientation=tuple(float(value) for value in orientation.ImageOrientationPatient),
                spacing=(float(measures.PixelSpacing[0]), float(measures.PixelSpacing[1])),
                shape=(int(dataset.Rows), int(dataset.Columns)),
                order=(int(temporal or 0), number),
                frame=number,
            )
        )
        scales.append((float(scale.RescaleSlope), float(scale.RescaleIntercept)) if scale is not None else (1.0, 0.0))
    return slices, scales


def _narrow(array: np.ndarray) -> np.ndarray:
    """Return whole numbers as int32, so that Hounsfield units stay whole numbers."""
    if array.dtype.kind == "f" and np.array_equal(array, np.rint(array)) and np.abs(array).max() < 1 << 30:
        return array.astype(np.int32)
    return array
