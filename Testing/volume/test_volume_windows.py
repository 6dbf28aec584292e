"""Raw intensities become 0..255 by the window of the anatomy, or by percentiles."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.errors import InputError
from MedalSLib.vocabulary import structure, structures
from MedalSLib.volume.windows import (
    AS_IS,
    BONE,
    BRAIN,
    LUNG,
    PERCENTILE,
    SOFT_TISSUE,
    Window,
    apply_window,
    group_by_window,
    parse_window,
)

LIVER, SPLEEN, LOBE, VERTEBRA, HEAD = (
    structure(f"CT_{name}") for name in ("Liver", "Spleen", "Lung upper lobe left", "Vertebrae L1", "Brain")
)


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [(SOFT_TISSUE, -160, 240), (LUNG, -910, 590), (BONE, -500, 1300), (BRAIN, 0, 80)],
)
def test_a_ct_window_ends_at_its_bounds(window: Window, low: float, high: float) -> None:
    image = np.array([low - 100, low, (low + high) / 2, high, high + 100], dtype=np.int16)
    np.testing.assert_allclose(apply_window(image, window), [0, 0, 127.5, 255, 255], atol=1e-3)
    assert apply_window(image, window).dtype == np.float32


def test_bytes_are_rounded_down() -> None:
    image = np.array([[[-160, 40, 239.9, 240]]])
    np.testing.assert_array_equal(apply_window(image, SOFT_TISSUE, "uint8").ravel(), [0, 127, 254, 255])


def test_percentiles_are_of_the_non_zero_voxels_only() -> None:
    image = np.zeros((10, 10, 20))
    image.ravel()[:1001] = np.arange(1000, 2001)
    expected_low, expected_high = np.percentile(np.arange(1000, 2001), (0.5, 99.5))
    scaled = apply_window(image, PERCENTILE)
    assert scaled.min() == 0 and scaled.max() == 255
    middle = (expected_low + expected_high) / 2
    assert scaled.ravel()[int(middle) - 1000] == pytest.approx(127.5, abs=0.2)
    assert scaled.ravel()[1001:].max() == 0


def test_percentiles_of_a_two_valued_image_keep_both_values_apart() -> None:
    image = np.zeros((4, 4, 4))
    image[0, 0, 0] = 7
    assert apply_window(image, PERCENTILE).max() == 255
    assert apply_window(np.zeros((2, 2, 2)), PERCENTILE).max() == 0


def test_an_image_of_bytes_passes_unchanged_on_request_only() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.testing.assert_array_equal(apply_window(image, AS_IS), image)
    with pytest.raises(InputError, match="-5 to 300"):
        apply_window(np.array([-5, 300]), AS_IS)


def test_the_input_is_not_changed() -> None:
    image = np.linspace(-1000, 1000, 64, dtype=np.float32).reshape(4, 4, 4)
    before = image.copy()
    apply_window(image, LUNG)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("40/400", SOFT_TISSUE),
        (" 40 / 400 ", SOFT_TISSUE),
        ("-160/1500", LUNG),
        ("L40 W400", SOFT_TISSUE),
        ("W:1500 L:-160", LUNG),
        ("width 80, level 40", BRAIN),
        ("Soft Tissue", SOFT_TISSUE),
        ("soft_tissue", SOFT_TISSUE),
        ("percentile", PERCENTILE),
        ("as-is", AS_IS),
        ("50/350", Window("custom", 50, 350)),
        ("0.5/1.5", Window("custom", 0.5, 1.5)),
    ],
)
def test_windows_are_read_as_users_write_them(text: str, window: Window) -> None:
    assert parse_window(text) == window


@pytest.mark.parametrize("window", [SOFT_TISSUE, LUNG, PERCENTILE, AS_IS, Window("custom", -0.5, 3.25)])
def test_what_is_shown_can_be_typed(window: Window) -> None:
    assert parse_window(str(window)) == window


@pytest.mark.parametrize("text", ["", "liver", "40", "40/400/3", "L40 L400", "nan/3", "40/", "soft tissue lung"])
def test_what_is_no_window_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(InputError, match="not an intensity window") as caught:
        parse_window(text)
    assert "soft tissue" in caught.value.remedy


def test_width_and_level_swapped_is_pointed_out() -> None:
    with pytest.raises(InputError, match=r"-160/1500"):
        parse_window("1500/-160")


def test_structures_are_grouped_in_the_users_order() -> None:
    groups = group_by_window([LOBE, LIVER, VERTEBRA, SPLEEN, HEAD])
    assert list(groups) == [LUNG, SOFT_TISSUE, BONE, BRAIN]
    assert [item.name for item in groups[SOFT_TISSUE]] == ["Liver", "Spleen"]


def test_other_modalities_use_percentiles() -> None:
    assert list(group_by_window(structures("MRI") + structures("PET"))) == [PERCENTILE]


def test_overrides_replace_a_structures_own_window() -> None:
    groups = group_by_window([LOBE, LIVER], {LOBE.name: "40/400"})
    assert list(groups) == [SOFT_TISSUE] and len(groups[SOFT_TISSUE]) == 2
    assert list(group_by_window([LOBE, LIVER], {"*": "bone", "Liver": LUNG})) == [BONE, LUNG]
    with pytest.raises(InputError):
        group_by_window([LOBE], {LOBE.name: "wrong"})
