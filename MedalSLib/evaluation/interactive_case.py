"""Simulated corrections of a whole case: masks and locks that grow with every round, and how the scores rise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from MedalSLib.engine.interface import REFINE_MARGIN_MM, Options, Session
from MedalSLib.errors import CancelledError, InputError
from MedalSLib.evaluation.interactive import Correction, InteractiveScores, Kind, area, next_correction
from MedalSLib.evaluation.metrics import dice, mean, surface_dice
from MedalSLib.volume import Grid, bounding_box

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
class InteractiveCase:
    """How the scores of a case rose.

    Attributes:
        structures: Scores by structure.
        dsc: Mean Dice over the structures before the first round and after each.
        nsd: Mean surface Dice likewise.
        dsc_auc: Area under `dsc`, 0..1.
        nsd_auc: Area under `nsd`, 0..1.
    """

    structures: dict[str, InteractiveScores]
    dsc: tuple[float, ...]
    nsd: tuple[float, ...]
    dsc_auc: float
    nsd_auc: float

    @classmethod
    def of(cls, structures: dict[str, InteractiveScores]) -> InteractiveCase:
        """Return the means of some structures, all of as many rounds."""
        dsc = tuple(mean(values) for values in zip(*(entry.dsc for entry in structures.values()), strict=True))
        nsd = tuple(mean(values) for values in zip(*(entry.nsd for entry in structures.values()), strict=True))
        return cls(structures, dsc, nsd, area(dsc), area(nsd))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "structures": {name: scores.to_dict() for name, scores in self.structures.items()},
            "dsc": list(self.dsc),
            "nsd": list(self.nsd),
            "dsc_auc": self.dsc_auc,
            "nsd_auc": self.nsd_auc,
        }


def interactive_case(
    session: Session,
    truths: Masks,
    spacing_kji: Sequence[float],
    *,
    rounds: int = 5,
    kind: Kind = "stroke",
    radius_mm: float = 4.0,
    tolerance_mm: float = 2.0,
    options: Options | None = None,
    cancel: threading.Event | None = None,
) -> InteractiveCase:
    """Segment by text, then correct the largest error of every structure in each round and segment again.

    Args:
        session: An open image.
        truths: Boolean (K, J, I) by name; empty ones are left out.
        spacing_kji: Spacing along k, j, i in mm.
        rounds: As of `Simulation`, like the next three.
        kind: See there.
        radius_mm: See there.
        tolerance_mm: See there.
        options: Options of every run.
        cancel: Set it to stop.

    Raises:
        InputError: No structure is present, or `rounds` is below 1.
        CancelledError: `cancel` was set.
    """
    present = present_truths(truths)
    simulation = Simulation(rounds, kind, radius_mm, tolerance_mm)
    first = session.segment(list(present), options=options, cancel=cancel).masks
    return correction_rounds(network_answer(session, options, cancel), first, present, spacing_kji, simulation, cancel)


def present_truths(truths: Masks) -> dict[str, np.ndarray]:
    """Return the true masks that are not empty.

    Raises:
        InputError: All are.
    """
    present = {name: truth.astype(bool) for name, truth in truths.items() if truth.any()}
    if not present:
        raise InputError("There is no structure to correct.", "Give a truth that is not empty.")
    return present


def network_answer(session: Session, options: Options | None, cancel: threading.Event | None) -> Answer:
    """Return what asks the engine about the whole image: masks are prompts, what was corrected so far is locked."""
    return lambda masks, locked: session.segment(list(masks), masks, locked, options=options, cancel=cancel).masks


def refining_answer(
    session: Session, spacing_kji: Sequence[float], options: Options | None, cancel: threading.Event | None
) -> Answer:
    """Return what refines as the panel does: each structure around its newest correction, the rest of it stays."""
    known: dict[str, np.ndarray] = {}
    refining = replace(options or Options(), mode="refine")

    def refine(name: str, mask: np.ndarray, locked: np.ndarray) -> np.ndarray:
        newest = bounding_box(locked & ~known.get(name, np.zeros_like(locked)))
        known[name] = locked.copy()
        if newest is None:
            return mask
        k, j, i = newest
        region = Grid(mask.shape, np.diag([*reversed(spacing_kji), 1.0])).grow_box((i, j, k), REFINE_MARGIN_MM)
        answer = session.segment([name], {name: mask}, {name: locked}, region, options=refining, cancel=cancel)
        inside = tuple(slice(*bounds) for bounds in reversed(region))
        refined = mask.copy()
        refined[inside] = answer.masks[name][inside]
        return refined

    return lambda masks, locked: {name: refine(name, mask, locked[name]) for name, mask in masks.items()}


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

    def scores(self) -> InteractiveScores:
        dsc, nsd = tuple(self.dsc), tuple(self.nsd)
        return InteractiveScores(dsc, nsd, area(dsc), area(nsd), tuple(self.added))


def correction_rounds(
    answer: Answer,
    first: Masks,
    truths: Masks,
    spacing_kji: Sequence[float],
    simulation: Simulation,
    cancel: threading.Event | None = None,
    on_round: OnRound | None = None,
) -> InteractiveCase:
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
    return InteractiveCase.of({name: structure.scores() for name, structure in state.items()})


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
