"""Breaks a row of chips into lines, as words are broken into lines."""

from __future__ import annotations

from collections.abc import Sequence


def lines(widths: Sequence[int], available: int, spacing: int) -> list[list[int]]:
    """Return the indices of the items of each line; an item wider than the line gets one of its own.

    Args:
        widths: Width of each item.
        available: Width of a line.
        spacing: Space between items.
    """
    found: list[list[int]] = []
    used = 0
    for index, width in enumerate(widths):
        if found and used + spacing + width <= available:
            found[-1].append(index)
            used += spacing + width
        else:
            found.append([index])
            used = width
    return found
