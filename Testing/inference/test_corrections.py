"""A correction carries over to where the user did not paint, and changes nothing else."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.inference.correction import CorrectionResult, propagate_correction
from MedalSLib.inference.correction.propagation import Scene, _connected, working_box
from MedalSLib.inference.correction.working_box import LARGEST_VOXELS
from MedalSLib.volume import BoxArray, BoxMask
from MedalSLib.volume.box import slices

SPACING = (3.0, 2.0, 2.0)
SHAPE = (24, 44, 44)


def correct(image, spacing, previous, painted_in, painted_out=None, *, probability=None, by_hand=False, **known):
    """Correct with dense arrays."""

    def boxed(mask: np.ndarray | None) -> BoxMask | None:
        return None if mask is None else BoxMask.of(mask)

    return propagate_correction(
        image,
        spacing,
        BoxMask.of(previous),
        boxed(painted_in),
        boxed(painted_out),
        probability=None if probability is None else BoxArray.of(probability),
        by_hand=by_hand,
        **{name: boxed(mask) for name, mask in known.items()},
    )


def corrected(*arrays, **known) -> np.ndarray:
    return correct(*arrays, **known).mask.array()


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other))


def ball(center_mm: tuple[float, float, float], radius_mm: float, shape=SHAPE, spacing=SPACING) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(size) * step for size, step in zip(shape, spacing, strict=True)), indexing="ij")
    return sum((axis - at) ** 2 for axis, at in zip(grid, center_mm, strict=True)) <= radius_mm**2


def picture(mask: np.ndarray, contrast: float = 60.0, noise: float = 10.0, seed: int = 0) -> np.ndarray:
    image = 40 + contrast * mask + noise * np.random.default_rng(seed).standard_normal(mask.shape)
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def organ() -> np.ndarray:
    return ball((36.0, 44.0, 44.0), 18.0)


@pytest.fixture(scope="module")
def image(organ: np.ndarray) -> np.ndarray:
    return picture(organ)


def one_slice(mask: np.ndarray, axis: int, at: int) -> np.ndarray:
    section = np.zeros_like(mask)
    where = [slice(None)] * 3
    where[axis] = at
    section[tuple(where)] = mask[tuple(where)]
    return section


NOTHING = np.zeros(SHAPE, dtype=bool)


@pytest.mark.parametrize(("axis", "at"), [(0, 12), (1, 22), (2, 22)], ids=["axial", "coronal", "sagittal"])
def test_a_slice_painted_in_any_plane_becomes_the_structure(organ, image, axis, at):
    paint = one_slice(organ, axis, at)
    found = corrected(image, SPACING, NOTHING, paint)
    assert found[paint].all()
    assert dice(organ, found) > max(0.75, 2 * dice(organ, paint))


def test_a_stroke_becomes_more_than_a_stroke(organ, image):
    paint = ball((36.0, 44.0, 44.0), 5.0) & organ
    found = corrected(image, SPACING, NOTHING, paint)
    assert dice(organ, found) > max(0.5, 3 * dice(organ, paint))


def test_no_axis_is_special():
    spacing, shape = (2.0, 2.0, 2.0), (30, 32, 34)
    organ = ball((30.0, 32.0, 34.0), 14.0, shape, spacing) & ball((38.0, 32.0, 34.0), 16.0, shape, spacing)
    image, paint = picture(organ, seed=3), one_slice(organ, 1, 16)
    nothing = np.zeros(shape, dtype=bool)
    found = corrected(image, spacing, nothing, paint)
    for order in permutations(range(3)):
        turned = (np.ascontiguousarray(array.transpose(order)) for array in (image, nothing, paint))
        turned_image, turned_nothing, turned_paint = turned
        again = corrected(turned_image, spacing, turned_nothing, turned_paint)
        assert dice(again, found.transpose(order)) > 0.97


def test_a_stroke_along_a_thin_curved_structure_runs_on():
    spacing, shape = (2.0, 2.0, 2.0), (30, 40, 40)
    angles = np.linspace(0, np.pi, 200)
    tube = np.zeros(shape, dtype=bool)
    for angle in angles:
        tube |= ball((30.0, 14 + 40 * np.sin(angle), 40 - 30 * np.cos(angle)), 4.0, shape, spacing)
    paint = tube & ball((30.0, 54.0, 40.0), 9.0, shape, spacing)
    found = corrected(picture(tube, 80.0), spacing, np.zeros(shape, dtype=bool), paint)
    assert np.count_nonzero(found & tube) > 2 * np.count_nonzero(paint)
    assert np.count_nonzero(found & ~tube) < 0.35 * np.count_nonzero(found)


def test_units_of_the_intensities_do_not_matter(organ, image):
    paint = one_slice(organ, 0, 12)
    found = corrected(image, SPACING, NOTHING, paint)
    assert dice(corrected(image * 7 - 1000, SPACING, NOTHING, paint), found) > 0.99


def missing_cap(organ: np.ndarray) -> np.ndarray:
    """The organ without what lies above its middle."""
    previous = organ.copy()
    previous[:, 22:] = False
    return previous


def test_what_is_missing_comes_with_a_slice_of_it_and_nothing_goes(organ, image):
    previous = missing_cap(organ)
    paint = one_slice(organ & ~previous, 0, 12)
    result = correct(image, SPACING, previous, paint)
    mask = result.mask.array()
    assert not (previous & ~mask).any()
    assert dice(organ, mask) > dice(organ, previous | paint) + 0.05


def test_what_is_too_much_goes_with_a_slice_of_it_and_nothing_comes(organ, image):
    previous = organ | ball((36.0, 72.0, 44.0), 14.0)
    paint = one_slice(previous & ~organ, 0, 12)
    result = correct(image, SPACING, previous, None, paint)
    mask = result.mask.array()
    assert not (mask & ~previous).any()
    assert not mask[paint].any()
    assert dice(organ, mask) > dice(organ, previous & ~paint) + 0.01


def test_both_kinds_of_paint_stay_as_painted(organ, image):
    previous = missing_cap(organ) | ball((36.0, 14.0, 44.0), 10.0)
    painted_in = one_slice(organ & ~previous, 0, 12)
    painted_out = one_slice(previous & ~organ, 0, 12)
    mask = corrected(image, SPACING, previous, painted_in, painted_out)
    assert mask[painted_in].all()
    assert not mask[painted_out].any()
    assert dice(organ, mask) > dice(organ, (previous | painted_in) & ~painted_out)


def test_nothing_changes_for_nothing(organ, image):
    previous = BoxMask.of(missing_cap(organ))
    for paint in (None, BoxMask.empty(SHAPE), previous):
        result: CorrectionResult = propagate_correction(image, SPACING, previous, paint, BoxMask.empty(SHAPE))
        assert result.mask == previous
        assert result.box is None
        assert result.reach_mm == 0


def test_what_is_far_from_the_paint_stays(image):
    shape = (24, 44, 120)
    far = ball((36.0, 44.0, 220.0), 14.0, shape)
    near = ball((36.0, 44.0, 40.0), 14.0, shape)
    previous = far & ~one_slice(far, 0, 12)
    result = correct(picture(far | near), SPACING, previous, one_slice(near, 0, 12), by_hand=True)
    changed = result.mask.array() ^ previous
    assert (np.argwhere(changed) * SPACING)[:, 2].max() < 60 + result.reach_mm
    outside = np.ones(shape, dtype=bool)
    outside[slices(result.box)] = False
    assert not changed[outside].any()


def test_what_was_checked_stays(organ, image):
    paint = one_slice(organ, 0, 12)
    checked = np.zeros(SHAPE, dtype=bool)
    checked[14] = True
    previous = one_slice(organ, 0, 14)
    previous[14, 22:] = False
    mask = corrected(image, SPACING, previous, paint, checked=checked, by_hand=True)
    assert np.array_equal(mask[14], previous[14])
    assert mask[13].any()


def test_other_structures_are_not_grown_into_but_by_paint(organ, image):
    others = np.zeros(SHAPE, dtype=bool)
    others[:, :, 24:] = True
    paint = one_slice(organ, 0, 12)
    mask = corrected(image, SPACING, NOTHING, paint, checked=others)
    assert not (mask & others & ~paint).any()
    assert mask[paint].all()
    assert np.count_nonzero(mask) > 2 * np.count_nonzero(paint)


def test_the_network_speaks_where_the_image_says_nothing():
    organ = ball((36.0, 44.0, 44.0), 18.0)
    blank = picture(organ, contrast=0.0)
    previous = missing_cap(organ)
    paint = one_slice(organ & ~previous, 0, 12)
    knows = np.where(organ, 0.45, 0.02).astype(np.float32)
    knows[previous] = 0.95
    denies = np.where(previous, 0.95, 0.02).astype(np.float32)
    with_it, against_it = (
        corrected(blank, SPACING, previous, paint, probability=probability) for probability in (knows, denies)
    )
    assert dice(organ, with_it) > dice(organ, against_it) + 0.02


def test_paint_over_what_was_so_says_that_it_is_right(organ, image):
    paint, erased = one_slice(organ, 0, 12), one_slice(organ, 0, 13)
    mask = corrected(image, SPACING, NOTHING, paint, erased)
    assert mask[11].any()
    assert not mask[erased].any()


def test_distances_are_true_millimetres():
    shape = (9, 9, 9)
    paint = np.zeros(shape, dtype=bool)
    paint[4, 4, 4] = True
    nothing, spacing = BoxMask.empty(shape), np.array((5.0, 2.0, 1.0))
    scene = Scene(np.zeros(shape, dtype=np.float32), spacing, nothing, None, True)
    distance = working_box(scene, nothing, BoxMask.of(paint), True).distance
    assert [distance[6, 4, 4], distance[4, 6, 4], distance[4, 4, 6]] == [10, 4, 2]


@pytest.mark.parametrize("shape", [(1, 44, 44), (24, 1, 44), (24, 44, 1), (1, 1, 44), (1, 1, 1)])
def test_flat_volumes_are_no_trouble(shape):
    paint = np.zeros(shape, dtype=bool)
    paint[tuple(size // 2 for size in shape)] = True
    image = picture(np.zeros(shape, dtype=bool))
    mask = corrected(image, SPACING, np.zeros(shape, dtype=bool), paint)
    assert mask[paint].all()


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_an_image_without_contrast_is_no_trouble(organ, fill):
    image = np.full(SHAPE, fill, dtype=np.float32)
    paint = one_slice(organ, 0, 12)
    assert corrected(image, SPACING, NOTHING, paint)[paint].all()


def test_erasing_everything_leaves_nothing_where_it_was_erased(organ, image):
    assert not corrected(image, SPACING, organ, None, organ).any()


def test_integers_and_a_whole_painted_volume_are_taken(image):
    everything = np.ones(SHAPE, dtype=bool)
    mask = corrected(image.astype(np.int16), SPACING, NOTHING, everything)
    assert mask.all()


def test_what_does_not_fit_is_refused(organ, image):
    with pytest.raises(InputError, match="different grids"):
        correct(image, SPACING, organ[1:], organ)
    small = one_slice(organ, 0, 12)
    with pytest.raises(InputError, match="both painted and erased"):
        correct(image, SPACING, small, organ, small)


def test_the_cost_is_bounded_whatever_is_painted():
    spacing, shape = np.array((1.0, 0.7, 0.7)), (60, 300, 300)
    paint = np.zeros(shape, dtype=bool)
    paint[30, 60:240, 60:240] = True
    nothing = BoxMask.empty(shape)
    scene = Scene(np.zeros(shape, dtype=np.float32), spacing, nothing, None, True)
    work = working_box(scene, nothing, BoxMask.of(paint), True)
    assert work.free.size <= LARGEST_VOXELS
    assert work.seeds.paint.any()


def test_only_what_hangs_together_with_the_paint_changes():
    change, paint = np.zeros((2, 5, 9), dtype=bool), np.zeros((2, 5, 9), dtype=bool)
    paint[0, 2, 2] = True
    change[1, 3, 3], change[1, 3, 7] = True, True  # the first touches the paint by a corner
    kept = _connected(change, paint)
    assert kept[1, 3, 3]
    assert np.count_nonzero(kept) == 1
