"""A voxel keeps its place in the patient, whatever the grid, on the way to the network and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedalSLib.errors import InputError
from MedalSLib.volume.box import slices, whole
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.geometry import (
    Grid,
    NetworkFrame,
    axial_grid,
    grid_from_lps,
    lps_of_grid,
    same_grid,
    swap_ras_lps,
)

CODES = ["LPS", "RAS", "LAS", "PSR", "SAL"]


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Oblique, left-handed, anisotropic, flipped, permuted and slightly sheared grids."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.2, 8)] * 3))
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from((-1.0, 1.0))] * 3))
    angles = draw(st.tuples(*[st.floats(-np.pi, np.pi)] * 3))
    matrix = rotation(angles) @ np.eye(3)[:, order] @ np.diag(signs)
    matrix[:, 2] += draw(st.floats(-0.3, 0.3)) * matrix[:, 1]
    affine = np.eye(4)
    affine[:3, :3] = matrix / np.linalg.norm(matrix, axis=0) * spacing
    affine[:3, 3] = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    return Grid(shape, affine)


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


@settings(max_examples=200, deadline=None)
@given(grids(), st.sampled_from(CODES))
def test_there_and_back_is_the_identity_and_copies_nothing(grid: Grid, code: str) -> None:
    frame = NetworkFrame(grid, code)
    array = numbered(grid.shape_kji)
    inside = frame.to_network(array)
    assert inside.shape == frame.shape_dhw
    assert np.shares_memory(array, inside)
    back = frame.array_from_network(BoxArray(inside, whole(inside.shape), inside.shape))
    assert np.shares_memory(array, back.crop) and back.box == whole(grid.shape_kji)
    np.testing.assert_array_equal(back.crop, array)


@settings(max_examples=200, deadline=None)
@given(grids(), st.sampled_from(CODES), st.data())
def test_a_point_in_the_patient_keeps_its_voxel_value(grid: Grid, code: str, data: st.DataObject) -> None:
    frame = NetworkFrame(grid, code)
    array = numbered(grid.shape_kji)
    inside = frame.to_network(array)
    i, j, k = (data.draw(st.integers(0, size - 1)) for size in grid.shape_ijk)
    x, y, z = np.rint(frame.network_grid.ras_to_index(grid.index_to_ras((i, j, k)))).astype(int)
    assert inside[z, y, x] == array[k, j, i]


@settings(max_examples=200, deadline=None)
@given(grids(), st.sampled_from(CODES))
def test_the_inside_grows_to_the_directions_of_the_code_with_its_own_spacing(grid: Grid, code: str) -> None:
    frame = NetworkFrame(grid, code)
    assert frame.spacing_dhw == pytest.approx(frame.network_grid.spacing_kji)
    unit = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    for letter, column in zip(code, frame.network_grid.directions.T, strict=True):
        assert column @ unit[letter] > 0
    assert frame.network_grid.voxel_volume_ml == pytest.approx(grid.voxel_volume_ml)


@settings(max_examples=200, deadline=None)
@given(grids(), st.sampled_from(CODES), st.data())
def test_a_box_holds_the_same_voxels_inside(grid: Grid, code: str, data: st.DataObject) -> None:
    bounds = []
    for size in grid.shape_ijk:
        low = data.draw(st.integers(0, size - 1))
        bounds.append((low, data.draw(st.integers(low + 1, size))))
    box = tuple(bounds)
    frame = NetworkFrame(grid, code)
    array = numbered(grid.shape_kji)
    (i0, i1), (j0, j1), (k0, k1) = box
    part = array[k0:k1, j0:j1, i0:i1]
    inside = frame.to_network(array)[slices(frame.roi_to_network(box))]
    assert sorted(inside.ravel()) == sorted(part.ravel())
    np.testing.assert_array_equal(NetworkFrame(grid.crop(box), code).to_network(part), inside)


@settings(max_examples=100, deadline=None)
@given(grids())
def test_lps_and_ras_are_two_names_for_one_place(grid: Grid) -> None:
    again = grid_from_lps(grid.shape_kji, *lps_of_grid(grid))
    assert same_grid(again, grid, tolerance=1e-6)
    np.testing.assert_allclose(swap_ras_lps(swap_ras_lps(grid.affine_ras)), grid.affine_ras)


@settings(max_examples=100, deadline=None)
@given(grids())
def test_a_cropped_grid_keeps_its_voxels_in_place(grid: Grid) -> None:
    box = tuple((size // 2, size) for size in grid.shape_ijk)
    corner = [low for low, _ in box]
    np.testing.assert_allclose(grid.crop(box).index_to_ras((0, 0, 0)), grid.index_to_ras(corner), atol=1e-6)


def test_an_upright_lps_image_passes_unchanged() -> None:
    grid = axial_grid((4, 5, 6), (3.0, 0.7, 0.8))
    array = numbered((4, 5, 6))
    assert grid.orientation == "LPS"
    np.testing.assert_array_equal(NetworkFrame(grid).to_network(array), array)
    assert NetworkFrame(grid).spacing_dhw == pytest.approx((3.0, 0.7, 0.8))


def test_a_ras_image_is_mirrored_in_plane() -> None:
    grid = Grid((2, 3, 4), np.diag((1.0, 1.0, 1.0, 1.0)))
    array = numbered((2, 3, 4))
    assert grid.orientation == "RAS"
    np.testing.assert_array_equal(NetworkFrame(grid).to_network(array), array[:, ::-1, ::-1])


def test_a_sagittal_image_is_permuted() -> None:
    affine = np.zeros((4, 4))
    affine[1, 0], affine[2, 1], affine[0, 2], affine[3, 3] = -0.9, -0.8, -5.0, 1  # i to P, j to I, k to L
    grid = Grid((2, 3, 4), affine)
    array = numbered((2, 3, 4))
    assert grid.orientation == "PIL"
    assert NetworkFrame(grid).spacing_dhw == pytest.approx((0.8, 0.9, 5.0))
    np.testing.assert_array_equal(NetworkFrame(grid).to_network(array), array.transpose(1, 2, 0)[::-1])


def test_the_facts_of_a_sheared_grid() -> None:
    affine = np.array([[1, 0, 0, 5], [0, 2, 1.0, 6], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    grid = Grid((4, 5, 6), affine)
    assert grid.voxel_volume_ml == pytest.approx(0.006)
    assert grid.spacing_ijk == pytest.approx((1, 2, np.sqrt(10)))
    assert grid.orientation == "RAS"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_affine_that_is_not_finite_is_refused(value: float) -> None:
    affine = np.eye(4)
    affine[0, 3] = value
    with pytest.raises(InputError, match="finite"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize(
    ("affine", "cause"),
    [
        (np.diag((1.0, 0.0, 1.0, 1.0)), "spacing"),
        (np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "same direction"),
        (np.diag((1.0, 1.0, 1.0, 2.0)), "last row"),
        (np.eye(3), "4x4"),
    ],
)
def test_an_affine_that_is_no_grid_is_refused_with_a_remedy(affine: np.ndarray, cause: str) -> None:
    with pytest.raises(InputError, match=cause) as caught:
        Grid((2, 2, 2), affine)
    assert caught.value.remedy


@pytest.mark.parametrize("shape", [(2, 2), (0, 2, 2), (2, 2, 2, 2)])
def test_a_shape_that_is_not_a_volume_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        Grid(shape, np.eye(4))  # type: ignore[arg-type]  # the wrong type is the point


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, np.nan)])
def test_itk_spacing_must_be_positive(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="spacing"):
        grid_from_lps((2, 2, 2), (0, 0, 0), spacing, np.eye(3).ravel())


def test_a_grid_cannot_be_changed_and_compares_by_value() -> None:
    affine = np.eye(4)
    grid = Grid((2, 2, 2), affine)
    affine[0, 0] = 9
    assert grid == Grid((2, 2, 2), np.eye(4))
    assert hash(grid) == hash(Grid((2, 2, 2), np.eye(4)))
    assert grid != Grid((2, 2, 3), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine_ras[0, 0] = 2


def test_grids_are_the_same_but_for_rounding() -> None:
    affine = np.eye(4)
    affine[0, 3] = 0.01
    assert same_grid(Grid((9, 9, 9), np.eye(4)), Grid((9, 9, 9), affine))
    affine[0, 3] = 0.2
    assert not same_grid(Grid((9, 9, 9), np.eye(4)), Grid((9, 9, 9), affine))
    assert not same_grid(Grid((9, 9, 9), np.eye(4)), Grid((9, 9, 8), np.eye(4)))


def test_a_small_turn_is_seen_at_the_far_corner() -> None:
    turned = np.eye(4)
    turned[:3, :3] = rotation((0.0, 0.0, 0.002))
    assert not same_grid(Grid((300, 300, 300), np.eye(4)), Grid((300, 300, 300), turned))


def test_an_array_on_another_grid_is_refused() -> None:
    frame = NetworkFrame(axial_grid((2, 3, 4), (1, 1, 1)))
    with pytest.raises(InputError, match="3x2x4"):
        frame.to_network(np.zeros((3, 2, 4)))


def test_a_region_off_the_image_is_refused_and_one_across_its_edge_is_cut() -> None:
    frame = NetworkFrame(axial_grid((2, 3, 4), (1, 1, 1)))
    assert frame.roi_to_network(((-5, 2), (1, 99), (0, 1))) == ((0, 1), (1, 3), (0, 2))
    with pytest.raises(InputError, match="no voxel"):
        frame.roi_to_network(((4, 9), (0, 1), (0, 1)))


@pytest.mark.parametrize("code", ["LPX", "LRS", "LP", "", "LPSS"])
def test_an_orientation_code_must_name_each_axis_once(code: str) -> None:
    with pytest.raises(InputError, match="orientation"):
        NetworkFrame(axial_grid((2, 3, 4), (1, 1, 1)), code)
