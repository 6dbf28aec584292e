"""The npz files of the CVPR 2025 text-guided segmentation challenge, read without trusting them.

Arrays are (z, y, x), intensities 0..255, `spacing` is (x, y, z) in mm.  A case has no place in the patient, so its grid
is upright and begins at the origin, and its axes are taken for LPS unless the user says what they are.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from MedalSLib.errors import InputError
from MedalSLib.volume.challenge_prompts import TargetPrompts, target_prompts
from MedalSLib.volume.files import existing, reading, replacing
from MedalSLib.volume.geometry import Grid, axial_grid, checked_orientation
from MedalSLib.volume.restricted_pickle import MAX_BYTES, plain_values

MAX_ARRAY_BYTES = 8 << 30
ORIENTATION = "LPS"
"""What the axes of a case are taken for."""
_MAX_MEMBERS, _MAX_HEADER, _MAX_DEFLATE_RATIO = 64, 1 << 16, 1100  # deflate shrinks to 1/1032 at best
_CHUNK = 16 << 20
_SEGMENTATION_KEYS, _PREVIOUS = ("segs", "gts"), "prev_pred"
_REMEDY = "Get the file again from its source; a challenge case has imgs, spacing and text_prompts."


@dataclass(frozen=True, eq=False)
class ChallengeCase:
    """One case of the challenge.

    Attributes:
        path: The file.
        imgs: Intensities (Z, Y, X), 0..255 after a window, uint8 in published cases; None in a file of labels only.
        spacing: As stored, (x, y, z) in mm.
        text_prompts: Sentence by label value.
        instance_label: 1 if the labels are instances of one structure, 0 if each label is a structure.
        segs: Labelmap (Z, Y, X) from `segs` or `gts`, None if the file has neither.
        names: Names by label value that a result file carries, empty otherwise.
        warnings: Sentences the user should read.
        orientation: Directions to which x, y, z grow; the file does not say them.
        targets: Boxes and clicks of the interactive track by label value; empty elsewhere.
        previous: Labelmap (Z, Y, X) of the interactive track's previous prediction, None without one.
    """

    path: Path
    imgs: np.ndarray | None
    spacing: tuple[float, float, float]
    text_prompts: Mapping[int, str]
    instance_label: int = 0
    segs: np.ndarray | None = None
    names: Mapping[int, str] | None = None
    warnings: tuple[str, ...] = ()
    orientation: str = ORIENTATION
    targets: Mapping[int, TargetPrompts] = field(default_factory=dict)
    previous: np.ndarray | None = None

    @property
    def spacing_dhw(self) -> tuple[float, float, float]:
        """Spacing along z, y, x in mm."""
        x, y, z = self.spacing
        return z, y, x

    @property
    def grid(self) -> Grid:
        """Upright grid of the arrays, which are [k, j, i] on it."""
        array = self.imgs if self.imgs is not None else self.segs
        if array is None:
            raise InputError(f"{self.path} has neither imgs nor segs.", _REMEDY)
        return axial_grid(array.shape, self.spacing_dhw, self.orientation)


def read_challenge(
    path: str | os.PathLike[str], max_array_bytes: int = MAX_ARRAY_BYTES, orientation: str = ORIENTATION
) -> ChallengeCase:
    """Read a case, a ground truth or a result of the challenge.

    Sizes are checked before memory is taken, and pickled text is read by `plain_values`, which runs nothing.

    Args:
        path: The npz file.
        max_array_bytes: Arrays larger than this are refused.
        orientation: Directions to which x, y, z grow.

    Raises:
        InputError: Not such a file, damaged, cut short, inconsistent, or made to do harm; or no orientation.
    """
    code = checked_orientation(orientation)
    file = existing(path)
    with reading(file, "a challenge npz"), zipfile.ZipFile(file) as archive:
        members = {name.removesuffix(".npy"): info for name, info in _members(archive, file).items()}
        arrays = {
            key: _numbers(archive, members[key], file, max_array_bytes)
            for key in ("imgs", *_SEGMENTATION_KEYS, "spacing", "names", _PREVIOUS)
            if key in members
        }
        prompts = _objects(archive, members["text_prompts"], file) if "text_prompts" in members else {}
        boxes, clicks = (
            _objects(archive, members[key], file) if key in members else None for key in ("boxes", "clicks")
        )
    segs = next((arrays[key] for key in _SEGMENTATION_KEYS if key in arrays), None)
    imgs = arrays.get("imgs")
    _check_arrays(imgs, segs, file)
    texts, instance_label = _prompts(prompts, file)
    names, previous = arrays.get("names"), arrays.get(_PREVIOUS)
    if imgs is not None and previous is not None and (previous.shape != imgs.shape or previous.dtype.kind not in "uib"):
        raise InputError(f"{_PREVIOUS} in {file} is no labelmap of its image.", _REMEDY)
    return ChallengeCase(
        path=file,
        imgs=imgs,
        spacing=_spacing(arrays.get("spacing"), file),
        text_prompts=texts,
        instance_label=instance_label,
        segs=segs,
        names=None if names is None else {value: str(name) for value, name in enumerate(names.ravel().tolist(), 1)},
        warnings=_warnings(imgs, "spacing" in arrays),
        orientation=code,
        targets={} if imgs is None else target_prompts(boxes, clicks, imgs.shape, file),
        previous=previous,
    )


def challenge_shape(path: str | os.PathLike[str]) -> tuple[int, int, int]:
    """Return the shape (Z, Y, X) of a case's image without reading anything else of it.

    Raises:
        InputError: It cannot be found out, or is no volume of at most `MAX_ARRAY_BYTES` voxels.
    """
    file = existing(path)
    with reading(file, "a challenge npz"), zipfile.ZipFile(file) as archive:
        info = _members(archive, file).get("imgs.npy")
        if info is None:
            raise InputError(f"{file} has no imgs.", _REMEDY)
        with archive.open(info) as stream:
            shape = _header(stream, info, file)[0]
    if len(shape) != 3 or not 0 < prod(shape) <= MAX_ARRAY_BYTES:
        raise InputError(f"imgs in {file} has the shape {shape}, which is no volume.", _REMEDY)
    first, second, third = shape
    return first, second, third


def write_challenge_result(
    path: str | os.PathLike[str],
    segs: np.ndarray,
    spacing: Sequence[float] | None = None,
    names: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write a labelmap as the challenge wants it; no pickle is used.

    Args:
        path: An .npz file.
        segs: Labels (Z, Y, X), whole numbers from 0.
        spacing: (x, y, z) in mm, stored if given.
        names: Names of the labels 1, 2, ..., stored if given.
        overwrite: Replace an existing file.

    Raises:
        InputError: Not a 3-D labelmap.
        OutputError: The file cannot be written.
    """
    if segs.ndim != 3 or segs.dtype.kind not in "uib" or (segs.size and int(segs.min()) < 0):
        raise InputError("A result of the challenge is a 3-D array of whole numbers from 0.", "Pass a labelmap.")
    smallest = np.uint8 if not segs.size or int(segs.max()) < 256 else np.uint16
    arrays: dict[str, Any] = {"segs": segs.astype(smallest, copy=False)}
    if spacing is not None:
        arrays["spacing"] = np.asarray(spacing, dtype=np.float64)
    if names:
        arrays["names"] = np.asarray(list(names), dtype=np.str_)
    with replacing(path, overwrite) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise InputError(f"{path} has {len(infos)} entries, too many for a challenge case.", _REMEDY)
    for info in infos:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
            raise InputError(f"{path} is compressed in an unusual way or encrypted.", _REMEDY)
        if info.file_size > info.compress_size * _MAX_DEFLATE_RATIO + _MAX_HEADER:
            raise InputError(f"{path} claims a size that its data cannot have ({info.filename}).", _REMEDY)
    return {info.filename: info for info in infos}


def _header(stream: IO[bytes], info: zipfile.ZipInfo, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read an npy header; return shape, Fortran order, type and its number of bytes, and leave the stream behind it.

    NumPy reads as many bytes as the header claims to have, so it is given no more than `_MAX_HEADER` of them.
    """
    start = io.BytesIO(stream.read(_MAX_HEADER))
    try:
        read = npy.read_array_header_1_0 if npy.read_magic(start) == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(start)
    except ValueError as error:
        raise InputError(
            f"{info.filename} in {path} is not a NumPy array, or its header is damaged.", _REMEDY
        ) from error
    stream.seek(start.tell())
    return shape, fortran, dtype, start.tell()


def _numbers(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, limit: int) -> np.ndarray:
    with archive.open(info) as stream:
        shape, fortran, dtype, header = _header(stream, info, path)
        if dtype.kind not in "uifbU":
            raise InputError(f"The array {info.filename} in {path} holds {dtype}, not numbers.", _REMEDY)
        size = dtype.itemsize * prod(shape)
        if size > limit:
            raise InputError(
                f"The array {info.filename} in {path} would take {size >> 20} MiB; {limit >> 20} are allowed.",
                "Crop the image.",
            )
        if size != info.file_size - header:
            raise InputError(f"The array {info.filename} in {path} does not have the size it claims.", _REMEDY)
        flat = np.empty(size, dtype=np.uint8)
        done = 0
        while done < size:
            part = stream.read(min(_CHUNK, size - done))
            if not part:
                raise InputError(f"{path} is cut short.", _REMEDY)
            flat[done : done + len(part)] = np.frombuffer(part, dtype=np.uint8)
            done += len(part)
    return flat.view(dtype).reshape(shape, order="F" if fortran else "C")


def _objects(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Any:
    if info.file_size > MAX_BYTES:
        raise InputError(f"{info.filename} in {path} has {info.file_size} bytes, too many for sentences.", _REMEDY)
    with archive.open(info) as stream:
        _, _, dtype, _ = _header(stream, info, path)
        data = stream.read(MAX_BYTES)
    if dtype.kind != "O":
        raise InputError(f"{info.filename} in {path} is not a dictionary of sentences.", _REMEDY)
    return plain_values(data, f"{info.filename} in {path}")


def _check_arrays(imgs: np.ndarray | None, segs: np.ndarray | None, path: Path) -> None:
    if imgs is None and segs is None:
        raise InputError(f"{path} has neither imgs nor segs.", _REMEDY)
    for name, array, kinds in (("imgs", imgs, "uif"), ("segs", segs, "uib")):
        if array is not None and (array.ndim != 3 or array.dtype.kind not in kinds or 0 in array.shape):
            raise InputError(
                f"{name} in {path} is {array.ndim}-D of the type {array.dtype}, not a volume (z, y, x).", _REMEDY
            )
    if imgs is not None and segs is not None and imgs.shape != segs.shape:
        raise InputError(f"imgs {imgs.shape} and segs {segs.shape} in {path} do not fit together.", _REMEDY)


def _spacing(array: np.ndarray | None, path: Path) -> tuple[float, float, float]:
    if array is None:
        return 1.0, 1.0, 1.0
    if array.size != 3 or array.dtype.kind not in "uif":
        raise InputError(f"The spacing in {path} is not three numbers.", _REMEDY)
    x, y, z = (float(value) for value in array.ravel())
    if not all(np.isfinite(value) and value > 0 for value in (x, y, z)):
        raise InputError(f"The spacing in {path} is {(x, y, z)} mm; it must be positive.", _REMEDY)
    return x, y, z


def _warnings(imgs: np.ndarray | None, has_spacing: bool) -> tuple[str, ...]:
    said = []
    if not has_spacing:
        said.append("The npz file does not say the size of its voxels; 1 mm was taken, so volumes are not right.")
    if imgs is not None and (imgs.min() < 0 or imgs.max() > np.iinfo(np.uint8).max):
        said.append(
            f"The intensities of the npz file go from {imgs.min():g} to {imgs.max():g}, not from 0 to 255 as after the "
            "challenge's windows."
        )
    return tuple(said)


def _prompts(value: Any, path: Path) -> tuple[dict[int, str], int]:
    if not isinstance(value, dict):
        raise InputError(f"text_prompts in {path} is not a dictionary.", _REMEDY)
    texts: dict[int, str] = {}
    instance_label = 0
    for key, entry in value.items():
        if key == "instance_label" and isinstance(entry, int):
            instance_label = int(entry)
        elif str(key).isdecimal() and isinstance(entry, str):
            texts[int(key)] = entry
        else:
            raise InputError(f"text_prompts in {path} has the unknown entry {str(key)[:40]!r}.", _REMEDY)
    return texts, instance_label
