"""Tiles and their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedalSLib.inference.tiling import axis_starts, gaussian_weights

MISC = np.load(Path(__file__).resolve().parents[1] / "golden" / "misc.npz", allow_pickle=False)


@pytest.mark.parametrize("patch", [(64, 64, 32), (224, 224, 128), (192, 192, 192)])
def test_weights_are_the_published_ones_to_the_bit(patch: tuple[int, int, int]) -> None:
    weights = gaussian_weights(patch)
    np.testing.assert_array_equal(weights[::8, ::8, ::8], MISC[f"open/gaussian/{'x'.join(map(str, patch))}"])
    assert weights.dtype == np.float16
    assert weights.min() > 0
    assert weights.max() == 10


def test_weights_cannot_be_changed_by_whoever_asks_first() -> None:
    with pytest.raises(ValueError, match="read-only"):
        gaussian_weights((16, 16, 16))[0] = 1


@given(st.integers(1, 64).map(lambda half: 2 * half), st.integers(0, 500))
def test_tiles_overlap_by_half_and_end_flush(patch: int, more: int) -> None:
    size = patch + more
    starts = axis_starts(size, patch)
    assert starts[0] == 0
    assert starts[-1] == size - patch
    steps = np.diff(starts)
    assert (steps[:-1] == patch // 2).all()
    assert (steps > 0).all()
    assert (steps <= patch // 2).all()
