"""The resampling policy against every published figure, and what it does with grids nobody measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from MedalSLib.inference.resampling_policy import plan

CASES = json.loads((Path(__file__).resolve().parents[1] / "golden" / "preprocess.json").read_text())


def hwd(shape_dhw: list[int]) -> tuple[int, int, int]:
    return shape_dhw[1], shape_dhw[2], shape_dhw[0]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_published_number_is_met_exactly(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    made = plan(hwd(case["shape_dhw"]), case["spacing_hwd"], case["classes"], case["stage"])
    assert list(made.spacing) == expect["spacing"]
    assert list(made.target_spacing) == expect["target_spacing"]
    assert list(made.shape) == expect["current_shape"]
    assert list(made.padding) == expect["padding"]
    assert [list(tile) for tile in made.tiles] == expect["tiles"]
    assert made.refinement_iterations == expect["num_iterations"]
