"""Synthesis of training images: labels stay on their images, tissues get their means, the same seed gives the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tools.starter.synthesis import (
    Appearance,
    Bump,
    Warp,
    blur,
    positions,
    render,
    rotation,
    sample,
    smooth_noise,
    thick_slices,
)

CPU = torch.device("cpu")
SHAPE, SPACING = (24, 32, 40), (3.0, 2.0, 1.5)
EXTENT = tuple(n * s for n, s in zip(SHAPE, SPACING, strict=True))
MIDDLE = (36.0, 32.0, 30.0)
STILL = Warp(SHAPE, SPACING, MIDDLE)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def places(warp: Warp, seed: int = 0) -> Tensor:
    return positions(warp, generator(seed), CPU)


def ball(radius_mm: float = 15.0) -> Tensor:
    """A ball in the middle of the volume, 0 or 1."""
    axes = torch.meshgrid(*(torch.arange(n) for n in SHAPE), indexing="ij")
    square = sum(((a + 0.5) * s - m) ** 2 for a, s, m in zip(axes, SPACING, MIDDLE, strict=True))
    return (square < radius_mm**2).float()


def extent(mask: Tensor, axis: int) -> int:
    return int(mask.any(dim=tuple(other for other in range(3) if other != axis)).sum())


def test_a_patch_that_is_not_warped_is_the_volume_itself() -> None:
    volume = torch.rand(SHAPE, generator=generator())
    torch.testing.assert_close(sample(volume, places(STILL), SPACING), volume, atol=2e-4, rtol=0)
    assert torch.equal(sample(volume, places(STILL), SPACING, nearest=True), volume)
    first = places(STILL)[:, 0, 0, 0]
    torch.testing.assert_close(first, torch.tensor([1.5, 1.0, 0.75]))


def test_outside_of_the_volume_is_zero() -> None:
    beside = replace(STILL, centre=(MIDDLE[0], MIDDLE[1], MIDDLE[2] + EXTENT[2]))
    assert not sample(torch.ones(SHAPE), places(beside), SPACING).any()


def test_warped_labels_lie_on_the_warped_image() -> None:
    labels = ball()
    warp = replace(
        STILL,
        scale=(1.1, 0.9, 1.2),
        angles=(0.3, -0.2, 0.15),
        waves=((40.0, 4.0), (20.0, 1.0)),
        bumps=(Bump(MIDDLE, 20.0, 0.3),),
    )
    there = places(warp)
    image = sample(labels, there, SPACING) > 0.5
    moved = sample(labels, there, SPACING, nearest=True) > 0.5
    overlap = 2 * (image & moved).sum() / (image.sum() + moved.sum())
    assert overlap > 0.97
    assert 2 * (moved & (labels > 0)).sum() / (moved.sum() + (labels > 0).sum()) < 0.97


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scale_makes_the_anatomy_larger_along_its_axis_alone(axis: int) -> None:
    before = ball() > 0
    factor = tuple(1.5 if k == axis else 1.0 for k in range(3))
    after = sample(ball(), places(replace(STILL, scale=factor)), SPACING, nearest=True) > 0
    for other in range(3):
        wanted = extent(before, other) * factor[other]
        assert extent(after, other) == pytest.approx(wanted, abs=1)


def test_rotation_turns_about_the_axis_that_is_named() -> None:
    quarter = np.pi / 2
    turn = rotation((0.4, -0.3, 0.2))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)
    for axis in range(3):
        angles = tuple(quarter if k == axis else 0.0 for k in range(3))
        still = np.eye(3)[axis]
        np.testing.assert_allclose(rotation(angles) @ still, still, atol=1e-12)
        other = np.eye(3)[(axis + 1) % 3]
        assert abs(rotation(angles) @ other @ other) < 1e-12
    cube = Warp((9, 9, 9), (1.0, 1.0, 1.0), (4.5, 4.5, 4.5), angles=(quarter, 0.0, 0.0))
    volume = torch.rand((9, 9, 9), generator=generator())
    turned = sample(volume, places(cube), (1.0, 1.0, 1.0))
    both = (torch.rot90(volume, 1, (1, 2)), torch.rot90(volume, -1, (1, 2)))
    assert min(float((turned - other).abs().max()) for other in both) < 1e-4


def test_a_bump_swells_what_is_near_and_leaves_the_rest() -> None:
    before = ball(10.0)
    grown = sample(before, places(replace(STILL, bumps=(Bump(MIDDLE, 12.0, 0.4),))), SPACING).sum()
    shrunk = sample(before, places(replace(STILL, bumps=(Bump(MIDDLE, 12.0, -0.4),))), SPACING).sum()
    assert shrunk < 0.8 * before.sum() < before.sum() < 0.8 * grown
    far = places(replace(STILL, bumps=(Bump(MIDDLE, 6.0, 0.4),))) - places(STILL)
    assert far[:, 0, 0, 0].abs().max() < 0.05


def test_waves_displace_as_far_as_they_say_and_smoothly() -> None:
    shift = places(replace(STILL, waves=((25.0, 3.0),))) - places(STILL)
    assert 1.5 < float(shift.std()) < 4.5
    step = torch.diff(shift, dim=3).abs().mean()
    assert step < 0.25 * shift.std()


def test_the_same_seed_gives_the_same_anatomy_and_another_seed_another() -> None:
    warp = replace(STILL, waves=((25.0, 3.0),))
    assert torch.equal(places(warp, seed=1), places(warp, seed=1))
    assert not torch.equal(places(warp, seed=1), places(warp, seed=2))
    fields = [smooth_noise((2, *SHAPE), [4.0, 4.0, 4.0], generator(seed), CPU) for seed in (3, 3, 4)]
    assert fields[0].shape == (2, *SHAPE)
    assert torch.equal(fields[0], fields[1])
    assert not torch.equal(fields[0], fields[2])
    assert not torch.equal(fields[0][0], fields[0][1])
    assert 0.4 < float(fields[0].std()) < 1.6


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blur_spreads_along_its_axis_by_its_sigma_and_keeps_the_sum(axis: int) -> None:
    point = torch.zeros(31, 31, 31)
    point[15, 15, 15] = 7.0
    sigma = tuple(1.5 if k == axis else 0.1 for k in range(3))
    smooth = blur(point, sigma)
    assert smooth.sum() == pytest.approx(7.0, abs=1e-4)
    for other in range(3):
        profile = smooth.sum(dim=tuple(k for k in range(3) if k != other)) / 7.0
        variance = float((profile * (torch.arange(31) - 15) ** 2).sum())
        assert variance == pytest.approx(1.5**2 if other == axis else 0.0, rel=0.06, abs=1e-6)


def test_blur_keeps_a_constant_up_to_the_edges() -> None:
    torch.testing.assert_close(blur(torch.full(SHAPE, 40.0), (1.0, 2.0, 0.5)), torch.full(SHAPE, 40.0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_thick_slices_average_what_lies_in_them_and_leave_the_other_axes(axis: int) -> None:
    image = torch.rand((12, 12, 12), generator=generator())
    thick = thick_slices(image, axis, 3.0, average=True, nearest=True)
    assert thick.shape == image.shape
    slabs = image.movedim(axis, 0).reshape(4, 3, 12, 12).mean(1)
    torch.testing.assert_close(thick.movedim(axis, 0), slabs.repeat_interleave(3, 0))
    assert thick.mean() == pytest.approx(float(image.mean()), abs=1e-6)


def test_thin_slices_with_gaps_do_not_average() -> None:
    image = torch.zeros(12, 4, 4)
    image[0] = 9.0  # between the slices that are read, at the middle of every third
    assert thick_slices(image, 0, 3.0, average=True, nearest=True)[0, 0, 0] == pytest.approx(3.0)
    assert not thick_slices(image, 0, 3.0, average=False, nearest=True).any()
    smooth = thick_slices(torch.arange(12.0).view(12, 1, 1).expand(12, 4, 4), 0, 3.0, average=True, nearest=False)
    assert len(torch.unique(smooth[:, 0, 0])) > 4


def look(**changes: object) -> Appearance:
    values = {"mean": 0.0, "gain": 0.0, "grain": 0.0} | changes
    tables = {
        name: np.zeros(256) + np.asarray([value] * 256 if np.isscalar(value) else value)
        for name, value in values.items()
    }
    return Appearance(**tables, grain_cells=8.0)


def test_render_gives_each_tissue_its_mean_and_the_texture_that_is_its_own() -> None:
    elements = torch.zeros(SHAPE, dtype=torch.int64)
    elements[:, :, 20:] = 3
    texture = torch.randn(SHAPE, generator=generator()) * 5
    image = torch.where(elements == 3, 80.0, -20.0) + texture
    old = torch.zeros(256)
    old[0], old[3] = -20.0, 80.0
    mean = np.zeros(256)
    mean[0], mean[3] = 150.0, 30.0

    flat = render(image, elements, old, look(mean=mean), 1e6, generator())
    assert torch.unique(flat[elements == 0]).tolist() == [150.0]
    assert torch.unique(flat[elements == 3]).tolist() == [30.0]

    gain = np.zeros(256)
    gain[3] = 2.0
    textured = render(image, elements, old, look(mean=mean, gain=gain), 1e6, generator())
    torch.testing.assert_close(textured[elements == 3], 30.0 + 2.0 * texture[elements == 3], atol=1e-3, rtol=0)
    assert torch.unique(textured[elements == 0]).tolist() == [150.0]

    limited = render(image, elements, old, look(mean=mean, gain=1.0), 4.0, generator())
    assert float((limited[elements == 3] - 30.0).abs().max()) == pytest.approx(4.0, abs=1e-3)

    grainy = render(image, elements, old, look(mean=mean, grain=10.0), 1e6, generator())
    assert 4 < float(grainy[elements == 0].std()) < 16
    assert torch.equal(grainy, render(image, elements, old, look(mean=mean, grain=10.0), 1e6, generator()))
