"""What a session remembers of its structures between corrections: what of a mask the user has painted since."""

from __future__ import annotations

from collections.abc import Mapping

from MedalSLib.volume.mask import BoxMask


class CorrectionMemory:
    """The last result of each structure, and what the user had decided by then.

    A front end hands in all of a structure's strokes each time (`RunRequest.locked`).  Only those since the last result
    are carried over; the earlier ones are known to be right.
    """

    def __init__(self) -> None:
        self._results: dict[str, BoxMask] = {}
        self._decided: dict[str, BoxMask] = {}

    def record(self, results: Mapping[str, BoxMask], locked: Mapping[str, BoxMask]) -> None:
        """Remember results by key, and what was locked for them."""
        for key, mask in results.items():
            self._results[key] = mask
            self._decided[key] = locked.get(key, BoxMask.empty(mask.shape))

    def painted(self, masks: Mapping[str, BoxMask], locked: Mapping[str, BoxMask]) -> dict[str, BoxMask]:
        """Return what was painted since the last result, by key; an empty mask where nothing is new.

        Structures of which neither is known are left out: their mask came from elsewhere, and nothing is locked.

        Args:
            masks: The structures as they are now.
            locked: All that the user decided of them so far.
        """
        painted: dict[str, BoxMask] = {}
        for key, mask in masks.items():
            last = self._results.get(key)
            if key in locked:
                # Without a last result, all that is locked is new.
                painted[key] = locked[key] if last is None else (locked[key] - self._decided[key]) & (mask ^ last)
            elif last == mask:
                painted[key] = BoxMask.empty(mask.shape)
        return painted
