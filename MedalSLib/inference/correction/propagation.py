"""Carries a correction over to where the user did not paint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from MedalSLib.errors import InputError
from MedalSLib.inference.correction.appearance import Appearance
from MedalSLib.inference.correction.evidence import evidence
from MedalSLib.inference.correction.judge import judge
from MedalSLib.inference.correction.random_walker import walk
from MedalSLib.inference.correction.working_box import (
    LARGEST_VOXELS,
    MARGIN_MM,
    Extent,
    Seeds,
    WorkingBox,
    pool,
    pooling_factors,
    reach_mm,
    unpool,
)
from MedalSLib.volume import Box, BoxArray, BoxMask
from MedalSLib.volume.box import grown, slices, union

_THRESHOLD_ADDING, _THRESHOLD_ERASING = 0.5, 0.6
"""Probability from which a voxel changes.  To take away what was right annoys more than to leave what is wrong."""
_UNLIKE = 1.0
"""Distance from the erased tissue's intensity, in twice the local contrast, from which tissue is not erased with it."""
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class CorrectionResult:
    """A corrected structure.

    Attributes:
        mask: The structure (D, H, W); `previous` itself if nothing changed.
        box: Where it may differ from the previous mask, None if nowhere.
        reach_mm: How far from the paint it may, 0 if nowhere.
    """

    mask: BoxMask
    box: Box | None
    reach_mm: float


@dataclass(frozen=True, eq=False)
class Scene:
    """What is known of the whole volume, axes (D, H, W).

    Attributes:
        image: Intensities.
        spacing: In mm.
        checked: Where the mask is right.
        probability: The network's, 0..1, None without a network.
        by_hand: The structure was begun by painting.
    """

    image: np.ndarray
    spacing: np.ndarray
    checked: BoxMask
    probability: BoxArray | None
    by_hand: bool


def propagate_correction(
    image_dhw: np.ndarray,
    spacing_dhw: Sequence[float],
    previous: BoxMask,
    painted_in: BoxMask | None,
    painted_out: BoxMask | None = None,
    *,
    probability: BoxArray | None = None,
    checked: BoxMask | None = None,
    by_hand: bool = False,
) -> CorrectionResult:
    """Return a structure as a user would have corrected it if they had gone on.

    What was painted stays as painted; so does what was checked.  Paint that adds only adds, paint that erases only
    erases; what changes is connected to the paint and within its reach, 24 to 40 mm, all of it in true millimetres and
    alike along every axis.  Paint over what was so already changes nothing.

    Args:
        image_dhw: Intensities (D, H, W) of any unit, windowed or not.  Only what lies near the paint is read, here and
            in all that follows, so that the cost does not grow with the volume.
        spacing_dhw: Spacing in mm.
        previous: The structure before the paint; empty if it is begun by painting.
        painted_in: What the user painted since then; None for nothing.
        painted_out: What they erased.
        probability: The network's probability of the structure, 0..1, at least 44 mm around the paint.
        checked: Where `previous` is right: earlier paint, slices the user is done with, and other structures that this
            one may not grow into.
        by_hand: The structure was begun by painting, so nothing speaks for its being absent elsewhere; taken to be so
            where `previous` is empty.

    Raises:
        InputError: The arrays are of different shapes, or a voxel was both painted and erased.
        ModelError: The weights that ship with the software are missing.
    """
    empty = BoxMask.empty(previous.shape)
    added, erased = painted_in or empty, painted_out or empty
    given = (previous, added, erased, probability, checked)
    if any(one is not None and one.shape != image_dhw.shape for one in given):
        raise InputError("The correction and the image are on different grids.", "Bring them onto one grid first.")
    if not (added & erased).is_empty:
        raise InputError("A voxel was both painted and erased.", "Keep what was done to it last.")
    spacing = np.asarray(spacing_dhw, dtype=float)
    scene = Scene(image_dhw, spacing, checked or empty, probability, by_hand or previous.is_empty)
    # Paint over what was so already says that it is right, and no more.
    adding, erasing = added - previous, erased & previous
    mask, box, reach = previous, None, 0.0
    for paint, adds in ((adding, True), (erasing, False)):
        if not paint.is_empty:
            before = mask - erasing if adds else mask | erasing
            work = working_box(scene, before, paint, adds, locked=added | erased)
            mask = before.replaced(decided(work), work.box)
            box, reach = union([box, work.box]), max(reach, work.reach_mm)
    return CorrectionResult(mask, box, reach)


def working_box(scene: Scene, mask: BoxMask, paint: BoxMask, adds: bool, locked: BoxMask | None = None) -> WorkingBox:
    """Cut out what a stroke may change and bring it to the working grid.

    Args:
        scene: The volume.
        mask: The structure before the stroke.
        paint: Voxels that the stroke changes, at least one.
        adds: Whether it adds them to the structure; else it erases them.
        locked: Voxels of other strokes, whose values the mask has.
    """
    assert paint.box is not None
    extent = Extent.of(paint.crop(), scene.spacing)
    reach = reach_mm(extent, scene.by_hand)
    box = grown(paint.box, reach + MARGIN_MM, scene.spacing.tolist(), mask.shape)
    fine = _seeds(scene, box, mask, paint, adds, locked)
    factors = pooling_factors(fine.paint.shape, scene.spacing, LARGEST_VOXELS)
    network = None
    if scene.probability is not None:
        network = pool(scene.probability.array(box).astype(np.float32), factors)
    return WorkingBox(
        box=box,
        adds=adds,
        fine=fine,
        seeds=fine.pooled(factors, adds),
        factors=factors,
        spacing=scene.spacing * factors,
        image=pool(np.nan_to_num(scene.image[slices(box)].astype(np.float32)), factors),
        probability=network,
        extent=extent,
        reach_mm=reach,
        volume_mm3=float((mask.count() + (paint.count() if adds else 0)) * scene.spacing.prod()),
        by_hand=scene.by_hand,
    )


def _seeds(scene: Scene, box: Box, mask: BoxMask, paint: BoxMask, adds: bool, locked: BoxMask | None) -> Seeds:
    here, before = paint.array(box), mask.array(box)
    known = scene.checked.array(box)
    if locked is not None:
        known |= locked.array(box)
    known_in, known_out = known & before, known & ~before
    return Seeds(here, before | here if adds else before & ~here, known_in & ~here, known_out & ~here)


def decided(work: WorkingBox) -> np.ndarray:
    """Return the structure (D, H, W) in the box, on the volume's own grid."""
    fine = work.fine
    if not work.free.any():
        return fine.mask
    look = Appearance.of(work)
    belief = judge(work.adds).probability(evidence(work, look))
    settled = work.seeds.mask if work.adds else ~work.seeds.mask
    certain = work.seeds.paint | work.seeds.known_in | work.seeds.known_out
    probability = settled.astype(np.float32)
    probability[work.free] = walk(belief, work.free, settled, certain, (look.value + look.smooth) / 2, work.spacing)
    probability = unpool(probability, work.factors, fine.mask.shape)
    threshold = _THRESHOLD_ADDING if work.adds else _THRESHOLD_ERASING
    undecided = ~(fine.paint | fine.known_in | fine.known_out) & (fine.mask != work.adds)
    if not work.adds:
        unlike = np.abs(look.smooth) > _UNLIKE
        undecided &= ~unpool(unlike.astype(np.float32), work.factors, fine.mask.shape).astype(bool)
    change = _connected((probability > threshold) & undecided, fine.paint)
    return np.where(change, work.adds, fine.mask)


def _connected(change: np.ndarray, paint: np.ndarray) -> np.ndarray:
    """Return what of a change hangs together with the paint."""
    parts, count = label(change | paint, structure=_TOUCHING)
    touched = np.zeros(count + 1, dtype=bool)
    touched[parts[paint]] = True
    return change & touched[parts]
