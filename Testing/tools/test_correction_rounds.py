"""Rounds of simulated corrections: masks and locks grow, scores rise, and areas under the curves are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.errors import InputError
from tools.interactive.correction_rounds import CaseCurve, Masks, Simulation, correction_rounds
from tools.interactive.prompt_comparison import present_truths

pytestmark = pytest.mark.slow

SHAPE = (14, 20, 20)
NOTHING = np.zeros(SHAPE, bool)
LIVER, SPLEEN = NOTHING.copy(), NOTHING.copy()
LIVER[2:12, 2:12, 2:12] = True
SPLEEN[3:9, 13:19, 13:19] = True
TRUTHS = {"Liver": LIVER, "Spleen": SPLEEN}


def from_nothing(answer: object, rounds: int, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> CaseCurve:
    first = dict.fromkeys(TRUTHS, NOTHING)
    return correction_rounds(answer, first, TRUTHS, spacing, Simulation(rounds))  # type: ignore[arg-type]


def test_scores_rise_and_locks_grow_with_every_round() -> None:
    calls: list[tuple[Masks, Masks]] = []

    def painting(masks: Masks, locked: Masks) -> Masks:
        calls.append(tuple({name: array.copy() for name, array in given.items()} for given in (masks, locked)))  # type: ignore[arg-type]
        return masks

    case = from_nothing(painting, 3, (2.0, 1.0, 1.0))
    assert set(case.structures) == {"Liver", "Spleen"}
    assert list(case.dsc) == sorted(case.dsc)
    assert case.dsc[0] == 0 < case.dsc[-1]
    assert case.dsc_auc == pytest.approx(np.trapezoid(case.dsc) / 3)
    assert case.structures["Liver"].added == (True,) * 3
    sizes = [int(locked["Liver"].sum()) for _, locked in calls]
    assert 0 < sizes[0] < sizes[1] < sizes[2]
    for masks, locked in calls:
        assert (masks["Liver"][locked["Liver"]] == LIVER[locked["Liver"]]).all()
    assert set(case.to_dict()) == {"structures", "dsc", "nsd", "dsc_auc", "nsd_auc"}


def test_a_perfect_answer_keeps_its_score_and_is_corrected_no_more() -> None:
    calls: list[Masks] = []

    def oracle(masks: Masks, locked: Masks) -> Masks:
        calls.append(masks)
        return TRUTHS

    case = from_nothing(oracle, 5)
    assert len(calls) == 1
    assert case.dsc == (0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert case.dsc_auc == pytest.approx(0.9)


def test_no_rounds_and_nothing_to_correct_are_refused() -> None:
    with pytest.raises(InputError, match="rounds"):
        from_nothing(lambda masks, locked: masks, 0)
    with pytest.raises(InputError, match="no structure"):
        present_truths({"Liver": NOTHING})
    assert set(present_truths({"Liver": LIVER, "Spleen": NOTHING})) == {"Liver"}
