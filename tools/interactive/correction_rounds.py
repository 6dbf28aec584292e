"""The interactive track's measure: correct the largest errors, ask again, and see how fast the scores rise.

Corrected masks are the prompts of the next round, and what was painted so far stays locked.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from MedalSLib.errors import CancelledError, InputError
from MedalSLib.evaluation.metrics import dice, mean, surface_dice
from tools.interactive.corrections import Correction, Kind, next_correction

Masks = Mapping[str, np.ndarray]
Answer = Callable[[Masks, Masks], Masks]
"""Called with the corrected masks and the locked voxels by name, boolean (K, J, I); returns the next masks."""
OnRound = Callable[[int, int], None]
"""Called as `(rounds done, rounds in all)`."""


@dataclass(frozen=True)
class Simulation:
    """How a user is simulated.

    Attributes:
        rounds: Corrections of each structure.
        kind: "click", "stroke" or "slice" (see `next_correction`).
        radius_mm: Radius of the brush.
        tolerance_mm: Tolerance of the surface Dice.
    """

    rounds: int = 5
    kind: Kind = "stroke"
    radius_mm: float = 4.0
    tolerance_mm: float = 2.0


@dataclass(frozen=True)
class StructureCurve:
    """How the scores of a structure rose.

    Attributes:
        dsc: Dice before the first correction and after each.
        nsd: Surface Dice likewise.
        dsc_auc: Area under `dsc` over the rounds, 0..1 (trapezoids; 1 if perfect from the start).
        nsd_auc: Area under `nsd` likewise.
        added: For each correction, whether it painted (True) or erased (False).
    """

    dsc: tuple[float, ...]
    nsd: tuple[float, ...]
    dsc_auc: float
    nsd_auc: float
    added: tuple[bool, ...]


@dataclass(frozen=True)
class CaseCurve:
    """How the scores of a case rose.

    Attributes:
        structures: Scores by structure.
        dsc: Mean Dice over the structures before the first round and after each.
        nsd: Mean surface Dice likewise.
        dsc_auc: Area under `dsc`, 0..1.
        nsd_auc: Area under `nsd`, 0..1.
    """

    structures: dict[str, StructureCurve]
    dsc: tuple[float, ...]
    nsd: tuple[float, ...]
    dsc_auc: float
    nsd_auc: float

    @classmethod
    def of(cls, structures: dict[str, StructureCurve]) -> CaseCurve:
        """Return the means of some structures, all of as many rounds."""
        dsc, nsd = (mean_curve([getattr(one, score) for one in structures.values()]) for score in ("dsc", "nsd"))
        return cls(structures, dsc, nsd, area(dsc), area(nsd))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return json.loads(json.dumps(asdict(self)))


def mean_curve(curves: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the mean of curves of as many rounds, round by round, without those that are NaN."""
    return tuple(mean(values) for values in zip(*curves, strict=True))


def area(curve: Sequence[float]) -> float:
    """Return the area under a curve of at least two rounds, by trapezoids, divided by its length."""
    array = np.asarray(curve)
    return float(((array[1:] + array[:-1]) / 2).mean())


@dataclass
class _Structure:
    """What is known of one structure as the rounds go on."""

    truth: np.ndarray
    found: np.ndarray
    locked: np.ndarray
    dsc: list[float] = field(default_factory=list)
    nsd: list[float] = field(default_factory=list)
    added: list[bool] = field(default_factory=list)

    def score(self, spacing: Sequence[float], tolerance_mm: float) -> None:
        self.dsc.append(dice(self.truth, self.found))
        self.nsd.append(surface_dice(self.truth, self.found, spacing, tolerance_mm))

    def scores(self) -> StructureCurve:
        dsc, nsd = tuple(self.dsc), tuple(self.nsd)
        return StructureCurve(dsc, nsd, area(dsc), area(nsd), tuple(self.added))


def correction_rounds(
    answer: Answer,
    first: Masks,
    truths: Masks,
    spacing_kji: Sequence[float],
    simulation: Simulation,
    cancel: threading.Event | None = None,
    on_round: OnRound | None = None,
) -> CaseCurve:
    """Correct the largest error of every structure in each round, all of them answered together.

    Args:
        answer: Gives the next masks from the corrected ones.
        first: Masks before the first correction, by name.
        truths: Boolean (K, J, I) by name, none of them empty.
        spacing_kji: Spacing along k, j, i in mm.
        simulation: How a user is simulated.
        cancel: Set it to stop.
        on_round: Progress.

    Raises:
        InputError: No round was asked for.
        CancelledError: `cancel` was set.
    """
    if simulation.rounds < 1:
        raise InputError(f"{simulation.rounds} rounds were asked for.", "Ask for at least one.")
    state = {
        name: _Structure(truth, first[name].astype(bool), np.zeros(truth.shape, bool)) for name, truth in truths.items()
    }
    for structure in state.values():
        structure.score(spacing_kji, simulation.tolerance_mm)
    for done in range(simulation.rounds):
        if cancel is not None and cancel.is_set():
            raise CancelledError("The evaluation was cancelled.")
        _correct(answer, state, spacing_kji, simulation)
        for structure in state.values():
            structure.score(spacing_kji, simulation.tolerance_mm)
        if on_round:
            on_round(done + 1, simulation.rounds)
    return CaseCurve.of({name: structure.scores() for name, structure in state.items()})


def _correct(answer: Answer, state: Mapping[str, _Structure], spacing: Sequence[float], simulation: Simulation) -> None:
    """Do one round in place: a correction of each structure that is not perfect, and one answer to all."""
    masks: dict[str, np.ndarray] = {}
    for name, structure in state.items():
        correction: Correction | None = next_correction(
            structure.truth, structure.found, spacing, simulation.kind, simulation.radius_mm
        )
        if correction is None:
            continue
        structure.locked |= correction.painted
        structure.added.append(correction.add)
        masks[name] = correction.apply(structure.found)
    if not masks:
        return
    found = answer(masks, {name: state[name].locked for name in masks})
    for name in masks:
        state[name].found = found[name].astype(bool)
