"""Arrays on the wire: images as filtered, compressed chunks, masks as the packed bits of their box.

Pure numpy and the standard library.  Nothing here trusts its input: sizes are computed from the announced shape and
compared with a limit before memory is taken, and decompression stops at the announced size.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.service.protocol import EncodedArray
from MedalSLib.volume.box import EMPTY, Box, Shape, shape_of
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.mask import BoxMask

IMAGE_DTYPES = ("|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f4", "<f8")
LABEL_DTYPES = ("|u1", "<u2", "<u4")
BITS = "bits"
MAX_AXIS = 1 << 16
"""Longest axis accepted: far above any scanner, and small enough that products of three stay exact."""
_PIECE = 1 << 18
"""Characters of base64 decoded at once: no other thread runs meanwhile, the event loop's neither."""


class DamagedError(ValueError):
    """Bytes that are not what they were announced to be."""


def canonical_image(array_kji: np.ndarray) -> np.ndarray:
    """Return a private, little-endian, C-ordered copy (K, J, I) of an image, in a type that can travel.

    Raises:
        InputError: Not a 3-D array of real numbers.
    """
    array = np.asarray(array_kji)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"The image has the shape {array.shape}, not three axes.", "Give one 3-D volume.")
    if array.dtype.kind not in "buif":
        raise InputError(f"The image holds values of the type {array.dtype}.", "Give an image of real numbers.")
    target: np.dtype[Any]
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "b":
        target = np.dtype("|u1")
    elif kind == "f":
        target = np.dtype("<f4") if size <= 4 else np.dtype("<f8")
    else:
        target = array.dtype.newbyteorder("<")
    return np.array(array, dtype=target, order="C", copy=True)


def image_bytes(dtype: str, shape: Shape) -> int:
    """Return the size of an image in bytes.

    Raises:
        DamagedError: A type or shape that no image has.
    """
    if dtype not in IMAGE_DTYPES:
        raise DamagedError(f"the type is not one of {', '.join(IMAGE_DTYPES)}")
    return check_shape(shape) * np.dtype(dtype).itemsize


def check_shape(shape: Shape) -> int:
    """Return the number of voxels of a shape.

    Raises:
        DamagedError: An axis is empty or absurdly long.
    """
    if any(not 1 <= axis <= MAX_AXIS for axis in shape):
        raise DamagedError(f"an axis is not between 1 and {MAX_AXIS}")
    return math.prod(shape)


def image_digest(dtype: str, shape: Shape, data: memoryview | bytes) -> str:
    """Return the address of an image: SHA-256 of its type, shape and voxels.

    Args:
        dtype: One of `IMAGE_DTYPES`.
        shape: (K, J, I).
        data: The voxels in C order.
    """
    digest = hashlib.sha256(f"medals-image {dtype} {shape[0]} {shape[1]} {shape[2]}\n".encode())
    digest.update(data)
    return digest.hexdigest()


def digest_of(array: np.ndarray) -> str:
    """Return the address of a canonical image (see `canonical_image`)."""
    shape: Shape = (array.shape[0], array.shape[1], array.shape[2])
    return image_digest(array.dtype.str, shape, array_bytes(array))


def array_bytes(array: np.ndarray) -> memoryview:
    """Return a C-ordered array's memory as bytes, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def chunk_bounds(total: int, chunk_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open byte bounds of an image's chunks."""
    for start in range(0, total, chunk_bytes):
        yield start, min(start + chunk_bytes, total)


def encode_chunk(data: memoryview, itemsize: int, level: int = 1) -> bytes:
    """Compress a chunk of voxels.

    Neighbouring voxels are alike, so differences are stored, high and low bytes apart: a noisy CT shrinks by a sixth
    more than with zlib alone, at the same speed.

    Args:
        data: Bytes of whole voxels.
        itemsize: Bytes of a voxel.
        level: Level of zlib; 0 stores (for the loopback).
    """
    words = np.frombuffer(data, dtype=f"<u{itemsize}")
    differences = np.empty_like(words)
    differences[:1] = words[:1]
    np.subtract(words[1:], words[:-1], out=differences[1:])
    planes = np.ascontiguousarray(differences.view(np.uint8).reshape(-1, itemsize).T)
    return zlib.compress(planes.data, level)


def decode_chunk(data: bytes, size: int, itemsize: int) -> np.ndarray:
    """Return a chunk's bytes as uint8, the inverse of `encode_chunk`.

    Args:
        data: The compressed chunk.
        size: Bytes it must unpack to.
        itemsize: Bytes of a voxel.

    Raises:
        DamagedError: Not a compressed chunk of exactly this size.
    """
    planes = np.frombuffer(inflate(data, size), dtype=np.uint8).reshape(itemsize, -1)
    differences = np.ascontiguousarray(planes.T).reshape(-1).view(f"<u{itemsize}")
    words = np.cumsum(differences, dtype=differences.dtype)  # wraps around, as the differences did
    return words.view(np.uint8)


def inflate(data: bytes, size: int) -> bytes:
    """Decompress to exactly `size` bytes, never more.

    Raises:
        DamagedError: Not zlib data, or of another size.
    """
    engine = zlib.decompressobj()
    try:
        plain = engine.decompress(data, size + 1)
    except zlib.error as error:
        raise DamagedError("the compressed data are damaged") from error
    if len(plain) != size or not engine.eof or engine.unused_data:
        raise DamagedError("the compressed data have another size than announced")
    return plain


def encode_mask(mask: BoxMask) -> EncodedArray:
    """Encode a mask (K, J, I) as the packed bits of its box."""
    return _encoded(mask.shape, mask.box, BITS, mask.to_bytes())


def encode_labels(labels: BoxArray) -> EncodedArray:
    """Encode an unsigned labelmap (K, J, I) as its box, in the smallest type that holds it."""
    crop = labels.crop
    if crop.dtype.newbyteorder("<").str not in LABEL_DTYPES:
        crop = crop.astype(np.min_scalar_type(int(crop.max(initial=0))))
    dtype = crop.dtype.newbyteorder("<").str
    return _encoded(labels.shape, labels.box, dtype, np.ascontiguousarray(crop, dtype=dtype).tobytes())


def _encoded(shape: Shape, box: Box | None, dtype: str, plain: bytes) -> EncodedArray:
    data = base64.b64encode(zlib.compress(plain, 1)).decode("ascii") if box is not None else ""
    return EncodedArray(shape, box or EMPTY, dtype, data)


def check_array(encoded: EncodedArray, shape: Shape, dtypes: tuple[str, ...]) -> int:
    """Check an encoded array's announcement and return the bytes of its crop, without decoding it.

    Args:
        encoded: The array.
        shape: (K, J, I) of the image.
        dtypes: Accepted types: `BITS`, or those of `LABEL_DTYPES`.

    Raises:
        DamagedError: Another grid than `shape`, a box outside of it, another type, or more data than its box can hold.
    """
    if tuple(encoded.shape) != tuple(shape):
        raise DamagedError(f"the array has the shape {tuple(encoded.shape)}, the image {tuple(shape)}")
    if encoded.dtype not in dtypes:
        raise DamagedError(f"the array's type is not one of {', '.join(dtypes)}")
    voxels = 1
    for (low, high), axis in zip(encoded.box, shape, strict=True):
        if not 0 <= low <= high <= axis:
            raise DamagedError("the array's box reaches out of the image")
        voxels *= high - low
    size = (voxels + 7) // 8 if encoded.dtype == BITS else voxels * np.dtype(encoded.dtype).itemsize
    if len(encoded.data) > 4 * (size + size // 1000 + 64) // 3 + 4:  # base64 of what zlib makes of noise
        raise DamagedError("the array's data are longer than its box can hold")
    return size


def decode_mask(encoded: EncodedArray, shape: Shape) -> BoxMask:
    """Return the mask (K, J, I) that `encode_mask` wrote.

    Args:
        encoded: The mask.
        shape: The image's shape.

    Raises:
        DamagedError: The announcement or the data do not fit the grid.
    """
    return BoxMask.from_bytes(_plain(encoded, check_array(encoded, shape, (BITS,))), encoded.box, shape)


def decode_labels(encoded: EncodedArray, shape: Shape) -> BoxArray:
    """Return the labelmap (K, J, I) that `encode_labels` wrote.

    Args:
        encoded: The labelmap.
        shape: The image's shape.

    Raises:
        DamagedError: The announcement or the data do not fit the grid.
    """
    plain = _plain(encoded, check_array(encoded, shape, LABEL_DTYPES))
    crop = np.frombuffer(plain, dtype=encoded.dtype).reshape(shape_of(encoded.box))
    return BoxArray(crop, encoded.box if crop.size else None, shape)


def _plain(encoded: EncodedArray, size: int) -> bytes:
    if not size:
        return b""
    pieces = (encoded.data[start : start + _PIECE] for start in range(0, len(encoded.data), _PIECE))
    try:
        packed = b"".join(base64.b64decode(piece, validate=True) for piece in pieces)
    except (binascii.Error, ValueError) as error:
        raise DamagedError("the array is not base64") from error
    return inflate(packed, size)


def body_digest(body: bytes) -> str:
    """Return the value of a `Content-Digest` header (RFC 9530) for a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode('ascii')}:"
