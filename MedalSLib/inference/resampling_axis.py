"""Linear interpolation along one axis whose voxels arrive a few at a time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class ResamplingAxis:
    """For each of an axis's new voxels the two old ones around it.

    Voxel edges are aligned, and voxels beyond the outermost centers repeat them, as in `torch`'s interpolation.

    Attributes:
        below: Old voxel before each new one.
        above: Old voxel after it, never falling.
        share: Weight of `above`, 0..1, float32.
        same: Whether new voxels are the old ones.
    """

    below: np.ndarray
    above: np.ndarray
    share: np.ndarray
    same: bool
    _sent: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, source: int, target: int) -> ResamplingAxis:
        """Return the axis that takes `source` voxels to `target`."""
        if source == target:
            own = np.arange(target)
            return cls(own, own, np.zeros(target, dtype=np.float32), True)
        places = np.maximum((np.arange(target) + 0.5) * (source / target) - 0.5, 0.0)
        below = np.minimum(places.astype(np.int64), source - 1)
        return cls(below, np.minimum(below + 1, source - 1), (places - below).astype(np.float32), False)

    @classmethod
    def nearest(cls, source: int, target: int) -> ResamplingAxis:
        """Return the axis whose new voxels are the nearest old ones, as `torch`'s "nearest-exact"."""
        places = functional.interpolate(torch.arange(source)[None, None].double(), size=target, mode="nearest-exact")
        own = places[0, 0].long().numpy()
        return cls(own, own, np.zeros(target, dtype=np.float32), source == target)

    def ready(self, stop: int) -> int:
        """Return how many new voxels lie between the first `stop` old ones."""
        return int(np.searchsorted(self.above, stop, side="left"))

    def near(self, start: int, stop: int) -> tuple[int, int]:
        """Return the new voxels that the old ones start..stop have a part in."""
        first = np.searchsorted(self.above, start, side="left")
        return int(first), int(np.searchsorted(self.below, stop, side="left"))

    def needed(self, start: int, stop: int) -> tuple[int, int]:
        """Return the old voxels that the new ones start..stop lie between."""
        return int(self.below[start]), int(self.above[stop - 1]) + 1

    def interpolate(self, values: Tensor, axis: int, base: int, start: int, stop: int) -> Tensor:
        """Return new voxels along an axis.

        Args:
            values: The old voxels that are there.
            axis: The axis.
            base: Old voxel with which `values` begins.
            start: First new voxel.
            stop: One past the last new voxel.
        """
        if self.same:
            return values.narrow(axis, start - base, stop - start)
        lower, upper, share = (places[start:stop] for places in self._on(values.device))
        shape = [-1 if other == axis else 1 for other in range(values.dim())]
        below = values.index_select(axis, lower - base)
        return below.lerp_(values.index_select(axis, upper - base), share.view(shape))

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return `below`, `above` and `share` on a device, sent there once."""
        if device not in self._sent:
            arrays = (self.below, self.above, self.share)
            below, above, share = (torch.from_numpy(array).to(device) for array in arrays)
            self._sent[device] = below, above, share
        return self._sent[device]
