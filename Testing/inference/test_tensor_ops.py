"""Choosing by arithmetic gives what choosing voxel by voxel gives, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from MedalSLib.inference.tensor_ops import bits_of, relabel, select, tensor_box, threshold_to_zero


@pytest.mark.parametrize(("dtype", "value"), [(torch.uint8, 255), (torch.uint8, 1), (torch.int16, 300)])
def test_labels_change_where_they_are_told_to_and_nowhere_else(dtype: torch.dtype, value: int) -> None:
    labels = torch.randint(0, 256, (5, 6, 7), generator=torch.manual_seed(0)).to(dtype)
    where = torch.rand(5, 6, 7) > 0.5
    expected = labels.masked_fill(where, value)
    relabel(labels, where, value)
    assert torch.equal(labels, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_value_comes_from_the_side_it_is_chosen_from(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values, others = (torch.randn(4, 5, 6, 7).mul(10.0**scale).to(dtype) for scale in (0, 6))
    where = torch.rand(5, 6, 7) > 0.5
    assert torch.equal(select(where, values, others), torch.where(where, values, others))
    assert torch.equal(select(where, others, values), torch.where(where, others, values))


def test_what_just_reaches_a_threshold_stays() -> None:
    half = np.float32(0.5)
    values = torch.tensor([0.0, np.nextafter(half, np.float32(0)), half, np.nextafter(half, np.float32(1)), 1.0])
    assert threshold_to_zero(values, 0.5).tolist() == [0.0, 0.0, *values[2:].tolist()]


def test_the_box_holds_what_reaches_the_least_and_touches_it_on_every_side() -> None:
    values = torch.rand(6, 7, 8, generator=torch.manual_seed(0)) * 0.4
    values[2, 3:5, 6], values[4, 1, 7] = 0.5, 0.7
    assert tensor_box(values, 0.5) == ((2, 5), (1, 5), (6, 8))
    assert tensor_box(values >= 0.5) == ((2, 5), (1, 5), (6, 8))
    assert tensor_box(values, 0.8) is None
    assert tensor_box(torch.zeros(3, 0, 2), 0.5) is None


def test_bits_are_those_of_numpy() -> None:
    mask = torch.rand(3, 4, 19, generator=torch.manual_seed(0)) > 0.5
    expected = np.packbits(mask.numpy(), axis=-1)
    np.testing.assert_array_equal(bits_of(mask), expected)
    np.testing.assert_array_equal(bits_of(mask.permute(1, 0, 2)), expected.transpose(1, 0, 2))
