"""What a user changed in a mask since its last result, through undo, redo and checked slices."""

from __future__ import annotations

import numpy as np

from MedalSLib.volume import BoxMask
from MedalSLib.volume.edit_history import EditHistory

SHAPE = (6, 8, 10)


def box(*bounds: tuple[int, int]) -> BoxMask:
    array = np.zeros(SHAPE, bool)
    array[tuple(slice(*pair) for pair in bounds)] = True
    return BoxMask.of(array)


RESULT = box((1, 5), (1, 5), (1, 5))
STROKE = box((2, 3), (5, 7), (1, 5))
NEXT = box((1, 5), (1, 7), (1, 5))
OTHER = box((4, 5), (1, 3), (6, 8))


def test_a_result_is_no_edit_and_paint_is() -> None:
    history = EditHistory(RESULT)
    assert history.edit(RESULT) is None
    edit = history.edit(RESULT | STROKE)
    assert edit is not None and edit.change == edit.decided == STROKE and edit.mask == RESULT | STROKE


def test_what_an_earlier_refinement_honoured_stays_decided() -> None:
    history = EditHistory(RESULT)
    history.record(NEXT, STROKE)
    assert history.edit(NEXT) is None
    edit = history.edit(NEXT | OTHER)
    assert edit is not None and edit.change == OTHER and edit.decided == STROKE | OTHER


def test_undoing_a_run_is_not_taken_for_erasing_and_redoing_it_not_for_painting() -> None:
    history = EditHistory(RESULT)
    history.edit(RESULT | STROKE)
    history.record(NEXT, STROKE)
    edit = history.edit(RESULT | STROKE)
    assert edit is not None and edit.change == STROKE
    more = history.edit(RESULT | STROKE | OTHER)
    assert more is not None and more.change == STROKE | OTHER
    assert history.edit(RESULT) is None
    assert history.edit(NEXT) is None
    assert history.decided == STROKE


def test_erasing_what_a_refinement_added_is_an_edit_however_much_of_it() -> None:
    history = EditHistory(RESULT)
    history.edit(RESULT | STROKE)
    history.record(NEXT, STROKE)
    left = RESULT | STROKE | box((1, 2), (5, 6), (1, 2))
    edit = history.edit(left)
    assert edit is not None and edit.change == NEXT - left


def test_what_the_user_finds_right_is_decided_and_no_edit() -> None:
    history = EditHistory(RESULT)
    history.edit(RESULT | STROKE)
    plane = box((3, 4), (0, 8), (0, 10))
    history.decide(plane)
    assert history.edit(RESULT) is None
    edit = history.edit(RESULT | STROKE)
    assert edit is not None and edit.change == STROKE and edit.decided == STROKE | plane
