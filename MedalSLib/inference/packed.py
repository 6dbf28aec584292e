"""Boolean masks kept as bits: a hundred masks of a large volume would not fit otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from MedalSLib.volume import bounding_box

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Half-open bounds along the three axes of the array at hand."""
Slices = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PackedMask:
    """A boolean volume, eight voxels a byte along its last axis.

    Attributes:
        bits: uint8 (A, B, ceil(C / 8)).
        shape: (A, B, C).
    """

    bits: np.ndarray
    shape: tuple[int, int, int]

    @classmethod
    def pack(cls, mask: np.ndarray) -> PackedMask:
        """Pack a boolean (A, B, C) array."""
        first, second, third = mask.shape
        return cls(np.packbits(mask, axis=-1), (first, second, third))

    def unpack(self, part: Slices | None = None) -> np.ndarray:
        """Return the boolean array, or a part of it, newly made."""
        if part is None:
            return np.unpackbits(self.bits, axis=-1, count=self.shape[2]).view(bool)
        first, second, third = part
        start = third.start // 8
        found = np.unpackbits(self.bits[first, second, start : -(-third.stop // 8)], axis=-1).view(bool)
        return found[..., third.start - 8 * start : third.stop - 8 * start]

    def box(self) -> Slices | None:
        """Return the bounds of the set voxels, the last axis's in steps of eight; None if there is none."""
        box = bounding_box(self.bits != 0)
        if box is None:
            return None
        first, second, (start, stop) = box
        return slice(*first), slice(*second), slice(8 * start, min(8 * stop, self.shape[2]))

    @property
    def empty(self) -> bool:
        """Whether no voxel is set."""
        return not self.bits.any()


class LazyMasks(Mapping[int, np.ndarray]):
    """Masks by position, each made when it is asked for: all of them at once would not fit.

    Args:
        makers: What makes each mask.
    """

    def __init__(self, makers: Mapping[int, Callable[[], np.ndarray]]) -> None:
        self._makers = dict(makers)

    @classmethod
    def changed(cls, masks: Mapping[int, np.ndarray], change: Callable[[np.ndarray], np.ndarray]) -> LazyMasks:
        """Return other masks with a change applied when one is asked for."""
        return cls({index: lambda index=index: change(masks[index]) for index in masks})  # type: ignore[misc]

    def joined(self, masks: Mapping[int, np.ndarray]) -> LazyMasks:
        """Return these masks and others; the others win."""
        return LazyMasks({**self._makers, **LazyMasks.changed(masks, lambda mask: mask)._makers})

    def __getitem__(self, index: int) -> np.ndarray:
        return self._makers[index]()

    def __iter__(self) -> Iterator[int]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


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
