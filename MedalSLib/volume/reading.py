"""Read images: NIfTI, NRRD, MetaImage, DICOM and challenge npz; every failure is an InputError with a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.volume.challenge import ORIENTATION, read_challenge
from MedalSLib.volume.dicom_reading import read_dicom
from MedalSLib.volume.files import existing, reading
from MedalSLib.volume.formats import FileFormat, format_of
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.image import Image, Source, check_volume, checked_intensities, chosen_frame, grid_warnings
from MedalSLib.volume.metaimage_reading import read_metaimage
from MedalSLib.volume.modality_guess import guess_modality
from MedalSLib.volume.nifti_reading import nifti_grid, open_nifti
from MedalSLib.volume.nrrd_reading import read_nrrd
from MedalSLib.volume.orientation_doubt import couch_doubt

_BY_SUFFIX: dict[str, FileFormat] = {
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".nrrd": "NRRD",
    ".seg.nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".npz": "npz",
}
_FORMATS = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npz, a DICOM file or a DICOM folder"
_NIFTI_AXES = 3


def read_image(
    path: str | os.PathLike[str],
    frame: int | None = None,
    series: str | None = None,
    on_progress: Callable[[float], None] | None = None,
    orientation: str | None = None,
) -> Image:
    """Read a 3-D image.

    Args:
        path: NIfTI, NRRD, MetaImage, challenge npz, a DICOM file or a folder of them.
        frame: Which frame of a 4-D image (or component of a multi-component one), from 0.
        series: Which series of a DICOM folder: UID, number or part of its description; the largest usable one if None.
        on_progress: Called with the share of a DICOM series that is read; may raise to stop.
        orientation: Directions to which x, y, z of a challenge npz grow, which does not say them; LPS if None.

    Returns:
        The image; what is unusual about it is in `Image.warnings`.

    Raises:
        InputError: Missing, damaged, of an unknown format, 2-D, 4-D without `frame`, constant, with NaN or infinity, or
            with an impossible geometry; or `orientation` is none, or of a file that says its own.
        ResourceError: There is not enough memory for it.
    """
    file = existing(path)
    kind = None if file.is_dir() else format_of(file) or _BY_SUFFIX.get(suffix_of(file))
    if orientation is not None and kind != "npz":
        raise InputError(
            f"{file} says its own orientation.",
            "Leave --orientation out, which is for .npz; correct the file if need be.",
        )
    if file.is_dir() or file.name.upper() == "DICOMDIR":
        return read_dicom(file, frame, series, on_progress)
    if series is not None:
        raise InputError(f"{file} is no folder from which a series could be chosen.", "Give the folder of the series.")
    if kind == "NIfTI":
        return _read_nifti(file, frame)
    if kind == "NRRD":
        return _read_nrrd(file, frame)
    if kind == "MetaImage":
        return _read_metaimage(file, frame)
    if kind == "npz":
        return _read_npz(file, ORIENTATION if orientation is None else orientation)
    if kind == "DICOM":
        return read_dicom(file, frame, series, on_progress)
    suffix = suffix_of(file)
    what = f"files ending in {suffix}" if suffix not in ("", ".dcm", ".ima") else "this file, which is not DICOM"
    raise InputError(f"{file} cannot be read: Medal S does not know {what}.", f"Choose one of: {_FORMATS}.")


def _read_nifti(path: Path, frame: int | None) -> Image:
    image = open_nifti(path)
    with reading(path, "NIfTI"):
        shape = tuple(int(size) for size in image.shape)
        while len(shape) > _NIFTI_AXES and shape[-1] == 1:
            shape = shape[:-1]
        check_volume(shape[:_NIFTI_AXES], path)
        grid, warnings = nifti_grid(image, path)
        if len(shape) > _NIFTI_AXES + 1:
            raise InputError(f"{path} is {len(shape)}-D.", "Save a single 3-D volume of it.")
        extra = (0,) * (len(image.shape) - len(shape))
        index = chosen_frame(frame, shape[3] if len(shape) > _NIFTI_AXES else 1, path)
        if len(shape) > _NIFTI_AXES:
            extra = (index, *extra)
        array = np.asarray(image.dataobj[(..., *extra)] if extra else image.dataobj)
    return _image(checked_intensities(array.T, path), grid, Source(path, "NIfTI", (path,)), warnings)


def _read_nrrd(path: Path, frame: int | None) -> Image:
    volume = read_nrrd(path)
    check_volume(volume.grid.shape_kji, path)
    array = volume.layers[chosen_frame(frame, len(volume.layers), path)]
    return _image(checked_intensities(array, path), volume.grid, Source(path, "NRRD", (path,)), volume.warnings)


def _read_metaimage(path: Path, frame: int | None) -> Image:
    layers, grid, warnings = read_metaimage(path)
    array = layers[chosen_frame(frame, len(layers), path)]
    return _image(checked_intensities(array, path), grid, Source(path, "MetaImage", (path,)), warnings)


def _read_npz(path: Path, orientation: str) -> Image:
    case = read_challenge(path, orientation=orientation)
    if case.imgs is None:
        raise InputError(f"{path} holds labels but no image.", "Choose a file with imgs.")
    check_volume(case.imgs.shape, path)
    array = checked_intensities(case.imgs, path)
    windowed = bool(array.min() >= 0 and array.max() <= np.iinfo(np.uint8).max)
    source = Source(path, "challenge npz", (path,))
    return _image(array, case.grid, source, case.warnings, windowed=windowed, file_name=path.name)


def _image(
    array: np.ndarray,
    grid: Grid,
    source: Source,
    warnings: tuple[str, ...],
    windowed: bool = False,
    file_name: str = "",
) -> Image:
    if grid.is_sheared:
        warnings = (
            *warnings,
            "The axes of the image are not at right angles; the masks will lie on this sheared grid.",
        )
    modality = guess_modality(array, file_name=file_name)
    doubt = couch_doubt(array, grid, windowed) if modality.modality == "CT" else ""
    return Image(
        array_kji=array,
        grid=grid,
        modality=modality,
        source=source,
        warnings=(*warnings, *grid_warnings(grid), *([doubt] if doubt else [])),
        windowed=windowed,
    )
