"""Read named masks from the files that hold them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.vocabulary.terminology import parse_terminology
from MedalSLib.volume.challenge import ORIENTATION, read_challenge
from MedalSLib.volume.files import existing, reading
from MedalSLib.volume.formats import FileFormat, format_of
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.metaimage_reading import read_metaimage
from MedalSLib.volume.nifti_reading import nifti_grid, open_nifti
from MedalSLib.volume.seg_nrrd import read_seg_nrrd
from MedalSLib.volume.segment_info import Color, SegmentInfo
from MedalSLib.volume.segment_names import names_beside, names_in_label_table, unnamed
from MedalSLib.volume.segmentation import Segment, Segmentation, unique_names
from MedalSLib.volume.writing import NIFTI_COMMENT

_MAX_LABELS = 1000
_BY_SUFFIX: dict[str, FileFormat] = {
    ".seg.nrrd": "NRRD",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".npz": "npz",
}
_FORMATS = ".seg.nrrd, .nrrd, .nii, .nii.gz, .mha, .mhd, .dcm (DICOM Segmentation), .npz"
_LABEL_TABLES = (0, 30)


def read_segmentation(
    path: str | os.PathLike[str], names: Mapping[int, str] | None = None, orientation: str = ORIENTATION
) -> Segmentation:
    """Read a segmentation.

    Args:
        path: A `.seg.nrrd` with overlapping segments, a labelmap (NRRD, NIfTI, MetaImage, challenge npz), or a DICOM
            Segmentation.
        names: Names by label value for a labelmap; others are those of the file, or "Label 1", "Label 2", ...
        orientation: Directions to which x, y, z of a challenge npz grow, which does not say them.

    Raises:
        InputError: Missing, damaged, of an unknown format, without any label, or an image instead of a labelmap.
    """
    file, given = existing(path), names or {}
    kind = (format_of(file) or _BY_SUFFIX.get(suffix_of(file))) if file.is_file() else None
    if kind == "NRRD":
        content = read_seg_nrrd(file)
        if isinstance(content, Segmentation):
            found = _renamed(content, given)
        else:
            found = _labelmaps(content.layers, content.grid, given, file, content.warnings)
    elif kind == "NIfTI":
        found = _read_nifti(file, given)
    elif kind == "MetaImage":
        layers, grid, warnings = read_metaimage(file)
        found = _labelmaps(layers, grid, given, file, warnings)
    elif kind == "npz":
        found = _read_npz(file, given, orientation)
    elif kind == "DICOM":
        found = _renamed(_read_dicom(file), given)
    else:
        raise InputError(f"{file} is not a segmentation that Medal S can read.", f"Choose one of: {_FORMATS}.")
    if not found.segments:
        raise InputError(f"There is no segment in {file}.", "Choose a file with at least one segment.")
    return found


def _renamed(found: Segmentation, names: Mapping[int, str]) -> Segmentation:
    """Return a segmentation whose segments of a label value are called otherwise."""
    if not names:
        return found
    called = unique_names({at: names.get(item.value, item.name) for at, item in enumerate(found.segments)})
    return replace(found, segments=tuple(replace(item, name=called[at]) for at, item in enumerate(found.segments)))


def _read_nifti(path: Path, names: Mapping[int, str]) -> Segmentation:
    image = open_nifti(path)
    with reading(path, "NIfTI"):
        array = np.asarray(image.dataobj)
        while array.ndim > 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 3:
            raise InputError(f"{path} is {array.ndim}-D.", "Choose a 3-D labelmap.")
        stored = _nifti_infos(image.header.extensions)
        grid, warnings = nifti_grid(image, path)
    infos = {value: info for value, (_, info) in stored.items()}
    own = {value: name for value, (name, _) in stored.items()} or _table_names(image.header.extensions)
    return _labelmap(array.T, grid, {**(own or names_beside(path)), **names}, path, infos, warnings)


def _table_names(extensions: Any) -> dict[int, str]:
    """Return names by label value from a label table as Caret and TotalSegmentator write it; empty for other files."""
    contents = [extension.content for extension in extensions if extension.get_code() in _LABEL_TABLES]
    return {value: name for content in contents for value, name in names_in_label_table(content).items()}


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


def _read_npz(path: Path, names: Mapping[int, str], orientation: str) -> Segmentation:
    case = read_challenge(path, orientation=orientation)
    if case.segs is None:
        raise InputError(f"{path} holds no labels.", "Choose a file with segs or gts.")
    own = {**case.text_prompts, **(case.names or {}), **names}
    return _labelmap(case.segs, case.grid, own, path, warnings=case.warnings)


def _read_dicom(path: Path) -> Segmentation:
    from MedalSLib.volume.dicom_seg import is_dicom_seg, read_dicom_seg

    with reading(path, "DICOM"):
        if not is_dicom_seg(path):
            raise InputError(f"{path} is DICOM, but not a Segmentation.", "Choose a file of the modality SEG.")
    return read_dicom_seg(path)


def _labelmaps(
    layers: np.ndarray, grid: Grid, names: Mapping[int, str], path: Path, warnings: tuple[str, ...]
) -> Segmentation:
    """Return the labels of layers (L, K, J, I) as segments."""
    beside = {**names_beside(path), **names}
    parts = [_labelmap(layer, grid, beside, path, warnings=warnings) for layer in layers if layer.any()]
    segments = [segment for part in parts for segment in part.segments]
    called = unique_names({at: segment.name for at, segment in enumerate(segments)})
    return Segmentation(tuple(replace(segment, name=called[at]) for at, segment in enumerate(segments)), grid, warnings)


def _labelmap(
    array: np.ndarray,
    grid: Grid,
    names: Mapping[int, str],
    path: Path,
    infos: Mapping[int, SegmentInfo] | None = None,
    warnings: tuple[str, ...] = (),
) -> Segmentation:
    """Return the labels of a labelmap (K, J, I) as segments, named ones also where no voxel has their value."""
    if array.dtype.kind not in "uifb":
        raise InputError(f"{path} is an image, not a labelmap.", "Choose a file with one whole number per structure.")
    found = np.unique(array)
    if len(found) == 2 and found[0] == 0 and found[1] != np.round(found[1]) and np.isfinite(found[1]):
        array, found = (array != 0).astype(np.uint8), np.array([0, 1])  # a mask that a slope was applied to
    whole = np.isfinite(found).all() and (found == np.round(found)).all()
    if not whole or found.min() < 0 or len(found) > _MAX_LABELS:
        raise InputError(f"{path} is an image, not a labelmap.", "Choose a file with one whole number per structure.")
    if array.dtype.kind == "f":
        array = array.astype(np.int32)
    values = sorted({int(value) for value in found} | set(infos or {}) - {0})
    unique = unique_names({value: names.get(value) or unnamed(value) for value in values if value != 0})
    known = {value: (infos or {}).get(value, SegmentInfo()) for value in unique}
    segments = (Segment(unique[value], array, value, info.color, info.terminology) for value, info in known.items())
    return Segmentation(tuple(segments), grid, warnings)
