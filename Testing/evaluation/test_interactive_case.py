"""The interactive measure on a session: text first, then masks and locks that grow with every round."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.evaluation.interactive_case import interactive_case

SHAPE = (14, 20, 20)
LIVER, SPLEEN = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LIVER[2:12, 2:12, 2:12] = True
SPLEEN[3:9, 13:19, 13:19] = True


class Listening:
    """A session that finds nothing by text and gives back the masks it is shown; it keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], dict[str, np.ndarray], dict[str, np.ndarray]]] = []

    def segment(self, prompts, masks=None, locked=None, roi=None, *, options=None, cancel=None, **_):  # type: ignore[no-untyped-def]
        copies = [{name: array.copy() for name, array in (given or {}).items()} for given in (masks, locked)]
        self.calls.append((list(prompts), *copies))
        return SimpleNamespace(masks={name: (masks or {}).get(name, np.zeros(SHAPE, bool)) for name in prompts})


def test_scores_rise_and_locks_grow_with_every_round() -> None:
    session = Listening()
    case = interactive_case(
        session, {"Liver": LIVER, "Spleen": SPLEEN, "Gallbladder": np.zeros(SHAPE, bool)}, (2.0, 1.0, 1.0), rounds=3
    )
    assert session.calls[0] == (["Liver", "Spleen"], {}, {})
    assert set(case.structures) == {"Liver", "Spleen"}
    assert list(case.dsc) == sorted(case.dsc)
    assert case.dsc[0] == 0 < case.dsc[-1]
    assert case.dsc_auc == pytest.approx(np.trapezoid(case.dsc) / 3)
    sizes = [int(locked["Liver"].sum()) for _, _, locked in session.calls[1:]]
    assert sizes == sorted(sizes)
    assert sizes[0] > 0
    for _, masks, locked in session.calls[1:]:
        assert (masks["Liver"][locked["Liver"]] == LIVER[locked["Liver"]]).all()
    assert set(case.to_dict()) == {"structures", "dsc", "nsd", "dsc_auc", "nsd_auc"}


def test_structures_that_are_perfect_are_left_alone() -> None:
    class Perfect(Listening):
        def segment(self, prompts, *arguments, **options):  # type: ignore[no-untyped-def]
            super().segment(prompts, *arguments, **options)
            return SimpleNamespace(masks={"Liver": LIVER, "Spleen": SPLEEN})

    session = Perfect()
    case = interactive_case(session, {"Liver": LIVER, "Spleen": SPLEEN}, (1, 1, 1), rounds=2)
    assert len(session.calls) == 1
    assert case.dsc == (1.0, 1.0, 1.0)


def test_nothing_to_correct_is_an_error() -> None:
    with pytest.raises(InputError):
        interactive_case(Listening(), {"Liver": np.zeros(SHAPE, bool)}, (1, 1, 1))
