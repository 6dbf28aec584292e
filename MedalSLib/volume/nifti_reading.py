"""Open NIfTI files: unpacked by their content, with the affine in millimetres, and what is doubtful about it."""

from __future__ import annotations

from io import IOBase
from pathlib import Path
from typing import Any, cast

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading
from MedalSLib.volume.formats import check_claim, gzip_layers, open_unpacked
from MedalSLib.volume.geometry import Grid

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}
_DISAGREEMENT_MM = 0.5
_SPACING_DISAGREEMENT = 0.01
_PLACELESS = "The NIfTI file does not say how the image lies in the patient; left and right may be swapped."
_REMEDY = "Correct the spacing (in 3D Slicer: Volumes, Volume Information) and save it again."


def open_nifti(path: Path) -> Any:
    """Return nibabel's image; voxels are read from it later.

    Raises:
        InputError: Damaged, cut short, or its header claims more than the file can hold.
    """
    import nibabel

    with reading(path, "NIfTI"):
        layers = gzip_layers(path)
        if layers == (1 if suffix_of(path) == ".nii.gz" else 0) and suffix_of(path) in (".nii", ".nii.gz"):
            image: Any = nibabel.load(path)
        else:
            stream = open_unpacked(path, layers)
            kind = nibabel.Nifti2Image if stream.read(8)[4:7] in (b"n+2", b"ni2") else nibabel.Nifti1Image
            stream.seek(0)
            image = kind.from_file_map({"image": nibabel.FileHolder(fileobj=cast(IOBase, stream))}, mmap=False)
        if image.header.is_single:
            check_claim(path, image.header.get_data_shape(), image.header.get_data_dtype().itemsize,
                        "gzip" if layers else "")  # fmt: skip
        return image


def nifti_grid(image: Any, path: Path) -> tuple[Grid, tuple[str, ...]]:
    """Return the grid of the first three axes, and what is doubtful about it.

    The sform counts, then the qform, then the spacing alone, as in nibabel; one that is no place in space is passed by.

    Args:
        image: From `open_nifti`.
        path: The file, for messages.

    Raises:
        InputError: The spacing is not positive where it is all there is, or the image is 2-D.
    """
    header = image.header
    scale = _MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)
    said: list[str] = []
    sform, qform = _place(header.get_sform), _place(header.get_qform)
    is_broken = sform is None and int(header["sform_code"]) > 0
    if is_broken and qform is None:
        # What is left of the place, whatever its code says.
        is_set = any(header[name] != 0 for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y"))
        qform = _place(lambda coded: (header.get_qform(), 1)) if is_set else None
        if qform is None:
            raise InputError(f"The sform of {path} is no place in space, and it has no qform.", _REMEDY)
    sizes = np.asarray(_stored_pixdim(image), dtype=np.float64)
    if sform is not None:
        affine = sform
        if qform is not None:
            off = _corner_distance(header.get_data_shape()[:3], sform, qform) * scale
            if off > _DISAGREEMENT_MM:
                said.append(
                    f"The two orientations (sform, qform) of the NIfTI file differ by up to {off:.4g} mm; the sform "
                    "was used."
                )
        elif (sizes > 0).all() and _differ(np.linalg.norm(sform[:3, :3], axis=0), sizes):
            said.append("The NIfTI file's spacing (pixdim) differs from that of its sform; the sform was used.")
    else:
        if not (np.isfinite(sizes).all() and (sizes > 0).all()):
            raise InputError(
                f"The voxel spacing of {path} is {tuple(float(size) for size in sizes)} mm; it must be positive.",
                _REMEDY,
            )
        affine = header.get_base_affine() if qform is None else qform
        if qform is None:
            said.append(_PLACELESS)
        elif is_broken:
            said.append("The sform of the NIfTI file is no place in space (zeros); the qform was used.")
    shape = (*header.get_data_shape(), 1, 1)[:3]
    if scale != 1.0:
        affine = np.diag([scale, scale, scale, 1.0]) @ affine
    return Grid((shape[2], shape[1], shape[0]), affine), tuple(said)


def _place(getter: Any) -> np.ndarray | None:
    """Return an affine of the header if its code says that it counts and it can be inverted."""
    try:
        affine, code = getter(coded=True)
    except Exception:  # quaternions that are none, in nibabel's words
        return None
    if affine is None or not code or not np.isfinite(affine).all():
        return None
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    if not (steps > 0).all() or abs(np.linalg.det(affine[:3, :3] / steps)) < 1e-4:
        return None
    return np.asarray(affine, dtype=np.float64)


def _stored_pixdim(image: Any) -> np.ndarray:
    """Return the spacing as the file has it: nibabel quietly replaces what is not positive."""
    holder = image.file_map["image" if image.header.is_single else "header"]
    stream = holder.get_prepare_fileobj("rb")
    try:
        stream.seek(0)
        pixdim: np.ndarray = type(image.header).from_fileobj(stream, check=False)["pixdim"][1:4]
        return pixdim
    finally:
        if holder.fileobj is None:
            stream.close()


def _differ(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.abs(a - b) > _SPACING_DISAGREEMENT * b).any())


def _corner_distance(shape: tuple[int, ...], a: np.ndarray, b: np.ndarray) -> float:
    last = np.asarray((*shape, 1, 1)[:3]) - 1
    corners = np.stack(np.meshgrid((0, 1), (0, 1), (0, 1), indexing="ij"), axis=-1).reshape(8, 3) * last
    return float(np.linalg.norm(np.c_[corners, np.ones(8)] @ (a - b).T, axis=1).max())
