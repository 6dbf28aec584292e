"""Text, masks, or both: the same simulated user with each, so that one sees what every kind of prompt is worth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from MedalSLib.engine.interface import Session
from MedalSLib.errors import InputError
from MedalSLib.evaluation.metrics import dice, surface_dice
from MedalSLib.run import RunOptions
from MedalSLib.volume import BoxMask
from tools.interactive.correction_rounds import (
    Answer,
    CaseCurve,
    Masks,
    Simulation,
    StructureCurve,
    correction_rounds,
)

TEXT, MASK, BOTH, PAINTING = "text only", "mask only", "text and mask", "text, then painting"
OnCondition = Callable[[str, int, int], None]
"""Called as `(condition, rounds done, rounds in all)`."""


def compare_prompts(
    session: Session,
    silent: Session | None,
    truths: Masks,
    spacing_kji: Sequence[float],
    simulation: Simulation,
    options: RunOptions | None = None,
    on_round: OnCondition | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, CaseCurve]:
    """Segment a case under four conditions.

    - "text only": the name alone, which no correction makes better: the same score in every round.
    - "mask only": the user paints from nothing, and each round the network makes the best of what is painted, without
      being told what it is.  One structure at a time: without names the network cannot report several masks apart.
    - "text and mask": the name first, then the result with the corrections as the mask of the next round, refined
      around the newest correction as in the panel.
    - "text, then painting": the name first, then the same corrections without the network: what the user's hand alone
      does, which the network must beat.

    Args:
        session: An open image.
        silent: The same image on an engine that ignores texts (see `text_ablation`); None to leave "mask only" out.
        truths: Boolean (K, J, I) by name; empty ones are left out.
        spacing_kji: Spacing along k, j, i in mm.
        simulation: How the user is simulated.
        options: RunOptions of every run.
        on_round: Progress.
        cancel: Set it to stop.

    Returns:
        The scores by condition, in this order.

    Raises:
        InputError: No structure is present, or there is no round.
        CancelledError: `cancel` was set.
    """
    present = present_truths(truths)
    by_text = session.segment(list(present), options=options, cancel=cancel).masks

    def rounds_of(condition: str, answer: Answer, first: Masks) -> CaseCurve:
        report = partial(on_round, condition) if on_round else None
        return correction_rounds(answer, first, present, spacing_kji, simulation, cancel, report)

    curves = {
        TEXT: CaseCurve.of(
            {name: _constant(truth, by_text[name], spacing_kji, simulation) for name, truth in present.items()}
        )
    }
    if silent is not None:
        nothing = {name: np.zeros(truth.shape, bool) for name, truth in present.items()}
        curves[MASK] = rounds_of(MASK, _one_by_one(_whole_image_answer(silent, options, cancel)), nothing)
    curves[BOTH] = rounds_of(BOTH, refining_answer(session, options, cancel), by_text)
    curves[PAINTING] = rounds_of(PAINTING, lambda masks, locked: masks, by_text)
    return curves


def _one_by_one(answer: Answer) -> Answer:
    """Return what asks for each structure alone."""
    return lambda masks, locked: {
        name: answer({name: mask}, {name: locked[name]})[name] for name, mask in masks.items()
    }


def _constant(truth: np.ndarray, found: np.ndarray, spacing: Sequence[float], simulation: Simulation) -> StructureCurve:
    dsc, nsd = dice(truth, found), surface_dice(truth, found, spacing, simulation.tolerance_mm)
    rounds = simulation.rounds + 1
    return StructureCurve((dsc,) * rounds, (nsd,) * rounds, dsc, nsd, ())


def present_truths(truths: Masks) -> dict[str, np.ndarray]:
    """Return the true masks that are not empty.

    Raises:
        InputError: All are.
    """
    present = {name: truth.astype(bool) for name, truth in truths.items() if truth.any()}
    if not present:
        raise InputError("There is no structure to correct.", "Give a truth that is not empty.")
    return present


def _whole_image_answer(session: Session, options: RunOptions | None, cancel: threading.Event | None) -> Answer:
    """Return what asks the engine about the whole image: masks are prompts, what was corrected so far is locked."""
    return lambda masks, locked: session.segment(list(masks), masks, locked, options=options, cancel=cancel).masks


def refining_answer(session: Session, options: RunOptions | None, cancel: threading.Event | None) -> Answer:
    """Return what refines as the panel does: each structure from its newest correction, the rest of it stays.

    Args:
        session: An open image.
        options: Options of every run.
        cancel: Set it to stop.
    """
    known: dict[str, BoxMask] = {}
    refining = replace(options or RunOptions(), mode="refine")

    def refine(name: str, mask: np.ndarray, locked: np.ndarray) -> np.ndarray:
        decided = BoxMask.of(locked)
        newest = decided - known.get(name, BoxMask.empty(mask.shape))
        known[name] = decided
        if newest.is_empty:
            return mask
        answer = session.segment(
            (), {name: mask}, {name: decided}, painted={name: newest}, options=refining, cancel=cancel
        )
        return answer.masks[name]

    return lambda masks, locked: {name: refine(name, mask, locked[name]) for name, mask in masks.items()}
