"""What the user painted since the last result: which patches are near it, and what may be shown before all are done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from MedalSLib.inference.hooks import RunKey
from MedalSLib.inference.tiling import Tile
from MedalSLib.network.axes import hwd
from MedalSLib.volume.box import Box, relative, union
from MedalSLib.volume.mask import BoxMask


@dataclass(frozen=True)
class Edit:
    """What the user painted in or erased since the last result.

    Attributes:
        box: Bounds (D, H, W) of all of it.
        masks: Masks (D, H, W) of the structures they painted, by key, as handed in and then as shown.
        locked: Where the user's value stays, by key.
    """

    box: Box
    masks: dict[str, BoxMask]
    locked: Mapping[str, BoxMask]

    @classmethod
    def of(cls, masks: Mapping[str, BoxMask], locked: Mapping[str, BoxMask]) -> Edit | None:
        """Return the edit that masks and locks describe, None if nothing is locked."""
        edits = {key: lock for key, lock in locked.items() if not lock.is_empty}
        box = union(lock.box for lock in edits.values())
        return None if box is None else cls(box, {key: masks[key] for key in edits}, edits)

    def nearest_first(self, key: RunKey, tiles: Sequence[Tile]) -> list[Tile]:
        """Order the patches of a run by the distance of their middle to the edit's, in the network's voxels.

        Args:
            key: The run, whose region the patches cover.
            tiles: Its patches, axes (H, W, D).
        """
        middle = hwd([(start + stop) / 2 for start, stop in relative(self.box, key.region)])
        edit = [at * own / target for at, own, target in zip(middle, key.spacing, key.target_spacing, strict=True)]

        def distance(tile: Tile) -> float:
            return sum(((tile[2 * axis] + tile[2 * axis + 1]) / 2 - edit[axis]) ** 2 for axis in range(3))

        return sorted(tiles, key=distance)

    def show(
        self, keys: Sequence[str], box: Box, probabilities: np.ndarray, tell: Callable[[str, BoxMask], None]
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
            free = ~self.locked[key].array(box)
            self.masks[key] = self.masks[key].replaced(values >= 0.5, box, where=free)
            tell(key, self.masks[key])
