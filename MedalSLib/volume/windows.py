"""Intensity windows: from raw intensities to the 0..255 that the networks were trained on.

Published training data are 0..255 after a window per anatomy for CT, and after clipping to the 0.5th and 99.5th
percentile of the non-zero voxels for every other modality (reference figures, "Intensity").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.vocabulary.structure import Structure

PERCENTILES = (0.5, 99.5)
_FULL = 255.0
_NUMBER = r"[-+]?\d+(?:\.\d*)?|[-+]?\.\d+"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*[/,]\s*({_NUMBER})\s*")
_LETTERED = re.compile(rf"\s*([lw])[a-z]*\s*[:=]?\s*({_NUMBER})[\s,/]*([lw])[a-z]*\s*[:=]?\s*({_NUMBER})\s*", re.I)


@dataclass(frozen=True)
class Window:
    """A rule that takes raw intensities to 0..255.

    Attributes:
        name: "soft tissue", "lung", "bone", "brain"; "custom" for the user's own numbers; "percentile" or "as is".
        level: Intensity in the middle of the window, None for "percentile" and "as is".
        width: Size of the window in units of intensity, None for "percentile" and "as is".
    """

    name: str
    level: float | None = None
    width: float | None = None

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Intensities that become 0 and 255, None where they depend on the image."""
        if self.level is None or self.width is None:
            return None
        return self.level - self.width / 2, self.level + self.width / 2

    def __str__(self) -> str:
        """Return words for the user that `parse_window` reads back ("soft tissue L40 W400")."""
        if self.level is None or self.width is None:
            return self.name
        numbers = f"L{self.level:g} W{self.width:g}"
        return numbers if self.name == "custom" else f"{self.name} {numbers}"


SOFT_TISSUE = Window("soft tissue", 40, 400)
LUNG = Window("lung", -160, 1500)
BONE = Window("bone", 400, 1800)
BRAIN = Window("brain", 40, 80)
PERCENTILE = Window("percentile")
AS_IS = Window("as is")
WINDOWS: Mapping[str, Window] = {w.name: w for w in (SOFT_TISSUE, LUNG, BONE, BRAIN, PERCENTILE, AS_IS)}


def parse_window(text: str) -> Window:
    """Read a window as a user writes it.

    Args:
        text: A window's name ("lung"), level and width ("40/400"), the same with letters in any order
            ("L40 W400", "width 400 level 40"), or a name with numbers as `str(Window)` writes it.

    Raises:
        InputError: Not a window, or a width that is not positive.
    """
    words = " ".join(text.casefold().replace("_", " ").split())
    if (name := words.replace("-", " ")) in WINDOWS:
        return WINDOWS[name]
    for name in WINDOWS:  # a name before the numbers is for the reader: the numbers count
        if _LETTERED.fullmatch(words.removeprefix(name)):
            words = words.removeprefix(name)
    if match := _PAIR.fullmatch(text):
        level, width = float(match[1]), float(match[2])
    elif (match := _LETTERED.fullmatch(words)) and match[1].casefold() != match[3].casefold():
        first, second = float(match[2]), float(match[4])
        level, width = (first, second) if match[1].casefold() == "l" else (second, first)
    else:
        raise InputError(
            f"'{text}' is not an intensity window.",
            f"Write level/width, such as 40/400, or one of: {', '.join(WINDOWS)}.",
        )
    if width <= 0:
        raise InputError(
            f"The window '{text}' has the width {width:g}, which is not positive.",
            f"Write the level first, then the width: did you mean {width:g}/{level:g}?"
            if level > 0
            else "Write level/width, such as 40/400.",
        )
    return _named(level, width)


def apply_window(array: np.ndarray, window: Window, dtype: Literal["float32", "uint8"] = "float32") -> np.ndarray:
    """Return the intensities as 0..255.

    Args:
        array: Raw intensities of any shape; Hounsfield units for the CT windows.
        window: The rule; "as is" accepts only what lies within 0..255 already.
        dtype: "float32", or "uint8" to round down as the published training data were.

    Raises:
        InputError: "as is" was chosen for intensities outside 0..255.
    """
    if window.name == AS_IS.name:
        if array.dtype != np.uint8 and (array.min() < 0 or array.max() > _FULL):
            raise InputError(
                f"The intensities go from {array.min():g} to {array.max():g}, so they cannot be used as they are.",
                "Choose another window.",
            )
        return array.astype(dtype, copy=False)
    low, high = window.bounds or percentile_bounds(array)
    low32, high32 = np.float32(low), np.float32(high)
    scaled = array.astype(np.float32)
    np.clip(scaled, low32, high32, out=scaled)
    scaled -= low32
    if high32 > low32:
        scaled /= high32 - low32  # dividing first makes the upper bound exactly 255
    scaled *= np.float32(_FULL)
    return scaled.astype(dtype, copy=False)


def percentile_bounds(array: np.ndarray) -> tuple[float, float]:
    """Return the 0.5th and 99.5th percentile of the non-zero voxels, the whole range if those two are equal."""
    present = array[array != 0]
    if present.size == 0:
        return 0.0, 0.0
    low, high = (float(bound) for bound in np.percentile(present, PERCENTILES))
    return (low, high) if high > low else (float(array.min()), float(array.max()))


def resolved(window: Window, array: np.ndarray) -> Window:
    """Return the window with its numbers, so that a part of the image can be shown as the whole would be."""
    if window.bounds is not None or window.name == AS_IS.name:
        return window
    low, high = percentile_bounds(array)
    return Window(window.name, (low + high) / 2, high - low)


def window_for(structure: Structure) -> Window:
    """Return the window of a structure: that of its anatomy in CT, "percentile" in every other modality."""
    return WINDOWS[structure.window]


def group_by_window(
    structures: Iterable[Structure], overrides: Mapping[str, str | Window] | None = None
) -> dict[Window, tuple[Structure, ...]]:
    """Group structures by window, since the network sees one image at a time.

    Args:
        structures: What is wanted, in the user's order.
        overrides: Windows by published name that replace a structure's own; "*" for all the others.

    Returns:
        Structures by window; windows in the order of their first structure, structures in the given order.

    Raises:
        InputError: An override is not a window.
    """
    chosen = {
        name: value if isinstance(value, Window) else parse_window(value) for name, value in (overrides or {}).items()
    }
    groups: dict[Window, list[Structure]] = {}
    for structure in structures:
        window = chosen.get(structure.name) or chosen.get("*") or window_for(structure)
        groups.setdefault(window, []).append(structure)
    return {window: tuple(members) for window, members in groups.items()}


def _named(level: float, width: float) -> Window:
    for window in WINDOWS.values():
        if (window.level, window.width) == (level, width):
            return window
    return Window("custom", level, width)
