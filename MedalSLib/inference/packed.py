"""Boolean masks kept as bits: a hundred masks of a large volume would not fit otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.boxes import Box, intersection, joined, shifted, slices, whole
from MedalSLib.volume import bounding_box

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A boolean volume, kept as the bits of the box around its voxels, eight a byte along the last axis.

    Attributes:
        bits: uint8 (a, b, ceil(c / 8)) of the box; empty if no voxel is set.
        shape: (A, B, C) of the whole volume.
        bounds: The box, which each side of touches a set voxel; None if there is none.
    """

    bits: np.ndarray
    shape: Shape
    bounds: Box | None

    @classmethod
    def of(cls, mask: np.ndarray | PackedMask) -> PackedMask:
        """Return a mask as it is, or packed if it is an array."""
        return mask if isinstance(mask, PackedMask) else cls.pack(mask.astype(bool, copy=False))

    @classmethod
    def pack(cls, mask: np.ndarray) -> PackedMask:
        """Pack a boolean (A, B, C) array."""
        return cls.at((0, 0, 0), mask, mask.shape)

    @classmethod
    def at(cls, corner: Sequence[int], part: np.ndarray, shape: Sequence[int]) -> PackedMask:
        """Pack a part of a volume, outside which no voxel is set.

        Args:
            corner: Index of the part's first voxel in the volume.
            part: Boolean (a, b, c).
            shape: (A, B, C) of the volume.
        """
        box = bounding_box(part)
        if box is None:
            return cls.without_voxels(shape)
        first, second, third = (int(size) for size in shape)
        return cls(packed_bits(part[slices(box)]), (first, second, third), shifted(box, corner))

    @classmethod
    def without_voxels(cls, shape: Sequence[int]) -> PackedMask:
        """Return an empty mask of a volume (A, B, C)."""
        first, second, third = (int(size) for size in shape)
        return cls(np.zeros((0, 0, 0), dtype=np.uint8), (first, second, third), None)

    def inside(self) -> np.ndarray:
        """Return the boolean array of the box, newly made; (0, 0, 0) if no voxel is set."""
        if self.bounds is None:
            return np.zeros((0, 0, 0), dtype=bool)
        start, stop = self.bounds[2]
        return np.unpackbits(self.bits, axis=-1, count=stop - start).view(bool)

    def unpack(self, box: Box | None = None) -> np.ndarray:
        """Return the boolean array, or a box of it, newly made."""
        wanted = box or whole(self.shape)
        result = np.zeros([stop - start for start, stop in wanted], dtype=bool)
        shared = None if self.bounds is None else intersection(wanted, self.bounds)
        if shared is not None and self.bounds is not None:
            first, second, (start, stop) = shifted(shared, [-begin for begin, _ in self.bounds])
            early = start // 8
            bits = self.bits[slice(*first), slice(*second), early : -(-stop // 8)]
            found = np.unpackbits(bits, axis=-1).view(bool)[..., start - 8 * early : stop - 8 * early]
            result[slices(shifted(shared, [-begin for begin, _ in wanted]))] = found
        return result

    def within(self, box: Box) -> PackedMask:
        """Return the mask of a part of the volume, as a volume of its own."""
        shape = [stop - start for start, stop in box]
        shared = None if self.bounds is None else intersection(box, self.bounds)
        if shared is None:
            return PackedMask.without_voxels(shape)
        begin = shifted(shared, [-start for start, _ in box])
        if shared == self.bounds:
            return PackedMask(self.bits, (shape[0], shape[1], shape[2]), begin)
        return PackedMask.at([start for start, _ in begin], self.unpack(shared), shape)

    def moved(self, corner: Sequence[int], shape: Shape) -> PackedMask:
        """Return the same mask in a larger volume, in which this one begins at `corner`."""
        return PackedMask(self.bits, shape, None if self.bounds is None else shifted(self.bounds, corner))

    def transposed(self, order: tuple[int, int, int]) -> PackedMask:
        """Return the same mask with its axes in another order, as `numpy.transpose`."""
        shape = self.shape[order[0]], self.shape[order[1]], self.shape[order[2]]
        if self.bounds is None:
            return PackedMask.without_voxels(shape)
        bounds = self.bounds[order[0]], self.bounds[order[1]], self.bounds[order[2]]
        return PackedMask(packed_bits(self.inside().transpose(order)), shape, bounds)

    def replaced(self, part: np.ndarray, box: Box, where: np.ndarray | None = None) -> PackedMask:
        """Return the mask with other voxels in a box.

        Args:
            part: Boolean (a, b, c) of the box.
            box: Bounds within the volume.
            where: Boolean (a, b, c), the voxels of the box to replace; None for all.
        """
        around = joined([self.bounds, box]) or box
        result = self.unpack(around)
        inside = result[slices(shifted(box, [-start for start, _ in around]))]
        np.copyto(inside, part, where=True if where is None else where)
        return PackedMask.at([start for start, _ in around], result, self.shape)

    @property
    def empty(self) -> bool:
        """Whether no voxel is set."""
        return self.bounds is None


def packed_bits(part: np.ndarray) -> np.ndarray:
    """Pack a boolean array along its last axis, which has to be the fastest for numpy to be quick."""
    return np.packbits(np.ascontiguousarray(part), axis=-1)


class PackedMasks(Mapping[str, np.ndarray]):
    """Masks by key, unpacked each time they are asked for."""

    def __init__(self, masks: Mapping[str, PackedMask]) -> None:
        self._masks = dict(masks)

    def __getitem__(self, key: str) -> np.ndarray:
        return self._masks[key].unpack()

    def __iter__(self) -> Iterator[str]:
        return iter(self._masks)

    def __len__(self) -> int:
        return len(self._masks)

    def packed(self, key: str) -> PackedMask:
        """Return a mask as bits."""
        return self._masks[key]
