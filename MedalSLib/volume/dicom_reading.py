"""Read DICOM images: a folder, one of its slices, or a multi-frame file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_pixels import narrowed, values_of
from MedalSLib.volume.dicom_series import choose_series, find_series, is_grey
from MedalSLib.volume.dicom_slices import Slice, frames_in, slices_of
from MedalSLib.volume.dicom_stack import resample_planes, stack
from MedalSLib.volume.files import reading
from MedalSLib.volume.image import Image, Source, check_volume, checked_intensities, grid_warnings
from MedalSLib.volume.modality_guess import guess_modality

Progress = Callable[[float], None]
_HEADER_SHARE = 0.3


def read_dicom(
    path: Path, frame: int | None = None, series: str | None = None, on_progress: Progress | None = None
) -> Image:
    """Read a DICOM folder, the series of one slice, or a multi-frame file.

    Slices are sorted by their position, never by their name; rescale slope and intercept are applied.  Where slices are
    missing or lie at uneven distances, the image is resampled so that every voxel lies where it was measured.

    Args:
        path: A folder (searched with its subfolders) or a file.
        frame: Which frame of a 4-D series.
        series: Series UID, number or part of the description; the largest usable series if None.
        on_progress: Called with the share that is done; may raise to stop.

    Raises:
        InputError: No image, no such series, slices without a place, or damaged files.
    """
    report = on_progress or (lambda share: None)
    if path.name.upper() == "DICOMDIR" and path.is_file():
        path = path.parent  # the table of contents of a CD stands for what lies beside it
    with reading(path, "DICOM"):
        if path.is_dir():
            found = find_series(path, lambda share: report(share * _HEADER_SHARE))
            group, warnings = choose_series(found, series, path)
        else:
            group, warnings = _series_of_file(path)
        if not all(is_grey(header) for header in group):
            raise InputError(f"{path} holds colour images.", "Convert them to grey values first.")
        arranged = stack(slices_of(group, path), frame, path)
        check_volume((len(arranged.slices), *arranged.slices[0].shape), path)
        planes = narrowed(_planes(arranged.slices, report))
        array = resample_planes(planes, arranged) if arranged.resampled else planes
    report(1.0)
    return Image(
        array_kji=checked_intensities(array, path),
        grid=arranged.grid,
        modality=guess_modality(array, str(group[0].get("Modality") or "")),
        source=Source(path, "DICOM", tuple(dict.fromkeys(item.path for item in arranged.slices))),
        warnings=(*warnings, *arranged.warnings, *_shown_inverted(group), *grid_warnings(arranged.grid)),
    )


def _series_of_file(path: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return the headers of all files beside `path` that belong to its series."""
    own = find_series(path)
    if not own.series:
        raise InputError(
            f"{path} is not a DICOM image{own.left_out and ': it does not say what it is (no SOP class)'}.",
            "Choose an image, or the folder of the series.",
        )
    group = own.series[0]
    if frames_in(group[0]) > 1:
        return group, ()
    folder = find_series(path.parent, deep=False)
    siblings = next((other for other in folder.series if any(Path(item.filename) == path for item in other)), group)
    if len(siblings) == 1:
        return siblings, ()
    said = f"{path.name} is one of {len(siblings)} slices of a series; the whole series was read."
    return siblings, (said, *folder.warnings(siblings))


def _planes(slices: Sequence[Slice], report: Progress) -> np.ndarray:
    """Return the planes of slices (n, rows, columns); each file is read once."""
    by_file: dict[Path, list[int]] = defaultdict(list)
    for number, item in enumerate(slices):
        by_file[item.path].append(number)
    planes: dict[int, np.ndarray] = {}
    for path, numbers in by_file.items():
        report(_HEADER_SHARE + (1 - _HEADER_SHARE) * len(planes) / len(slices))
        scales = {slices[number].frame: slices[number].scale for number in numbers}
        with reading(path, "DICOM"):
            frames = slices[numbers[0]].frames
            values = narrowed(values_of(path, [scales.get(frame, (1.0, 0.0)) for frame in range(frames)]))
            planes |= {number: values[slices[number].frame] for number in numbers}
    return np.stack([planes[number] for number in range(len(slices))])


def _shown_inverted(group: Sequence[Any]) -> tuple[str, ...]:
    """Say what MONOCHROME1 may mean where intensities have no unit."""
    if str(group[0].get("Modality")) in ("CT", "PT") or group[0].get("PhotometricInterpretation") != "MONOCHROME1":
        return ()
    return ("The images are meant to be shown inverted (MONOCHROME1); their values were taken as they are stored.",)
