"""What a user changed in a mask since a program last wrote it, through undo and redo."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from MedalSLib.volume.mask import BoxMask

_STATES = 100
"""States remembered of a mask: far more than Slicer's undo steps."""


@dataclass(frozen=True, eq=False)
class Edit:
    """What a user did to a mask.

    Attributes:
        mask: The mask as it is now.
        change: Voxels that differ from the last result.
        decided: All voxels that the user decided, in earlier edits of that result's forerunners too.
    """

    mask: BoxMask
    change: BoxMask
    decided: BoxMask


@dataclass(frozen=True, eq=False)
class _Base:
    result: BoxMask
    decided: BoxMask


class EditHistory:
    """One mask: the results that a program left in it, and the states in which it was seen since.

    An undo brings back a state that was seen before, voxel for voxel.  What the user changed is then the difference to
    the result that was the last one at that time, so that undoing is not taken for painting or erasing.

    Args:
        result: The mask as it is at first.
    """

    def __init__(self, result: BoxMask) -> None:
        self._base = _Base(result, BoxMask.empty(result.shape))
        self._seen: OrderedDict[bytes, _Base] = OrderedDict()
        self._note(_digest(result))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the volume."""
        return self._base.result.shape

    @property
    def decided(self) -> BoxMask:
        """What the user had decided when the last result was made, and found right since."""
        return self._base.decided

    def record(self, result: BoxMask, decided: BoxMask | None = None) -> None:
        """Take note of a result; `decided` are the user's voxels that it honours."""
        self._base = _Base(result, decided or BoxMask.empty(result.shape))
        self._note(_digest(result))

    def decide(self, voxels: BoxMask) -> None:
        """Take note that the user finds voxels right as they are."""
        old, self._base = self._base, _Base(self._base.result, self._base.decided | voxels)
        self._seen = OrderedDict((key, self._base if base is old else base) for key, base in self._seen.items())

    def edit(self, current: BoxMask) -> Edit | None:
        """Return what the user changed since the last result; None if the mask is a result."""
        key = _digest(current)
        self._base = self._seen.get(key, self._base)
        self._note(key)
        change = current ^ self._base.result
        return None if change.is_empty else Edit(current, change, self._base.decided | change)

    def _note(self, key: bytes) -> None:
        self._seen[key] = self._base
        self._seen.move_to_end(key)
        if len(self._seen) > _STATES:
            self._seen.popitem(last=False)


def _digest(mask: BoxMask) -> bytes:
    return hashlib.blake2b(mask.bits.tobytes() + repr((mask.shape, mask.box)).encode(), digest_size=16).digest()
