"""Read named masks from the files that hold them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.vocabulary.terminology import parse_terminology
from MedalSLib.volume.challenge import read_challenge
from MedalSLib.volume.dicom_series import is_dicom
from MedalSLib.volume.files import existing, reading
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.seg_nrrd import read_seg_nrrd
from MedalSLib.volume.segment_info import Color, SegmentInfo
from MedalSLib.volume.segmentation import Segment, Segmentation, unique_names
from MedalSLib.volume.writing import NIFTI_COMMENT

_MAX_LABELS = 1000
_NRRD = (".seg.nrrd", ".nrrd", ".nhdr")
_FORMATS = ".seg.nrrd, .nrrd, .nii, .nii.gz, .dcm (DICOM Segmentation), .npz"


def read_segmentation(path: str | os.PathLike[str], names: Mapping[int, str] | None = None) -> Segmentation:
    """Read a segmentation.

    Args:
        path: A `.seg.nrrd` with overlapping segments, a labelmap (NRRD, NIfTI, challenge npz), or a DICOM Segmentation.
        names: Names by label value for a labelmap that carries none; others are called "Label 1", "Label 2", ...

    Raises:
        InputError: Missing, damaged, of an unknown format, without any label, or an image instead of a labelmap.
    """
    file = existing(path)
    suffix = suffix_of(file)
    if suffix in _NRRD:
        content = read_seg_nrrd(file)
        found = content if isinstance(content, Segmentation) else _labelmap(*content, names or {}, file)
    elif suffix in (".nii", ".nii.gz"):
        found = _read_nifti(file, names or {})
    elif suffix == ".npz":
        found = _read_npz(file, names or {})
    elif file.is_file() and is_dicom(file):
        found = _read_dicom(file)
    else:
        raise InputError(f"{file} is not a segmentation that Medal S can read.", f"Choose one of: {_FORMATS}.")
    if not found.segments:
        raise InputError(f"There is no segment in {file}.", "Choose a file with at least one segment.")
    return found


def _read_nifti(path: Path, names: Mapping[int, str]) -> Segmentation:
    import nibabel

    with reading(path, "NIfTI"):
        image: Any = nibabel.load(path)
        array = np.asarray(image.dataobj)
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 3:
            raise InputError(f"{path} is {array.ndim}-D.", "Choose a 3-D labelmap.")
        stored = _nifti_infos(image.header.extensions)
        grid = Grid(array.T.shape, np.asarray(image.affine))
    own = {value: name for value, (name, _) in stored.items()}
    infos = {value: info for value, (_, info) in stored.items()}
    return _labelmap(array.T, grid, {**own, **names}, path, infos)


def _nifti_infos(extensions: Any) -> dict[int, tuple[str, SegmentInfo]]:
    """Return what `write_segmentation` put into the header extension, by label value; empty for other files."""
    for extension in extensions:
        if extension.get_code() != NIFTI_COMMENT:
            continue
        try:
            entries = json.loads(extension.text)["segments"]
            return {int(entry["label"]): (str(entry["name"]), _json_info(entry)) for entry in entries}
        except (ValueError, KeyError, TypeError):
            continue  # a comment of another program
    return {}


def _json_info(entry: Mapping[str, Any]) -> SegmentInfo:
    color = entry.get("color")
    parsed: Color | None = None
    if color is not None:
        red, green, blue = (int(channel) for channel in color)
        parsed = red, green, blue
    return SegmentInfo(parsed, parse_terminology(str(entry.get("terminology", ""))))


def _read_npz(path: Path, names: Mapping[int, str]) -> Segmentation:
    case = read_challenge(path)
    if case.segs is None:
        raise InputError(f"{path} holds no labels.", "Choose a file with segs or gts.")
    return _labelmap(case.segs, case.grid, {**case.text_prompts, **(case.names or {}), **names}, path)


def _read_dicom(path: Path) -> Segmentation:
    from MedalSLib.volume.dicom_seg import is_dicom_seg, read_dicom_seg

    with reading(path, "DICOM"):
        if not is_dicom_seg(path):
            raise InputError(f"{path} is DICOM, but not a Segmentation.", "Choose a file of the modality SEG.")
    return read_dicom_seg(path)


def _labelmap(
    array: np.ndarray,
    grid: Grid,
    names: Mapping[int, str],
    path: Path,
    infos: Mapping[int, SegmentInfo] | None = None,
) -> Segmentation:
    """Return the labels of a labelmap (K, J, I) as segments, named ones also where no voxel has their value."""
    found = np.unique(array)
    whole = np.isfinite(found).all() and (found == np.round(found)).all()
    if not whole or found.min() < 0 or len(found) > _MAX_LABELS:
        raise InputError(f"{path} is an image, not a labelmap.", "Choose a file with one whole number per structure.")
    if array.dtype.kind == "f":
        array = array.astype(np.int32)
    values = sorted({int(value) for value in found} | set(infos or {}) - {0})
    unique = unique_names({value: names.get(value, f"Label {value}") for value in values if value != 0})
    known = {value: (infos or {}).get(value, SegmentInfo()) for value in unique}
    segments = (Segment(unique[value], array, value, info.color, info.terminology) for value, info in known.items())
    return Segmentation(tuple(segments), grid)
