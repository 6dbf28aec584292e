"""Text, masks, or both: the same simulated user with each, so that one sees what every kind of prompt is worth."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from MedalSLib.engine.interface import Options, Session
from MedalSLib.evaluation.interactive import InteractiveScores
from MedalSLib.evaluation.interactive_case import (
    Answer,
    InteractiveCase,
    Masks,
    Simulation,
    correction_rounds,
    network_answer,
    present_truths,
    refining_answer,
)
from MedalSLib.evaluation.metrics import dice, surface_dice

TEXT, MASK, BOTH, PAINTING = "text only", "mask only", "text and mask", "text, then painting"
OnWay = Callable[[str, int, int], None]
"""Called as `(way, rounds done, rounds in all)`."""


def compare_prompts(
    session: Session,
    wordless: Session | None,
    truths: Masks,
    spacing_kji: Sequence[float],
    simulation: Simulation,
    options: Options | None = None,
    on_round: OnWay | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, InteractiveCase]:
    """Segment a case in four ways.

    - "text only": the name alone, which no correction makes better: the same score in every round.
    - "mask only": the user paints from nothing, and each round the network makes the best of what is painted, without
      being told what it is.  One structure at a time: without names the network cannot tell several masks apart.
    - "text and mask": the name first, then the result with the corrections as the mask of the next round, refined
      around the newest correction as in the panel.
    - "text, then painting": the name first, then the same corrections without the network: what the user's hand alone
      does, which the network must beat.

    Args:
        session: An open image.
        wordless: The same image on an engine that ignores texts (see `wordless`); None to leave "mask only" out.
        truths: Boolean (K, J, I) by name; empty ones are left out.
        spacing_kji: Spacing along k, j, i in mm.
        simulation: How the user is simulated.
        options: Options of every run.
        on_round: Progress.
        cancel: Set it to stop.

    Returns:
        The scores by way.

    Raises:
        InputError: No structure is present, or there is no round.
        CancelledError: `cancel` was set.
    """
    present = present_truths(truths)
    by_text = session.segment(list(present), options=options, cancel=cancel).masks

    def rounds_of(way: str, answer: Answer, first: Masks) -> InteractiveCase:
        tell = partial(on_round, way) if on_round else None
        return correction_rounds(answer, first, present, spacing_kji, simulation, cancel, tell)

    ways = {
        TEXT: InteractiveCase.of(
            {name: _constant(truth, by_text[name], spacing_kji, simulation) for name, truth in present.items()}
        )
    }
    if wordless is not None:
        nothing = {name: np.zeros(truth.shape, bool) for name, truth in present.items()}
        ways[MASK] = rounds_of(MASK, _one_by_one(network_answer(wordless, options, cancel)), nothing)
    ways[BOTH] = rounds_of(BOTH, refining_answer(session, spacing_kji, options, cancel), by_text)
    ways[PAINTING] = rounds_of(PAINTING, lambda masks, locked: masks, by_text)
    return ways


def _one_by_one(answer: Answer) -> Answer:
    """Return what asks for each structure alone."""
    return lambda masks, locked: {
        name: answer({name: mask}, {name: locked[name]})[name] for name, mask in masks.items()
    }


def _constant(
    truth: np.ndarray, found: np.ndarray, spacing: Sequence[float], simulation: Simulation
) -> InteractiveScores:
    dsc, nsd = dice(truth, found), surface_dice(truth, found, spacing, simulation.tolerance_mm)
    rounds = simulation.rounds + 1
    return InteractiveScores((dsc,) * rounds, (nsd,) * rounds, dsc, nsd, ())
