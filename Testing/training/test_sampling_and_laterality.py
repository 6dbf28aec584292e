"""How samples are drawn, and what mirroring does to left and right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from MedalSLib.errors import InputError
from MedalSLib.training.augmentation import AugmentationSettings, Augmenter, window_for
from MedalSLib.training.case_store import CaseRecord
from MedalSLib.training.laterality import mirrored_texts, swap_sides
from MedalSLib.training.recipe import load_recipe
from MedalSLib.training.sampling import (
    SamplingSettings,
    case_weights,
    choose_labels,
    draw_corner,
    draw_texts,
)

PATCH = (32, 32, 32)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("Left kidney", "Right kidney"),
        ("CT of the right lung's left border", "CT of the left lung's right border"),
        ("kidney_left", "kidney_right"),
        ("LT adrenal gland", "RT adrenal gland"),
        ("L kidney", "R kidney"),
        ("Lumbar vertebra L3", "Lumbar vertebra L3"),
        ("upright liver, brightness", "upright liver, brightness"),
    ],
)
def test_sides_are_exchanged_in_words(text: str, mirrored: str) -> None:
    assert swap_sides(text) == mirrored
    assert swap_sides(mirrored) == text


def test_names_without_a_mirror_image_are_not_asked_for_in_mirrored_samples() -> None:
    texts = {
        1: ("Left kidney", "LK", "Left kidney in CT"),
        2: ("Liver", "Liver in CT"),
        3: ("Left heart ventricle",),
        4: ("Right lung middle lobe",),
        5: ("Right lateral ventricle of the brain",),
    }
    assert mirrored_texts(texts) == {
        1: ("Right kidney", "Right kidney in CT"),
        2: ("Liver", "Liver in CT"),
        5: ("Left lateral ventricle of the brain",),
    }


def test_the_published_recipes_draw_the_data_sets_as_published() -> None:
    table = SamplingSettings().sampling_weight
    assert len(table) == 69 and sum(weight != 1 for weight in table.values()) == 59
    for name in ("published_stage1", "published_stage2"):
        recipe = load_recipe(name)
        assert recipe.sampling.sampling_weight == table
        assert (recipe.optimizer.clip_norm, recipe.optimizer.precision) == (None, "float16")
        assert (recipe.augmentation.labels, recipe.augmentation.mirror) == ("linear", "published")
        # Mirroring is the only default that is not the published one.
        assert replace(recipe.augmentation, mirror="swap_sides") == AugmentationSettings()

    def share(weights: dict[str, float] | None) -> float:
        settings = SamplingSettings() if weights is None else SamplingSettings(sampling_weight=weights)
        cases = [case(name, 1, PATCH) for name in ("autoPET", "CT_AMOS", "mine")]
        return float(case_weights(cases, PATCH, settings)[0])

    assert share(None) == pytest.approx(5.0 / (5.0 + 1.5 + 1.0))
    assert share({}) == pytest.approx(1 / 3)
    assert share({"mine": 0.0}) == pytest.approx(1 / 2)
    with pytest.raises(InputError, match="mine"):
        SamplingSettings(sampling_weight={"mine": -1.0})


def sided_window(size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Bright on the patient's left (large w), dark on the right; labels 1 and 2 say so."""
    image = torch.full(size, 100.0)
    labels = torch.zeros(size, dtype=torch.int16)
    third = size[1] // 3
    image[:, :third], labels[:, :third] = 20.0, 2
    image[:, -third:], labels[:, -third:] = 200.0, 1
    return image, labels


@pytest.mark.parametrize(("mirror", "truthful"), [("swap_sides", True), ("published", False)])
def test_after_mirroring_a_text_still_says_where_the_structure_lies_unless_published(
    mirror: str, truthful: bool
) -> None:
    settings = AugmentationSettings(mirror=mirror, rotation_share=0, scale_share=0)
    augmenter = Augmenter(PATCH, settings)
    rng = np.random.default_rng(0)
    wrong = mirrored = 0
    for _ in range(60):
        sample = augmenter(*sided_window(augmenter.window_hwd), rng)
        for label, name in ((1, "left organ"), (2, "right organ")):
            said = swap_sides(name) if sample.swap_sides else name
            on_left = torch.nonzero(sample.labels == label)[:, 1].float().mean() > PATCH[1] / 2
            wrong += said.startswith("left") != bool(on_left)
        mirrored += bool((torch.nonzero(sample.labels == 1)[:, 1].float().mean() < PATCH[1] / 2).item())
    assert 15 < mirrored < 45
    assert (wrong == 0) == truthful


def test_augmentation_depends_on_its_generator_alone_and_leaves_the_global_ones_as_they_were() -> None:
    augmenter = Augmenter(PATCH, AugmentationSettings(rotation_share=1, scale_share=1, noise_share=1, gamma_share=1))
    window = sided_window(augmenter.window_hwd)
    np.random.seed(3)
    torch.manual_seed(3)
    expected = (np.random.random(), torch.rand(1).item())
    np.random.seed(3)
    torch.manual_seed(3)
    first = augmenter(*window, np.random.default_rng(1))
    assert (np.random.random(), torch.rand(1).item()) == expected
    second = augmenter(*window, np.random.default_rng(1))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.labels, second.labels)
    assert first.image.shape == PATCH
    other = augmenter(*window, np.random.default_rng(2))
    assert not torch.equal(first.image, other.image)


def test_switched_off_augmentation_returns_the_window_as_it_is() -> None:
    settings = AugmentationSettings(enabled=False)
    assert window_for(PATCH, settings) == PATCH
    image, labels = sided_window(PATCH)
    sample = Augmenter(PATCH, settings)(image, labels, np.random.default_rng(0))
    assert torch.equal(sample.image, image)
    assert torch.equal(sample.labels, labels)


def test_all_present_labels_are_asked_for_and_a_third_as_many_absent_ones() -> None:
    rng = np.random.default_rng(0)
    labels = list(range(1, 31))
    chosen = choose_labels(labels, [3, 5, 7, 9, 11, 13, 15, 17, 19], SamplingSettings(), rng)
    assert set(chosen) >= {3, 5, 7, 9, 11, 13, 15, 17, 19}
    assert len(chosen) == 9 + 2
    assert len(choose_labels(labels, labels, SamplingSettings(max_queries=8), rng)) == 8
    assert len(choose_labels(labels, [], SamplingSettings(max_queries=8), rng)) == 8
    assert sorted(choose_labels([1, 2], [1, 2], SamplingSettings(), rng)) == [1, 2]


def test_spare_queries_go_to_further_texts_and_never_the_same_text_twice() -> None:
    texts = {1: ["a", "b", "c"], 2: ["d"]}
    drawn = draw_texts(texts, [1, 2], 32, np.random.default_rng(0))
    assert sorted(drawn) == [(1, "a"), (1, "b"), (1, "c"), (2, "d")]
    two = draw_texts(texts, [1, 2], 2, np.random.default_rng(0))
    assert {label for label, _ in two} == {1, 2}


def case(dataset: str, labels: int, region_hwd: tuple[int, int, int]) -> CaseRecord:
    """A record with what the weight of a case depends on."""
    annotated = tuple(range(1, labels + 1))
    return CaseRecord("c", dataset, "CT", "cases/c", region_hwd, (1, 1, 1), region_hwd, {1: 1}, annotated, "", "")


def test_datasets_weigh_the_root_of_their_size_and_large_cases_count_more_often() -> None:
    settings = SamplingSettings(max_queries=4)
    small = [case("small", 2, (10, 10, 10))]
    large = [case("large", 2, (10, 10, 10))] * 16
    weights = case_weights(small + large, PATCH, settings)
    assert weights.sum() == pytest.approx(1)
    assert weights[1:].sum() / weights[0] == pytest.approx(4)
    wide, many = case("small", 2, (64, 48, 10)), case("small", 12, (10, 10, 10))
    ratios = case_weights([small[0], wide, many], PATCH, settings)
    assert ratios[1] / ratios[0] == pytest.approx(3)
    assert ratios[2] / ratios[0] == pytest.approx(3)
    equal = case_weights([small[0], wide, many], PATCH, SamplingSettings(repeats=False))
    assert equal == pytest.approx([1 / 3] * 3)


def test_foreground_windows_contain_their_voxel_and_random_ones_stay_near_the_case() -> None:
    shape, window = (100, 80, 20), (40, 40, 40)
    voxel = np.array([[97, 3, 10]], np.int32)
    rng = np.random.default_rng(0)
    for _ in range(50):
        corner = draw_corner(shape, window, PATCH, {5: voxel}, rng, 1.0)
        assert all(0 <= v - c < w for v, c, w in zip(voxel[0], corner, window, strict=True))
        corner = draw_corner(shape, window, PATCH, {}, rng, 1.0)
        assert all(-w < c < s for c, s, w in zip(corner, shape, window, strict=True))
        assert corner[2] <= 0
        assert corner[2] + window[2] >= shape[2]
