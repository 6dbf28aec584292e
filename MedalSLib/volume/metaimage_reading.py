"""Read MetaImage files, and say what their headers leave out.

ITK's reader crashes the process on some damaged headers and reads damaged voxels without an error, so the format, which
is a few lines of text before plain voxels, is read here.
"""

from __future__ import annotations

import zlib
from math import prod
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading
from MedalSLib.volume.formats import check_claim
from MedalSLib.volume.geometry import Grid, grid_from_lps
from MedalSLib.volume.image import check_volume

_MAX_HEADER = 1 << 16
_SPACING, _ORIENTATION = ("elementspacing", "elementsize"), ("transformmatrix", "rotation", "orientation")
_ORIGIN = ("offset", "position", "origin")
_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_REMEDY = "It may be damaged or cut short: copy or export it again, or save it as .nrrd in 3D Slicer."
Header = dict[str, str]


def read_metaimage(path: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Return the frames or components (L, K, J, I), their grid, and what the user should know.

    Raises:
        InputError: Damaged, cut short, 2-D, or its header claims more than the file can hold.
    """
    with reading(path, "MetaImage"):
        header, begin = _header(path)
        sizes = tuple(int(size) for size in _field(header, "dimsize", path).split())
        dimension, components = len(sizes), int(header.get("elementnumberofchannels", "1"))
        if dimension != int(header.get("ndims", dimension)) or min((*sizes, components)) < 1:
            raise InputError(f"The header of {path} is damaged (DimSize {header['dimsize']}).", _REMEDY)
        check_volume(sizes[:3], path)
        if dimension > 4 or (dimension == 4 and components > 1):
            raise InputError(f"{path} has more than four axes.", "Save a single 3-D volume of it.")
        grid = _grid(header, sizes, dimension)
        voxels = _voxels(header, path, begin, (*sizes, components))
    array = voxels.reshape(*sizes[::-1], components)
    layers = array[..., 0] if dimension == 4 else np.moveaxis(array, -1, 0)
    return layers, grid, _omissions(header)


def _header(path: Path) -> tuple[Header, int]:
    """Return the fields of the header, which is text up to the name of the data file, and where it ends."""
    with path.open("rb") as stream:
        text = stream.read(_MAX_HEADER)
    fields: Header = {}
    begin = 0
    for line in text.splitlines(keepends=True):
        begin += len(line)
        key, separator, value = line.decode("latin-1").partition("=")
        if not separator:
            break
        fields[key.strip().lower()] = value.strip()
        if key.strip().lower() == "elementdatafile":
            return fields, begin
    raise InputError(f"The header of {path} does not say where its voxels are (ElementDataFile).", _REMEDY)


def _field(header: Header, key: str, path: Path) -> str:
    if not header.get(key):
        raise InputError(f"The header of {path} is damaged: {key} is missing.", _REMEDY)
    return header[key]


def _first(header: Header, keys: tuple[str, ...], default: np.ndarray) -> np.ndarray:
    """Return the numbers of the first of several fields that is there."""
    text = next((header[key] for key in keys if key in header), None)
    return default if text is None else np.array([float(number) for number in text.split()])


def _grid(header: Header, sizes: tuple[int, ...], dimension: int) -> Grid:
    spacing = _first(header, _SPACING, np.ones(dimension))[:3]
    origin = _first(header, _ORIGIN, np.zeros(dimension))[:3]
    # Each row of the matrix is the direction of an axis.
    matrix = _first(header, _ORIENTATION, np.eye(dimension).ravel()).reshape(dimension, dimension)[:3, :3].T
    lengths = np.linalg.norm(matrix, axis=0)
    i, j, k = sizes[:3]
    return grid_from_lps(
        (k, j, i), origin.tolist(), spacing.tolist(), (matrix / np.where(lengths, lengths, 1)).ravel().tolist()
    )


def _voxels(header: Header, path: Path, begin: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxels, the first axis running fastest."""
    kind = _field(header, "elementtype", path).upper().removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise InputError(f"The voxels of {path} are of the type {kind}, which is not read.", _REMEDY)
    is_big = any(_is_true(header, key) for key in ("binarydatabyteordermsb", "elementbyteordermsb"))
    dtype = np.dtype((">" if is_big else "<") + _TYPES[kind])
    is_packed = _is_true(header, "compresseddata")
    files = _data_files(header, path, begin)
    expected = prod(shape) * dtype.itemsize
    if len(files) == 1 and header.get("binarydata", "true").lower() != "false":
        check_claim(files[0][0], shape, dtype.itemsize, "gzip" if is_packed else "")
    parts = [_data(file, start, header, expected // len(files), is_packed) for file, start in files]
    data = b"".join(parts)
    if header.get("binarydata", "true").lower() == "false":
        return np.array(data.split()[: prod(shape)], dtype=dtype)
    if len(data) != expected:
        raise InputError(f"{path} holds {len(data):,} bytes of voxels in place of {expected:,}.", _REMEDY)
    return np.frombuffer(data, dtype)


def _data_files(header: Header, path: Path, begin: int) -> list[tuple[Path, int]]:
    """Return the files with the voxels and where in each they begin."""
    name = header["elementdatafile"]
    if name.upper() == "LOCAL":
        return [(path, begin)]
    names = [name]
    if name.upper() == "LIST":
        with path.open("rb") as stream:
            stream.seek(begin)
            names = [line.strip() for line in stream.read(_MAX_HEADER).decode("latin-1").splitlines() if line.strip()]
    if "%" in name or not names:
        raise InputError(f"{path} names its data files by a pattern ({name}).", "Save it as one file in 3D Slicer.")
    files = [path.parent / entry for entry in names]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"The voxels of {path} are missing: there is no file {missing[0].name} beside it.",
                         "Copy both files into one folder.")  # fmt: skip
    size = int(header.get("headersize", "0"))
    return [(file, max(0, size)) for file in files] if size >= 0 else [(file, -1) for file in files]


def _data(file: Path, start: int, header: Header, expected: int, is_packed: bool) -> bytes:
    """Return the bytes of voxels in a file; with a start of -1, its last ones."""
    with file.open("rb") as stream:
        stream.seek(file.stat().st_size - expected if start < 0 else start)
        if not is_packed:
            return stream.read(-1 if header.get("binarydata", "true").lower() == "false" else expected)
        unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)
        data = unpacker.decompress(stream.read(), expected + 1)
        if not unpacker.eof and not unpacker.decompress(unpacker.unconsumed_tail, 1) and not unpacker.eof:
            raise InputError(f"The compressed voxels of {file} are cut short.", _REMEDY)
        return data


def _is_true(header: Header, key: str) -> bool:
    return header.get(key, "").lower() in ("true", "1")


def _omissions(header: Header) -> tuple[str, ...]:
    said = []
    if not any(key in header for key in _SPACING):
        said.append("The MetaImage file does not say the size of its voxels; 1 mm was taken, so volumes are not right.")
    if not any(key in header for key in _ORIENTATION):
        said.append("The MetaImage file does not say how the image lies in the patient; left and right may be swapped.")
    return tuple(said)
