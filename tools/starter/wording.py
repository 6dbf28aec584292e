"""Texts for the starter's structures: mostly the canonical name, as inference gives it, else how people write it."""

from __future__ import annotations

import numpy as np

_SIDES = {"Left": ("left", "lt", "l"), "Right": ("right", "rt", "r")}
_CANONICAL = 0.6


def draw_text(name: str, rng: np.random.Generator) -> str:
    """Return a text for a structure by its published name."""
    return name if rng.random() < _CANONICAL else _reword(name, rng)


def _reword(name: str, rng: np.random.Generator) -> str:
    """Return a name with its side anywhere, in another case or with an article."""
    words = name.split()
    if words[0] in _SIDES:
        side = str(rng.choice(_SIDES[words[0]]))
        rest = " ".join(words[1:])
        name = str(rng.choice([f"{side} {rest}", f"{rest} {side}", f"{rest}_{side}"]))
    style = rng.integers(4)
    if style == 0:
        return name.lower()
    if style == 1:
        return f"the {name.lower()}"
    if style == 2:
        return f"segment the {name.lower()}"
    return name.upper()
