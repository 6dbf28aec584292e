"""What a training sample is made of: which case, which patch, which structures, and by which words they are called.

Every function takes its own random generator, so that sample `i` of a run depends on the run's seed and `i` alone:
that is what makes a resumed run the same as one that was never interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.training.case_store import CaseRecord, Hwd
from MedalSLib.training.published_weights import PUBLISHED_WEIGHTS


@dataclass(frozen=True)
class SamplingSettings:
    """How samples are drawn; the defaults are the published ones.

    Attributes:
        batch_size: Samples in a batch of one process.
        max_queries: Most queries of a sample.
        negative_share: Absent structures asked for, as a share of the present ones.
        foreground_share: Share of patches that are centred on a labelled voxel; the others lie anywhere.
        repeats: Whether large cases and cases with many labels are drawn more often.
        sampling_weight: How often a data set is drawn beside what its size says, 1 for those that are not in it.
    """

    batch_size: int = 2
    max_queries: int = 32
    negative_share: float = 0.33
    foreground_share: float = 0.2
    repeats: bool = True
    sampling_weight: dict[str, float] = field(default_factory=PUBLISHED_WEIGHTS.copy)

    def __post_init__(self) -> None:
        if wrong := [name for name, weight in self.sampling_weight.items() if not 0 <= weight < math.inf]:
            raise InputError(f"The sampling weight of {wrong[0]} is no weight.", "Give a number from 0.")


def case_weights(cases: Sequence[CaseRecord], patch_hwd: Hwd, settings: SamplingSettings) -> np.ndarray:
    """Return the probability of each case.

    A data set weighs the square root of its size, times its `sampling_weight`; within it, a case counts once for every
    `max_queries` labels and once for every patch its region is long along each axis (reference behaviour).

    Args:
        cases: All cases.
        patch_hwd: Patch in voxels.
        settings: Settings.

    Raises:
        InputError: All data sets weigh nothing.
    """
    sizes: dict[str, int] = {}
    for case in cases:
        sizes[case.dataset] = sizes.get(case.dataset, 0) + 1
    by_set = {name: settings.sampling_weight.get(name, 1.0) / math.sqrt(size) for name, size in sizes.items()}
    weights = np.array([_repeats(case, patch_hwd, settings) * by_set[case.dataset] for case in cases])
    if not weights.any():
        raise InputError("Every data set has the sampling weight 0.", "Give one of them a weight in the recipe.")
    return weights / weights.sum()


def _repeats(case: CaseRecord, patch_hwd: Hwd, settings: SamplingSettings) -> int:
    if not settings.repeats:
        return 1
    by_size = math.prod(max(1.0, size / patch) for size, patch in zip(case.region_hwd, patch_hwd, strict=True))
    return round(by_size * max(1.0, len(case.annotated) / settings.max_queries))


def draw_corner(
    shape_hwd: Hwd,
    window_hwd: Hwd,
    patch_hwd: Hwd,
    locations: Mapping[int, np.ndarray],
    rng: np.random.Generator,
    foreground_share: float,
) -> Hwd:
    """Return the first voxel of the window to read; it may be negative, and the window may reach beyond the case.

    The window is larger than the patch by what rotation and scaling need, and the patch lies in its middle.  The patch
    of a random window may reach over the case's edge by half of that margin on each side, so that voxels at the edge
    are seen as often as those inside (nnU-Net's rule).

    Args:
        shape_hwd: Case in voxels.
        window_hwd: Voxels to read.
        patch_hwd: Voxels that the network will see.
        locations: Some voxels (n, 3) of each label.
        rng: Source of randomness.
        foreground_share: Probability of a window around a labelled voxel, its label drawn uniformly.
    """
    present = [label for label in sorted(locations) if len(locations[label])]
    lows, highs = [], []
    for shape, window, patch in zip(shape_hwd, window_hwd, patch_hwd, strict=True):
        margin = max(window - patch, window - shape)
        lows.append(-(margin // 2))
        highs.append(max(shape + margin - margin // 2 - window, -(margin // 2)))
    if present and rng.random() < foreground_share:
        voxels = locations[present[int(rng.integers(len(present)))]]
        center = voxels[int(rng.integers(len(voxels)))]
        wanted = [int(value) - window // 2 for value, window in zip(center, window_hwd, strict=True)]
        corner = [min(max(value, low), high) for value, low, high in zip(wanted, lows, highs, strict=True)]
    else:
        corner = [int(rng.integers(low, high + 1)) for low, high in zip(lows, highs, strict=True)]
    return corner[0], corner[1], corner[2]


def choose_labels(
    labels: Sequence[int], present: Sequence[int], settings: SamplingSettings, rng: np.random.Generator
) -> list[int]:
    """Return the labels to ask for.

    All that are present, and absent ones up to a third as many; at most `max_queries` altogether.  If none is present,
    any (reference behaviour).

    Args:
        labels: Every label that the data set annotates.
        present: Those with a voxel in the patch.
        settings: Settings.
        rng: Source of randomness.
    """
    here = set(present)
    positive = [label for label in labels if label in here]
    negative = [label for label in labels if label not in here]
    if not positive:
        return _some(negative, settings.max_queries, rng)
    if len(positive) > settings.max_queries:
        return _some(positive, settings.max_queries, rng)
    room = min(settings.max_queries - len(positive), int(settings.negative_share * len(positive)))
    return positive + _some(negative, room, rng)


def draw_texts(
    texts: Mapping[int, Sequence[str]], labels: Sequence[int], max_queries: int, rng: np.random.Generator
) -> list[tuple[int, str]]:
    """Return (label, text) pairs: one text each if there are `max_queries` labels, else more texts of the same labels.

    Turns go round the labels until there are `max_queries` texts or none is left, no text twice for a label
    (reference behaviour: room for queries is never wasted).

    Args:
        texts: Names and sentences by label, at least one each.
        labels: Labels asked for.
        max_queries: Most pairs.
        rng: Source of randomness.
    """
    decks = {label: [texts[label][index] for index in rng.permutation(len(texts[label]))] for label in labels}
    order = [labels[index] for index in rng.permutation(len(labels))]
    drawn: list[tuple[int, str]] = []
    while len(drawn) < max_queries and any(decks.values()):
        for label in order:
            if decks[label] and len(drawn) < max_queries:
                drawn.append((label, decks[label].pop()))
    return drawn


def _some(values: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
    if not values:
        return []
    return [values[int(index)] for index in rng.choice(len(values), size=min(count, len(values)), replace=False)]
