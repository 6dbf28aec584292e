"""The interactive measure on an engine's session: text first, then corrections as masks and locks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from MedalSLib.engine.interface import Options, Session
from MedalSLib.errors import CancelledError, InputError
from MedalSLib.evaluation.interactive import Correction, InteractiveScores, Kind, area, next_correction
from MedalSLib.evaluation.metrics import dice, mean, surface_dice


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

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "structures": {name: scores.to_dict() for name, scores in self.structures.items()},
            "dsc": list(self.dsc),
            "nsd": list(self.nsd),
            "dsc_auc": self.dsc_auc,
            "nsd_auc": self.nsd_auc,
        }


@dataclass
class _Structure:
    """What is known of one structure as the rounds go on."""

    truth: np.ndarray
    found: np.ndarray
    locked: np.ndarray
    dsc: list[float]
    nsd: list[float]
    added: list[bool]

    def score(self, spacing: Sequence[float], tolerance_mm: float) -> None:
        self.dsc.append(dice(self.truth, self.found))
        self.nsd.append(surface_dice(self.truth, self.found, spacing, tolerance_mm))


def interactive_case(
    session: Session,
    truths: Mapping[str, np.ndarray],
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

    What was painted or erased so far is locked, as it is for a user of the panel; all structures of a round go through
    the engine together.

    Args:
        session: An open image.
        truths: Boolean (K, J, I) by name; empty ones are left out.
        spacing_kji: Spacing along k, j, i in mm.
        rounds: Number of rounds.
        kind: "click" or "stroke".
        radius_mm: Radius of the brush.
        tolerance_mm: Tolerance of the surface Dice.
        options: Options of every run.
        cancel: Set it to stop.

    Raises:
        InputError: No structure is present, or `rounds` is below 1.
        CancelledError: `cancel` was set.
    """
    present = {name: truth.astype(bool) for name, truth in truths.items() if truth.any()}
    if not present or rounds < 1:
        raise InputError("There is no structure to correct, or no round.", "Give a truth that is not empty.")
    first = session.segment(list(present), options=options, cancel=cancel)
    state = {
        name: _Structure(truth, first.masks[name].astype(bool), np.zeros(truth.shape, bool), [], [], [])
        for name, truth in present.items()
    }
    for structure in state.values():
        structure.score(spacing_kji, tolerance_mm)
    for _ in range(rounds):
        if cancel is not None and cancel.is_set():
            raise CancelledError("The evaluation was cancelled.")
        _correct(session, state, spacing_kji, kind, radius_mm, options, cancel)
        for structure in state.values():
            structure.score(spacing_kji, tolerance_mm)
    scores = {
        name: InteractiveScores(tuple(s.dsc), tuple(s.nsd), area(s.dsc), area(s.nsd), tuple(s.added))
        for name, s in state.items()
    }
    dsc = tuple(mean(values) for values in zip(*(entry.dsc for entry in scores.values()), strict=True))
    nsd = tuple(mean(values) for values in zip(*(entry.nsd for entry in scores.values()), strict=True))
    return InteractiveCase(scores, dsc, nsd, area(dsc), area(nsd))


def _correct(
    session: Session,
    state: Mapping[str, _Structure],
    spacing: Sequence[float],
    kind: Kind,
    radius_mm: float,
    options: Options | None,
    cancel: threading.Event | None,
) -> None:
    """Do one round in place: a correction of each structure that is not perfect, and one run of the engine."""
    masks: dict[str, np.ndarray] = {}
    for name, structure in state.items():
        correction: Correction | None = next_correction(structure.truth, structure.found, spacing, kind, radius_mm)
        if correction is None:
            continue
        structure.locked |= correction.painted
        structure.added.append(correction.add)
        masks[name] = correction.apply(structure.found)
    if not masks:
        return
    locked = {name: state[name].locked for name in masks}
    result = session.segment(list(masks), masks, locked, options=options, cancel=cancel)
    for name in masks:
        state[name].found = result.masks[name].astype(bool)
