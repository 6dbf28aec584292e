"""Read images: NIfTI, NRRD, MetaImage, DICOM and challenge npz; every failure is an InputError with a remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.volume.challenge import read_challenge
from MedalSLib.volume.dicom_reading import read_dicom
from MedalSLib.volume.dicom_series import is_dicom
from MedalSLib.volume.files import existing, reading
from MedalSLib.volume.geometry import Grid, grid_from_lps
from MedalSLib.volume.image import Image, Source, check_volume, checked_intensities, chosen_frame, grid_warnings
from MedalSLib.volume.modality_guess import guess_modality

_ITK_FORMATS = {
    ".nrrd": "NRRD",
    ".seg.nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
}
_FORMATS = ".nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, .npz, a DICOM file or a DICOM folder"
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_NIFTI_AXES = 3
_DISAGREEMENT_MM = 0.5


def read_image(
    path: str | os.PathLike[str],
    frame: int | None = None,
    series: str | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Image:
    """Read a 3-D image.

    Args:
        path: NIfTI, NRRD, MetaImage, challenge npz, a DICOM file or a folder of them.
        frame: Which frame of a 4-D image (or component of a multi-component one), from 0.
        series: Which series of a DICOM folder: UID, number or part of its description; the largest if None.
        on_progress: Called with the share of a DICOM series that is read; may raise to stop.

    Returns:
        The image; what is unusual about it is in `Image.warnings`.

    Raises:
        InputError: Missing, damaged, of an unknown format, 2-D, 4-D without `frame`, constant, with NaN or infinity, or
            with an impossible geometry.
        ResourceError: There is not enough memory for it.
    """
    file = existing(path)
    suffix = suffix_of(file)
    if file.is_dir():
        return read_dicom(file, frame, series, on_progress)
    if suffix in (".nii", ".nii.gz"):
        return _read_nifti(file, frame)
    if suffix in _ITK_FORMATS:
        return _read_itk(file, frame, _ITK_FORMATS[suffix])
    if suffix == ".npz":
        return _read_npz(file)
    if is_dicom(file):
        return read_dicom(file, frame, series, on_progress)
    kind = f"files ending in {suffix}" if suffix not in ("", ".dcm", ".ima") else "this file, which is not DICOM"
    raise InputError(f"{file} cannot be read: Medal S does not know {kind}.", f"Choose one of: {_FORMATS}.")


def _read_nifti(path: Path, frame: int | None) -> Image:
    import nibabel

    warnings: list[str] = []
    with reading(path, "NIfTI"):
        image: Any = nibabel.load(path)
        shape = tuple(int(size) for size in image.shape)
        while len(shape) > _NIFTI_AXES and shape[-1] == 1:
            shape = shape[:-1]
        check_volume(shape[:_NIFTI_AXES], path)
        _check_pixdim(image, path)
        affine, notes = _nifti_affine(image.header, np.asarray(image.affine, dtype=np.float64))
        warnings += notes
        grid = Grid((shape[2], shape[1], shape[0]), affine)
        if len(shape) > _NIFTI_AXES + 1:
            raise InputError(f"{path} is {len(shape)}-D.", "Save a single 3-D volume of it.")
        extra = (0,) * (len(image.shape) - len(shape))
        index = chosen_frame(frame, shape[3] if len(shape) > _NIFTI_AXES else 1, path)
        if len(shape) > _NIFTI_AXES:
            extra = (index, *extra)
        array = np.asarray(image.dataobj[(..., *extra)] if extra else image.dataobj)
    array = checked_intensities(array.T, path)
    return _image(array, grid, Source(path, "NIfTI", (path,)), warnings)


def _check_pixdim(image: Any, path: Path) -> None:
    """Refuse spacing that nibabel would quietly replace by 1 or by its absolute value.

    Raises:
        InputError: The geometry depends on pixdim, and pixdim is not positive.
    """
    if image.header.get_sform(coded=True)[0] is not None:
        return
    with image.file_map["image" if image.header.is_single else "header"].get_prepare_fileobj("rb") as stream:
        stored = type(image.header).from_fileobj(stream, check=False)["pixdim"][1:4]
    if not (np.isfinite(stored).all() and (stored > 0).all()):
        raise InputError(
            f"The voxel spacing of {path} is {tuple(float(size) for size in stored)} mm; it must be positive.",
            "Correct the spacing (in 3D Slicer: Volumes, Volume Information) and save it again.",
        )


def _nifti_affine(header: Any, affine: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return the affine in mm (nibabel prefers the sform, then the qform), and what is doubtful about it."""
    warnings: list[str] = []
    unit = header.get_xyzt_units()[0]
    if unit in _MM_PER_UNIT:
        affine = np.diag([_MM_PER_UNIT[unit]] * 3 + [1.0]) @ affine
    sform, qform = header.get_sform(coded=True), header.get_qform(coded=True)
    if sform[0] is None and qform[0] is None:
        warnings.append("The NIfTI file does not say how the image lies in the patient; left and right may be swapped.")
    elif sform[0] is not None and qform[0] is not None:
        last = np.append(np.asarray(header.get_data_shape()[:3]) - 1, 1)
        corners = np.stack([np.append(np.zeros(3), 1), last])
        if np.abs(corners @ (sform[0] - qform[0]).T).max() > _DISAGREEMENT_MM:
            warnings.append("The two orientations (sform, qform) of the NIfTI file differ; the sform was used.")
    return affine, warnings


def _read_itk(path: Path, frame: int | None, kind: str) -> Image:
    import SimpleITK

    warnings: list[str] = []
    with reading(path, kind):
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size = reader.GetSize()
        dimension, components = reader.GetDimension(), reader.GetNumberOfComponents()
        check_volume(tuple(size[:3]), path)
        grid = _itk_grid(reader, dimension)
        if kind == "NRRD" and "NRRD_space" not in reader.GetMetaDataKeys():
            warnings.append(
                "The NRRD file does not say how the image lies in the patient; left and right may be swapped."
            )
        image = reader.Execute()
    array = SimpleITK.GetArrayViewFromImage(image)  # a view into `image`, which must outlive it
    if dimension > 4 or (dimension == 4 and components > 1):
        raise InputError(f"{path} has more than four axes.", "Save a single 3-D volume of it.")
    index = chosen_frame(frame, size[3] if dimension == 4 else components, path)
    if dimension == 4:
        array = array[index]
    elif components > 1:
        array = array[..., index]
    array = checked_intensities(np.array(array), path)
    return _image(array, grid, Source(path, kind, (path,)), warnings)


def _itk_grid(reader: Any, dimension: int) -> Grid:
    direction = np.asarray(reader.GetDirection()).reshape(dimension, dimension)[:3, :3]
    i, j, k = reader.GetSize()[:3]
    return grid_from_lps((k, j, i), reader.GetOrigin()[:3], reader.GetSpacing()[:3], direction.ravel().tolist())


def _read_npz(path: Path) -> Image:
    case = read_challenge(path)
    if case.imgs is None:
        raise InputError(f"{path} holds labels but no image.", "Choose a file with imgs.")
    check_volume(case.imgs.shape, path)
    array = checked_intensities(case.imgs, path)
    windowed = bool(array.min() >= 0 and array.max() <= np.iinfo(np.uint8).max)
    source = Source(path, "challenge npz", (path,))
    return _image(array, case.grid, source, [], windowed=windowed, file_name=path.name)


def _image(
    array: np.ndarray, grid: Grid, source: Source, warnings: list[str], windowed: bool = False, file_name: str = ""
) -> Image:
    return Image(
        array_kji=array,
        grid=grid,
        modality=guess_modality(array, file_name=file_name),
        source=source,
        warnings=(*warnings, *grid_warnings(grid)),
        windowed=windowed,
    )
