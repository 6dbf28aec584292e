"""The resampling policy against every published figure, and what it does with grids nobody measured."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published_stages import PUBLISHED_STAGES

from MedalSLib.errors import InputError
from MedalSLib.inference.resampling_policy import StageSpec, plan

CASES = json.loads((Path(__file__).resolve().parents[1] / "golden" / "preprocess.json").read_text())
FIRST, SECOND = PUBLISHED_STAGES[1], PUBLISHED_STAGES[2]
SMALL = StageSpec(2, (1.5, 1.5, 1.5), (32, 48, 64))


def hwd(shape_dhw: list[int]) -> tuple[int, int, int]:
    return shape_dhw[1], shape_dhw[2], shape_dhw[0]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_published_number_is_met_exactly(index: int) -> None:
    case, expect = CASES[index]["case"], CASES[index]["expect"]
    made = plan(hwd(case["shape_dhw"]), case["spacing_hwd"], case["classes"], PUBLISHED_STAGES[int(case["stage"])])
    assert list(made.spacing) == expect["spacing"]
    assert list(made.target_spacing) == expect["target_spacing"]
    assert list(made.shape) == expect["current_shape"]
    assert list(made.padding) == expect["padding"]
    assert [list(tile) for tile in made.tiles] == expect["tiles"]
    assert made.refinement_iterations == expect["num_iterations"]


@given(
    st.tuples(*[st.integers(1, 300)] * 3),
    st.tuples(*[st.floats(0.2, 8)] * 3),
    st.sets(st.sampled_from(["CT_Liver", "US_Thyroid", "PET_Lesion", "Microscopy_Endolysosomes"]), min_size=1),
    st.sampled_from([FIRST, SECOND, SMALL, replace(SMALL, stage=1)]),
)
@settings(max_examples=150, deadline=None)
def test_tiles_cover_the_padded_grid_and_padding_comes_last(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], classes: set[str], stage: StageSpec
) -> None:
    made = plan(shape, spacing, classes, stage)
    assert made.original_shape == shape
    for axis in range(3):
        assert made.resampled_shape[axis] >= 1
        assert made.shape[axis] == made.resampled_shape[axis] + made.padding[axis] >= made.patch[axis]
        spans = sorted({tile[2 * axis : 2 * axis + 2] for tile in made.tiles})
        assert spans[0][0] == 0
        assert spans[-1][1] == made.shape[axis]
        assert all(stop - start == made.patch[axis] for start, stop in spans)
        assert all(second[0] <= first[1] for first, second in pairwise(spans))
    assert plan(shape, spacing, classes, stage) == made


def test_a_model_has_its_own_patch() -> None:
    own = plan((200, 200, 200), (1.5, 1.5, 1.5), ["CT_Liver", "CT_Spleen"], SMALL)
    assert own.patch == SMALL.patch_hwd


def test_a_class_listed_twice_is_still_alone() -> None:
    assert plan((150, 150, 90), (2, 2, 2), ["CT_Liver"] * 2, SECOND) == plan(
        (150, 150, 90), (2, 2, 2), ["CT_Liver"], SECOND
    )


def test_without_magnification_a_class_is_resampled_as_in_a_list() -> None:
    arguments = ((150, 150, 90), (2.0, 2.0, 2.0))
    together = plan(*arguments, ["CT_Liver", "CT_Spleen"], SECOND)
    assert plan(*arguments, ["CT_Liver"], SECOND, magnify_single=False) == together
    assert plan(*arguments, ["CT_Liver"], SECOND) != together


def test_a_class_nobody_knows_follows_the_general_rules() -> None:
    arguments = ((150, 150, 90), (2.0, 2.0, 2.0))
    assert plan(*arguments, ["CT_Liver"], FIRST) == plan(*arguments, ["CT_Something new"], FIRST)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, float("nan")), (float("inf"), 1, 1)])
def test_a_spacing_that_is_none_is_refused(spacing: tuple[float, float, float]) -> None:
    with pytest.raises(InputError, match="spacing"):
        plan((10, 10, 10), spacing, ["CT_Liver"], FIRST)


def test_a_volume_without_voxels_is_refused() -> None:
    with pytest.raises(InputError, match="voxels"):
        plan((10, 0, 10), (1, 1, 1), ["CT_Liver"], FIRST)


@given(
    shape=st.tuples(*[st.integers(1, 400)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 12.0)] * 3),
    classes=st.sampled_from((["CT_Liver"], ["CT_Liver", "CT_Spleen"], ["MRI_Brain"])),
)
@settings(max_examples=60, deadline=None)
def test_plain_resampling_keeps_true_millimetres_whatever_the_size_and_the_classes(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], classes: list[str]
) -> None:
    spec = StageSpec(1, (6.0, 6.0, 8.0), (64, 64, 32), "plain")
    made = plan(shape, spacing, classes, spec)
    assert made.target_spacing == spec.spacing_hwd
    for size, before, after, target in zip(shape, spacing, made.resampled_shape, spec.spacing_hwd, strict=True):
        assert after >= 1  # of a single thin slice too
        assert abs(after - max(1.0, size * before / target)) <= 0.51
    assert all(size >= patch for size, patch in zip(made.shape, spec.patch_hwd, strict=True))
    assert made.separate_axis is None


@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e-6])
def test_relative_resampling_counts_in_voxels_of_the_finest_axis_whatever_the_unit(unit: float) -> None:
    spec = StageSpec(1, (2.0, 2.0, 2.0), (16, 16, 16), "relative")
    made = plan((100, 100, 50), (0.13 * unit, 0.13 * unit, 0.26 * unit), ["Microscopy_Nuclei"], spec)
    assert made.resampled_shape == (50, 50, 50)


def test_published_resampling_takes_submillimetre_voxels_for_a_millimetre_and_plain_does_not() -> None:
    spec = StageSpec(1, (6.0, 6.0, 8.0), (64, 64, 32))
    shape, spacing = (512, 512, 300), (0.7, 0.7, 1.0)
    published = plan(shape, spacing, ["CT_Liver", "CT_Spleen"], spec)
    plain = plan(shape, spacing, ["CT_Liver", "CT_Spleen"], replace(spec, resampling="plain"))
    assert plain.resampled_shape[0] == 60  # 358.4 mm by 6 mm
    assert published.resampled_shape[0] > 60
