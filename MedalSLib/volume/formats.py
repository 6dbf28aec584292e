"""What kind of file something is: its content decides, not the ending of its name."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO, Literal

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_series import is_dicom

FileFormat = Literal["NIfTI", "NRRD", "MetaImage", "npz", "DICOM"]
_BEGINNING = 352
_GZIP = b"\x1f\x8b"
_MOST_WRAPPINGS = 3
_MAX_GZIP_RATIO, _MAX_BZIP2_RATIO = 1100, 1 << 17  # deflate shrinks to 1/1032 at best
_HEADERS = 1 << 16


def format_of(path: Path) -> FileFormat | None:
    """Return the format of a file by its first bytes, looking into gzip; None if it is none of those that are read.

    Raises:
        InputError: It is something that often lies where an image should: a web page, or a Git LFS pointer.
    """
    with path.open("rb") as stream:
        start = stream.read(_BEGINNING)
    packed = start.startswith(_GZIP)
    if packed:
        start = _unpacked_start(path)
    if (start[344:347] in (b"n+1", b"ni1")) or start[4:7] in (b"n+2", b"ni2"):
        return "NIfTI"
    if start.startswith(b"NRRD0"):
        found: FileFormat | None = "NRRD"
    elif b"ObjectType" in start or b"NDims" in start:
        found = "MetaImage"
    elif start.startswith(b"PK\x03\x04"):
        found = "npz"
    else:
        found = None
    if packed and found:
        raise InputError(f"{path} is a packed {found} file.", "Unpack it first (gunzip).")
    if found is None and not packed and is_dicom(path):
        return "DICOM"
    if found is None:
        _refuse_impostors(start, path)
    return found


def gzip_layers(path: Path) -> int:
    """Return how often a file is packed with gzip."""
    layers = 0
    while layers < _MOST_WRAPPINGS:
        with open_unpacked(path, layers) as stream:
            try:
                if stream.read(2) != _GZIP:
                    break
            except (OSError, EOFError, zlib.error):
                break
        layers += 1
    return layers


def open_unpacked(path: Path, layers: int) -> IO[bytes]:
    """Open a file from which so many layers of gzip are taken."""
    stream: IO[bytes] = path.open("rb")
    for _ in range(layers):
        stream = gzip.GzipFile("", "rb", fileobj=stream)  # type: ignore[assignment]
    return stream


def check_claim(path: Path, shape: tuple[int, ...], bytes_per_voxel: int, packing: str = "") -> None:
    """Refuse a header that claims more voxels than the file can hold, before memory is taken for them.

    Args:
        path: The file.
        shape: Voxels along each axis, as the header says.
        bytes_per_voxel: Size of one.
        packing: "" for none, "gzip" or "bzip2".

    Raises:
        InputError: The header does not fit the file.
    """
    claimed = prod(int(size) for size in shape) * bytes_per_voxel
    held = path.stat().st_size
    most = held * {"": 1, "gzip": _MAX_GZIP_RATIO, "bzip2": _MAX_BZIP2_RATIO}[packing] + _HEADERS * bool(packing)
    if claimed > most:
        raise InputError(
            f"The header of {path} claims {'x'.join(str(size) for size in shape)} voxels ({claimed:,} bytes), which do "
            f"not fit into its {held:,} bytes.",
            "It may be damaged or cut short: copy or export it again.",
        )


def _unpacked_start(path: Path) -> bytes:
    try:
        with open_unpacked(path, gzip_layers(path)) as stream:
            return stream.read(_BEGINNING)
    except (OSError, EOFError, zlib.error):
        return b""  # damaged; whoever reads it says so


def _refuse_impostors(start: bytes, path: Path) -> None:
    text = start.lstrip().lower()
    if text.startswith((b"<html", b"<!doctype", b"<?xml", b"<head", b"<body")):
        raise InputError(f"{path} is a web page, not an image.", "Download the file itself, logged in if need be.")
    if text.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the image.", "Fetch the image with: git lfs pull")
