"""An engine's answer, cut out of the image while still on the worker thread: what is written afterwards is small."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from MedalSLib.run import Report, RunResult
from MedalSLib.slicer.oriented_image import Patch, boundingBox
from MedalSLib.volume.geometry import Box


@dataclass(frozen=True, eq=False)
class Cut:
    """A mask's own box of a volume's grid.

    Attributes:
        mask: Boolean (K, J, I) between the first and the last set voxel along each axis; without voxels if none is set.
        start: Index (i, j, k) of `mask[0, 0, 0]` on the grid.
    """

    mask: np.ndarray
    start: tuple[int, int, int]

    @staticmethod
    def of(mask: np.ndarray) -> Cut:
        """Return what is set in a mask (K, J, I) of the whole grid; a copy, so the whole one can be freed."""
        bounds = boundingBox(mask)
        if bounds is None:
            return Cut(np.zeros((0, 0, 0), bool), (0, 0, 0))
        return Cut(mask[_slices(bounds)].copy(), _start(bounds))

    @property
    def isEmpty(self) -> bool:
        """Whether no voxel is set."""
        return self.mask.size == 0

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The cut's place in an array (K, J, I) of the whole grid."""
        k, j, i = (slice(low, low + size) for low, size in zip(self.start[::-1], self.mask.shape, strict=True))
        return k, j, i

    def patch(self, matrix: np.ndarray) -> Patch:
        """Return the voxels on the lattice of their volume."""
        return Patch(self.mask, self.start, matrix)


@dataclass(frozen=True, eq=False)
class Answer:
    """What is to be written after a run.

    Attributes:
        report: How the run went.
        masks: The structures, by published name.
        instances: Their instances in order, for structures they were asked for.
    """

    report: Report
    masks: dict[str, Cut]
    instances: dict[str, tuple[Cut, ...]]


def answerOf(result: RunResult, overlapping: bool) -> Answer:
    """Cut an engine's result out of its image.

    Args:
        result: The result.
        overlapping: Whether its structures may share voxels; see `disjoint` for what becomes of these otherwise.
    """
    masks = {name: Cut.of(mask) for name, mask in result.masks.items()}
    if not overlapping:
        masks = disjoint(masks, result.labelmap, result.names)
    instances = {name: tuple(_instances(labels.array())) for name, labels in result.instances.items()}
    return Answer(result.report, masks, instances)


def disjoint(masks: Mapping[str, Cut], labelmap: np.ndarray, names: tuple[str, ...]) -> dict[str, Cut]:
    """Return masks that share no voxel: where several overlap, the most probable structure keeps it.

    Args:
        masks: Masks by name.
        labelmap: Unsigned integers (K, J, I): 0, or 1 + position in `names` of the most probable structure.
        names: Names in the order of the labels.

    Voxels in which the most probable structure is none of those that overlap go to the first of them.
    """
    count = np.zeros(labelmap.shape, np.uint8)
    for cut in masks.values():
        count[cut.slices] += cut.mask
    best, free = {}, count > 1
    for name, cut in masks.items():
        label = names.index(name) + 1 if name in names else -1
        best[name] = cut.mask & (count[cut.slices] > 1) & (labelmap[cut.slices] == label)
        free[cut.slices] &= ~best[name]
    out = {}
    for name, cut in masks.items():
        rest = cut.mask & free[cut.slices]
        free[cut.slices] &= ~rest
        kept = Cut.of((cut.mask & (count[cut.slices] <= 1)) | best[name] | rest)
        i, j, k = (low + start for low, start in zip(kept.start, cut.start, strict=True))
        out[name] = Cut(kept.mask, (i, j, k))
    return out


def _instances(labels: np.ndarray) -> Iterator[Cut]:
    """Cut out the instances 1..n; a number that no voxel has is an empty one."""
    from scipy.ndimage import find_objects

    for number, place in enumerate(find_objects(labels), 1):
        if place is None:
            yield Cut.of(np.zeros((0, 0, 0), bool))
        else:
            k, j, i = (part.start for part in place)
            yield Cut(labels[place] == number, (i, j, k))


def _slices(bounds: Box) -> tuple[slice, slice, slice]:
    i, j, k = (slice(low, high) for low, high in bounds)
    return k, j, i


def _start(bounds: Box) -> tuple[int, int, int]:
    (i, _), (j, _), (k, _) = bounds
    return i, j, k
