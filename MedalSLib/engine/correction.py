"""A correction in progress: where the user painted, which patches are near, and what he may see before all is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from MedalSLib.inference.boxes import Box
    from MedalSLib.inference.packed import PackedMask
    from MedalSLib.inference.segment import RunKey
    from MedalSLib.inference.tiling import Tile


@dataclass(frozen=True)
class Correction:
    """What the user painted in or erased since the last result.

    Attributes:
        box: Bounds (D, H, W) of all of it.
        masks: Masks (D, H, W) of the structures he painted, by key, as they were handed in and then as they are shown.
        locked: Where the user's value stays, by key.
    """

    box: Box
    masks: dict[str, PackedMask]
    locked: Mapping[str, PackedMask]

    @classmethod
    def of(
        cls, masks: Mapping[str, np.ndarray | PackedMask], locked: Mapping[str, np.ndarray | PackedMask]
    ) -> Correction | None:
        """Return the correction that masks and locks describe, None if nothing is locked."""
        from MedalSLib.inference.boxes import joined
        from MedalSLib.inference.packed import PackedMask

        edits = {key: mask for key, lock in locked.items() if not (mask := PackedMask.of(lock)).empty}
        box = joined(mask.bounds for mask in edits.values())
        if box is None:
            return None
        return cls(box, {key: PackedMask.of(masks[key]) for key in edits}, edits)

    def nearest_first(self, key: RunKey, tiles: Sequence[Tile]) -> list[Tile]:
        """Order the patches of a run by the distance of their middle to the edit's, in the network's voxels.

        Args:
            key: The run, whose region the patches cover.
            tiles: Its patches, axes (H, W, D).
        """
        deep, high, wide = (
            (start + stop) / 2 - begin for (start, stop), (begin, _) in zip(self.box, key.region, strict=True)
        )
        scale = [own / target for own, target in zip(key.spacing, key.target_spacing, strict=True)]
        edit = [value * factor for value, factor in zip((high, wide, deep), scale, strict=True)]

        def distance(tile: Tile) -> float:
            return sum(((tile[2 * axis] + tile[2 * axis + 1]) / 2 - edit[axis]) ** 2 for axis in range(3))

        return sorted(tiles, key=distance)

    def show(
        self, keys: Sequence[str], box: Box, probabilities: np.ndarray, tell: Callable[[str, PackedMask], None]
    ) -> None:
        """Put a patch's answer into the masks of the structures being corrected, and tell of each.

        Args:
            keys: Structures of the answer.
            box: Where it lies (D, H, W).
            probabilities: (N, D, H, W) there.
            tell: Called with each changed structure's key and mask (D, H, W).
        """
        if 0 in probabilities.shape:
            return
        for key, values in zip(keys, probabilities, strict=True):
            if key not in self.masks:
                continue
            free = ~self.locked[key].within(box).unpack()
            self.masks[key] = self.masks[key].replaced(values >= 0.5, box, where=free)
            tell(key, self.masks[key])
