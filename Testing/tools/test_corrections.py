"""Simulated corrections hit the largest error and stay inside it."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.errors import InputError
from tools.interactive.corrections import next_correction


def block(shape: tuple[int, int, int], *bounds: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in bounds)] = True
    return mask


SHAPE = (20, 30, 30)
TRUTH = block(SHAPE, (4, 16), (4, 26), (4, 16))


@pytest.mark.parametrize("kind", ["click", "stroke"])
def test_the_correction_lies_inside_the_largest_error_and_knows_its_sign(kind: str) -> None:
    missed = TRUTH & ~block(SHAPE, (4, 16), (4, 24), (4, 10))
    surplus = block(SHAPE, (1, 3), (20, 28), (20, 28))
    correction = next_correction(TRUTH, missed | surplus, (1, 1, 1), kind, radius_mm=2)
    assert correction is not None
    assert correction.add
    assert correction.painted[correction.center_dhw]
    assert not (correction.painted & (missed | ~TRUTH)).any()
    erase = next_correction(TRUTH, TRUTH | surplus, (1, 1, 1), kind, radius_mm=2)
    assert erase is not None
    assert not erase.add
    assert not (erase.painted & TRUTH).any()
    assert (erase.apply(TRUTH | surplus) < (TRUTH | surplus)).any()


def test_a_stroke_is_longer_than_a_click_and_stays_in_its_slice_when_the_brush_is_thin() -> None:
    found = np.zeros(SHAPE, bool)
    click = next_correction(TRUTH, found, (1, 1, 1), "click", radius_mm=0.4)
    stroke = next_correction(TRUTH, found, (1, 1, 1), "stroke", radius_mm=0.4)
    assert click is not None
    assert stroke is not None
    assert click.painted.sum() == 1
    assert stroke.painted.sum() >= 15
    assert len(np.unique(np.argwhere(stroke.painted)[:, 0])) == 1


def test_nothing_is_corrected_where_nothing_is_wrong() -> None:
    assert next_correction(TRUTH, TRUTH) is None


def test_arrays_on_different_grids_are_refused() -> None:
    with pytest.raises(InputError):
        next_correction(TRUTH, TRUTH[1:])
