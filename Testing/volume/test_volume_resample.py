"""A mask drawn on another grid is brought onto the image's, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.volume import Grid
from MedalSLib.volume.resample import resample_mask


def ball(grid: Grid, centre_ras: tuple[float, float, float], radius: float) -> np.ndarray:
    k, j, i = np.indices(grid.shape_kji)
    return np.linalg.norm(grid.index_to_ras(np.stack([i, j, k], -1)) - centre_ras, axis=-1) <= radius


def grid_of(spacing: tuple[float, float, float], shape: tuple[int, int, int], angle: float = 0.0) -> Grid:
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape[::-1]) - 1) / 2
    return Grid(shape, affine)


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.9])
def test_a_ball_stays_where_it_is(angle: float) -> None:
    source, target = grid_of((1, 1, 2), (30, 50, 50), angle), grid_of((1.5, 1.2, 1), (45, 40, 36))
    result = resample_mask(ball(source, (5, -4, 3), 9), source, target)
    expected = ball(target, (5, -4, 3), 9)
    assert result.dtype == bool and result.shape == target.shape_kji
    assert 2 * (result & expected).sum() / (result.sum() + expected.sum()) > 0.93


def test_a_sheared_grid_is_respected() -> None:
    source, target = grid_of((1, 1, 2), (30, 50, 50)), grid_of((1, 1, 1), (40, 40, 40))
    sheared = source.affine_ras.copy()
    sheared[1, 2] += 0.7
    source = Grid(source.shape_kji, sheared)
    centre = tuple(source.index_to_ras((25, 25, 15)))
    result = resample_mask(ball(source, centre, 8), source, target)
    expected = ball(target, centre, 8)
    assert 2 * (result & expected).sum() / (result.sum() + expected.sum()) > 0.93


def test_the_same_grid_passes_unchanged_and_a_crop_is_put_back_exactly(grid: Grid, ct: np.ndarray) -> None:
    mask = ct > 300
    assert resample_mask(mask, grid, grid) is mask
    box = ((2, 9), (1, 8), (1, 5))
    part = mask[1:5, 1:8, 2:9]
    back = resample_mask(part, grid.crop(box), grid)
    np.testing.assert_array_equal(back[1:5, 1:8, 2:9], part)
    assert back.sum() == part.sum()


def test_a_mask_elsewhere_is_refused() -> None:
    here = grid_of((1, 1, 1), (10, 10, 10))
    moved = here.affine_ras.copy()
    moved[0, 3] += 500
    with pytest.raises(InputError, match="do not overlap") as caught:
        resample_mask(np.ones((10, 10, 10), bool), Grid((10, 10, 10), moved), here)
    assert caught.value.remedy


def test_a_mask_whose_content_is_off_the_image_is_refused_but_an_empty_one_is_not() -> None:
    small, wide = grid_of((1, 1, 1), (10, 10, 10)), grid_of((1, 1, 1), (40, 40, 40))
    corner = np.zeros((40, 40, 40), bool)
    corner[:3, :3, :3] = True
    with pytest.raises(InputError, match="'Liver' has no part"):
        resample_mask(corner, wide, small, "Liver")
    assert not resample_mask(np.zeros_like(corner), wide, small).any()


def test_a_mask_of_another_shape_than_its_grid_is_refused(grid: Grid) -> None:
    with pytest.raises(InputError, match="shape"):
        resample_mask(np.ones((2, 2, 2), bool), grid, grid)
