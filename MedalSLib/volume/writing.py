"""Write masks to a segmentation file; the file appears whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError, MedalSError, OutputError
from MedalSLib.volume.challenge import write_challenge_result
from MedalSLib.volume.files import check_not_input, check_output, check_room, replacing
from MedalSLib.volume.geometry import Grid, NetworkFrame
from MedalSLib.volume.image import Image
from MedalSLib.volume.layers import labelmap_of
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.resample import resample_nearest
from MedalSLib.volume.seg_nrrd import write_seg_nrrd
from MedalSLib.volume.segment_info import SegmentInfo, completed
from MedalSLib.volume.segment_names import side_car

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".dcm", ".npz")
NIFTI_COMMENT = 6
_NIFTI = (".nii", ".nii.gz")
_USUAL_PACKING, _LEAST_BYTES = 100, 1 << 16
_PLACELESS = (
    "An npz file does not hold where the image lies in the patient: its labels are upright, from the origin on."
)
_UNSHEARED = (
    "The image lies on a sheared grid, which programs read from NIfTI in different ways; the labels were resampled to "
    "one with right angles (.seg.nrrd keeps the image's own)."
)


def write_segmentation(
    path: str | os.PathLike[str],
    masks: Mapping[str, np.ndarray | BoxMask],
    grid: Grid,
    infos: Mapping[str, SegmentInfo] | None = None,
    source: Image | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write masks to the format that the file name asks for.

    `.seg.nrrd` keeps everything: overlaps, empty segments, names, colours, codes.  `.dcm` is a DICOM Segmentation that
    refers to its source images.  `.nii` and `.nii.gz` hold one label per voxel, with the names in a header extension
    and in a `.labels.json` beside the file; `.npz` is the challenge's labelmap.  Where masks overlap, those two keep
    the later one.

    Args:
        path: File to write.
        masks: Masks (K, J, I) on `grid`, by name; the order gives the label values.
        grid: Grid of the masks.
        infos: Colours and codes by name.
        source: Image that was segmented; needed for `.dcm`.
        overwrite: Replace an existing file.

    Returns:
        Sentences the user should read, such as what the format could not hold.

    Raises:
        InputError: A mask is on another grid.
        OutputError: Unknown format, missing folder, existing file, full disk, or no DICOM source for `.dcm`.
    """
    target = check_segmentation_output(path, source, overwrite)
    for name, mask in masks.items():
        if mask.shape != grid.shape_kji:
            raise InputError(
                f"The mask '{name}' has {mask.shape} voxels, but the image {grid.shape_kji}.",
                "Bring it onto the image's grid first.",
            )
    if not masks:
        raise OutputError(f"There is no segment to write to {target}.", "Segment something first.")
    known = {name: completed((infos or {}).get(name), index) for index, name in enumerate(masks)}
    boxed = {name: BoxMask.of(mask) for name, mask in masks.items()}
    suffix = suffix_of(target)
    if suffix == ".seg.nrrd":
        write_seg_nrrd(target, boxed, grid, known, overwrite)
        return ()
    if suffix == ".dcm":
        from MedalSLib.volume.dicom_seg import write_dicom_seg

        if source is None:  # check_segmentation_output has refused it already
            raise OutputError(f"{target} needs its DICOM source.")
        return write_dicom_seg(target, boxed, grid, known, source, overwrite)
    labels, lost = labelmap_of(list(boxed.values()), grid.shape_kji)
    notes: tuple[str, ...] = ()
    if suffix == ".npz":
        of_npz = source is not None and source.source.format == "challenge npz"
        frame = NetworkFrame(grid, grid.orientation) if of_npz else NetworkFrame(grid)  # in the order of its source
        write_challenge_result(target, frame.to_network(labels), frame.spacing_dhw[::-1], list(boxed), overwrite)
        if source is not None and not of_npz:
            notes = (_PLACELESS,)
    else:
        if grid.is_sheared:
            labels, grid = resample_nearest(labels, grid, grid.unsheared()), grid.unsheared()
            notes = (_UNSHEARED,)
        _write_nifti(target, labels, grid, known, overwrite)
    if lost:
        notes += (
            f"{lost} voxels belong to several segments; {suffix} keeps the last one of each (.seg.nrrd keeps all).",
        )
    return notes


def write_or_keep(
    path: str | os.PathLike[str],
    masks: Mapping[str, np.ndarray | BoxMask],
    grid: Grid,
    infos: Mapping[str, SegmentInfo] | None = None,
    source: Image | None = None,
    overwrite: bool = False,
) -> tuple[str, ...]:
    """Write masks as `write_segmentation` does; if that fails, keep them in the temporary folder and name the file.

    Args:
        path: See `write_segmentation`.
        masks: See `write_segmentation`.
        grid: See `write_segmentation`.
        infos: See `write_segmentation`.
        source: See `write_segmentation`.
        overwrite: See `write_segmentation`.

    Raises:
        OutputError: It could not be written; where the result is kept is said.
    """
    try:
        return write_segmentation(path, masks, grid, infos, source, overwrite)
    except Exception as error:
        if not masks:
            raise
        cause, remedy = (error.cause, error.remedy) if isinstance(error, MedalSError) else (
            f"{path} cannot be written ({error}).", "")  # fmt: skip
        kept = Path(tempfile.mkdtemp(prefix="medals-")) / "result.seg.nrrd"
        try:
            write_segmentation(kept, masks, grid, infos)
        except Exception:  # the first reason is the one to tell
            raise OutputError(cause, remedy) from error
        raise OutputError(cause, f"{remedy} The result was kept: {kept}.".strip()) from error


def check_segmentation_output(
    path: str | os.PathLike[str], source: Image | None = None, overwrite: bool = False, is_read: bool = True
) -> Path:
    """Return `path` as a Path if `write_segmentation` could write there; worth calling before a long run.

    Args:
        path: File to write.
        source: Image that will be segmented.
        overwrite: Whether an existing file may be replaced.
        is_read: Whether the image is read already, so that a missing source means that there is none.

    Raises:
        OutputError: Unknown format, missing or unwritable folder, existing file, one of the source's own files, no room
            on the disk, or `.dcm` for an image that a DICOM Segmentation cannot refer to.
    """
    target = check_output(path, overwrite)
    if suffix_of(target) not in SEGMENTATION_SUFFIXES:
        raise OutputError(
            f"{target.name} has no ending of a segmentation file.", f"Use one of: {', '.join(SEGMENTATION_SUFFIXES)}."
        )
    if suffix_of(target) == ".dcm" and is_read and (source is None or source.source.format != "DICOM"):
        raise OutputError(
            "A DICOM Segmentation must refer to the DICOM images it was made from, but the input is not DICOM.",
            "Give the folder of the DICOM series as the input, or write .seg.nrrd.",
        )
    if suffix_of(target) in _NIFTI:
        check_output(side_car(target), overwrite)
    if source is not None:
        check_not_input(target, source.source.files)
        voxels = prod(source.grid.shape_kji)
        check_room(target, _LEAST_BYTES + voxels // (1 if suffix_of(target) == ".nii" else _USUAL_PACKING))
    if suffix_of(target) == ".dcm" and source is not None:
        from MedalSLib.volume.dicom_seg import check_dicom_source

        check_dicom_source(source)
    return target


def nifti_of(array_kji: np.ndarray, grid: Grid) -> Any:
    """Return an array (K, J, I) as nibabel's image."""
    import nibabel

    image = nibabel.Nifti1Image(array_kji.T, grid.affine_ras)
    image.set_sform(grid.affine_ras, code="scanner")
    image.set_qform(grid.affine_ras, code="scanner", strip_shears=True)
    image.header.set_xyzt_units("mm")
    return image


def _write_nifti(path: Path, labels: np.ndarray, grid: Grid, infos: Mapping[str, SegmentInfo], overwrite: bool) -> None:
    import nibabel

    image = nifti_of(labels, grid)
    names = json.dumps({"segments": _nifti_segments(infos)}, ensure_ascii=False)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(NIFTI_COMMENT, names.encode()))
    with replacing(path, overwrite) as temporary:
        nibabel.save(image, temporary)
    # Other programs drop the extension when they save the file again; this one stays beside it.
    names_by_value = {"labels": {name: value for value, name in enumerate(infos, 1)}}
    with replacing(side_car(path), overwrite) as temporary:
        temporary.write_text(json.dumps(names_by_value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _nifti_segments(infos: Mapping[str, SegmentInfo]) -> list[dict[str, Any]]:
    return [
        {"label": value, "name": name, "color": info.color, "terminology": str(info.terminology or "")}
        for value, (name, info) in enumerate(infos.items(), 1)
    ]
