"""Sides that are mixed up are told apart from masks that are merely bad."""

import numpy as np
import pytest

from tools.starter.score import on_the_other_side


def test_the_share_of_a_mask_in_its_counterpart_is_given_for_paired_structures_alone() -> None:
    left, right = np.zeros((4, 4, 4), bool), np.zeros((4, 4, 4), bool)
    left[:, :, :2], right[:, :, 2:] = True, True
    truths = {"Left kidney": left, "Right kidney": right, "Liver": right}
    masks = {"Left kidney": right, "Right kidney": right, "Liver": left}
    assert on_the_other_side(masks, truths) == {"Left kidney": 1.0, "Right kidney": 0.0}
    masks["Left kidney"] = left | right
    assert on_the_other_side(masks, truths)["Left kidney"] == pytest.approx(0.5)
    masks["Left kidney"] = np.zeros_like(left)
    assert on_the_other_side(masks, truths)["Left kidney"] == 0.0
