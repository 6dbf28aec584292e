"""Left and right in words: what a text must say after its image was mirrored across the sagittal plane."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

SAGITTAL_AXIS_HWD = 1
"""Axis W of (H, W, D) = (y, x, z): x runs from the patient's right to the left."""

_PAIRS = (("left", "right"), ("lt", "rt"), ("sinistral", "dextral"), ("sinister", "dexter"), ("sinistra", "dextra"))
_OTHER = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_WORD = re.compile(rf"(?<![^\W_])(?:{'|'.join(_OTHER)})(?![^\W_])", re.IGNORECASE)
_LETTER_BEFORE = re.compile(r"(?<![\w.])([LR])(?=\.?[ _])")
_LETTER_AFTER = re.compile(r"(?<=[_ ])([LR])(?![\w.])")


def swap_sides(text: str) -> str:
    """Return a text with left and right exchanged, in the same capitals ("Left kidney" -> "Right kidney").

    Also "lt"/"rt", "kidney_left", "L kidney" and "kidney_R".  Spinal levels such as "L3" are not sides.
    """
    swapped = _WORD.sub(lambda found: _cased(_OTHER[found[0].lower()], found[0]), text)
    for letter in (_LETTER_BEFORE, _LETTER_AFTER):
        swapped = letter.sub(lambda found: "R" if found[0] == "L" else "L", swapped)
    return swapped


def has_side(text: str) -> bool:
    """Say whether a text speaks of a side."""
    return swap_sides(text) != text


def _cased(word: str, like: str) -> str:
    if like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word


_NO_COUNTERPART = re.compile(
    r"\b(?:atri\w*|appendage|coronary|myocardi\w*|heart|cardiac|middle lobe|lingula\w*)\b|(?<!lateral )\bventric\w*",
    re.IGNORECASE,
)
"""Sided names whose mirror image is not the other side's structure: a mirrored left ventricle is no right ventricle."""


def mirrored_texts(texts: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
    """Return the texts of each label, its name first, in an image that was mirrored across the sagittal plane.

    Left out are labels whose mirror image has no name (heart chambers, the middle lobe), and those texts of a sided
    label that do not say the side in words, such as "RLL", because their letters cannot be exchanged safely.
    """
    result = {}
    for label, lines in texts.items():
        if not has_side(lines[0]):
            result[label] = tuple(swap_sides(line) for line in lines)
        elif not _NO_COUNTERPART.search(lines[0]):
            result[label] = tuple(swap_sides(line) for line in lines if has_side(line))
    return result
