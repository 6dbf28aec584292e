"""The mask of a structure: the bits of the box around its voxels, from the network's answer to the segment in Slicer.

Of a CT of 512 x 512 x 300 voxels an organ fills a few percent; a hundred dense masks of it would take 8 GB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.volume.box import (
    Box,
    Shape,
    bounding_box,
    corner_of,
    intersection,
    relative,
    shape_of,
    shifted,
    slices,
    turned,
    union,
    whole,
)


@dataclass(frozen=True, eq=False)
class BoxMask:
    """A boolean volume, kept as the bits of the box around its voxels.

    Immutable.  The axes are those of the volume it was made from: (K, J, I) outside the engine, (D, H, W) inside.

    Attributes:
        bits: uint8 (a, b, ceil(c / 8)) of the box, eight voxels a byte along the last axis, big bit first.
        shape: (A, B, C) of the whole volume.
        box: The box, each side of which touches a set voxel; None if no voxel is set.
    """

    bits: np.ndarray
    shape: Shape
    box: Box | None

    @classmethod
    def of(cls, mask: np.ndarray | BoxMask) -> BoxMask:
        """Return the mask of an array (A, B, C), in which what is not zero is set; a mask is returned as it is."""
        if isinstance(mask, BoxMask):
            return mask
        return cls.from_crop(mask if mask.dtype == bool else mask != 0, (0, 0, 0), mask.shape)

    @classmethod
    def from_crop(cls, crop: np.ndarray, corner: Sequence[int], shape: Sequence[int]) -> BoxMask:
        """Return the mask of a volume, outside a part of which no voxel is set.

        Args:
            crop: Boolean (a, b, c), the part.
            corner: Index of its first voxel in the volume.
            shape: (A, B, C) of the volume.
        """
        box = bounding_box(crop)
        if box is None:
            return cls.empty(shape)
        first, second, third = (int(size) for size in shape)
        return cls(pack_bits(crop[slices(box)]), (first, second, third), shifted(box, corner))

    @classmethod
    def empty(cls, shape: Sequence[int]) -> BoxMask:
        """Return the mask of a volume (A, B, C) in which no voxel is set."""
        first, second, third = (int(size) for size in shape)
        return cls(np.zeros((0, 0, 0), dtype=np.uint8), (first, second, third), None)

    @classmethod
    def from_bytes(cls, data: bytes, box: Box, shape: Sequence[int]) -> BoxMask:
        """Return the mask that `to_bytes` wrote.

        Args:
            data: The bytes.
            box: Where they lie within the volume; `EMPTY` if no voxel is set.
            shape: (A, B, C) of the volume.

        Raises:
            ValueError: There are more or fewer bytes than the box has voxels.
        """
        size = shape_of(box)
        count = size[0] * size[1] * size[2]
        if len(data) != -(-count // 8):
            raise ValueError(f"{len(data)} bytes are not the bits of {count} voxels")
        if not count:
            return cls.empty(shape)
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), count=count)
        return cls.from_crop(bits.view(bool).reshape(size), corner_of(box), shape)

    @property
    def is_empty(self) -> bool:
        """Whether no voxel is set."""
        return self.box is None

    def count(self) -> int:
        """Return the number of set voxels."""
        return int(np.count_nonzero(self.crop()))

    def crop(self) -> np.ndarray:
        """Return the boolean array of the box, newly made; (0, 0, 0) if no voxel is set."""
        if self.box is None:
            return np.zeros((0, 0, 0), dtype=bool)
        start, stop = self.box[2]
        return np.unpackbits(self.bits, axis=-1, count=stop - start).view(bool)

    def array(self, box: Box | None = None) -> np.ndarray:
        """Return the boolean array of the whole volume, or of a box of it, newly made."""
        wanted = box or whole(self.shape)
        result = np.zeros(shape_of(wanted), dtype=bool)
        shared = None if self.box is None else intersection(wanted, self.box)
        if shared is not None and self.box is not None:
            first, second, (start, stop) = relative(shared, self.box)
            early = start // 8  # bits are cut at whole bytes
            bits = self.bits[slice(*first), slice(*second), early : -(-stop // 8)]
            found = np.unpackbits(bits, axis=-1).view(bool)[..., start - 8 * early : stop - 8 * early]
            result[slices(relative(shared, wanted))] = found
        return result

    def to_bytes(self) -> bytes:
        """Return the bits of the box in C order, without gaps between its rows: what travels between computers."""
        return np.packbits(self.crop()).tobytes()

    def within(self, box: Box) -> BoxMask:
        """Return the mask of a part of the volume, as a volume of its own."""
        shared = None if self.box is None else intersection(box, self.box)
        if shared is None:
            return BoxMask.empty(shape_of(box))
        if shared == self.box:
            return BoxMask(self.bits, shape_of(box), relative(shared, box))
        return BoxMask.from_crop(self.array(shared), corner_of(relative(shared, box)), shape_of(box))

    def placed(self, corner: Sequence[int], shape: Sequence[int]) -> BoxMask:
        """Return the same mask in a larger volume (A, B, C), in which this one begins at `corner`."""
        first, second, third = (int(size) for size in shape)
        return BoxMask(self.bits, (first, second, third), None if self.box is None else shifted(self.box, corner))

    def limited(self, box: Box) -> BoxMask:
        """Return the mask without what lies outside a box."""
        return self.within(box).placed(corner_of(box), self.shape)

    def turned(self, order: Sequence[int], flips: Sequence[int] = ()) -> BoxMask:
        """Return the same mask on other axes; `order` and `flips` are those of `box.turned`."""
        first, second, third = order
        shape = self.shape[first], self.shape[second], self.shape[third]
        if self.box is None:
            return BoxMask.empty(shape)
        crop = self.crop().transpose(tuple(order))
        return BoxMask(
            pack_bits(np.flip(crop, tuple(flips)) if flips else crop), shape, turned(self.box, shape, order, flips)
        )

    def replaced(self, crop: np.ndarray, box: Box, where: np.ndarray | None = None) -> BoxMask:
        """Return the mask with other voxels in a box.

        Args:
            crop: Boolean (a, b, c) of the box.
            box: Where it lies within the volume.
            where: Boolean (a, b, c), the voxels of the box to replace; None for all.
        """
        around = union([self.box, box]) or box
        result = self.array(around)
        np.copyto(result[slices(relative(box, around))], crop, where=True if where is None else where)
        return BoxMask.from_crop(result, corner_of(around), self.shape)

    def __and__(self, other: BoxMask) -> BoxMask:
        shared = None if self.box is None or other.box is None else intersection(self.box, other.box)
        return BoxMask.empty(self.shape) if shared is None else self._joined(other, np.logical_and, shared)

    def __or__(self, other: BoxMask) -> BoxMask:
        return self._joined(other, np.logical_or, union([self.box, other.box]))

    def __xor__(self, other: BoxMask) -> BoxMask:
        return self._joined(other, np.logical_xor, union([self.box, other.box]))

    def __sub__(self, other: BoxMask) -> BoxMask:
        return self._joined(other, np.greater, self.box)  # of booleans: set here and not there

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoxMask):
            return NotImplemented
        same = self.shape == other.shape and self.box == other.box
        return same and np.array_equal(self.bits, other.bits)

    __hash__ = None  # type: ignore[assignment]  # the bits are an array

    def _joined(self, other: BoxMask, how: Callable[..., np.ndarray], box: Box | None) -> BoxMask:
        if self.shape != other.shape:
            raise ValueError(f"masks of volumes of {self.shape} and {other.shape} voxels do not belong together")
        if box is None:
            return BoxMask.empty(self.shape)
        return BoxMask.from_crop(how(self.array(box), other.array(box)), corner_of(box), self.shape)


def pack_bits(crop: np.ndarray) -> np.ndarray:
    """Return the bits of a boolean (a, b, c) as `BoxMask.bits`."""
    return np.packbits(np.ascontiguousarray(crop), axis=-1)  # numpy is quick where the last axis is the fastest


class DenseMasks(Mapping[str, np.ndarray]):
    """Masks by name as boolean arrays, each made anew when it is asked for.

    Args:
        masks: Masks by name.
        aliases: Name by another name for it, such as the phrase that was typed; letter case does not matter.
    """

    def __init__(self, masks: Mapping[str, BoxMask], aliases: Mapping[str, str] | None = None) -> None:
        self._masks = dict(masks)
        self._aliases = {name.casefold(): name for name in masks}
        self._aliases |= {alias.casefold(): name for alias, name in (aliases or {}).items()}

    def __getitem__(self, name: str) -> np.ndarray:
        found = name if name in self._masks else self._aliases.get(name.casefold())
        if found is None or found not in self._masks:
            raise KeyError(name)
        return self._masks[found].array()

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)
