"""The interactive inputs of the challenge: a box, clicks and a previous prediction of each target, as paint on masks.

A box is what was drawn around a target in its middle slice, with the first and last slice; clicks are [z, y, x], as the
challenge's evaluation makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.ball import CLICK_MM, ball
from MedalSLib.volume.box import Box, slices
from MedalSLib.volume.mask import BoxMask

_REMEDY = "Give boxes, clicks and prev_pred as the challenge's evaluation writes them."
_INSIDE = 0.35
"""Semi-axes of the ellipsoid in a box that is taken for the target, as a share of the box's edges."""
_Point = tuple[int, int, int]


@dataclass(frozen=True)
class TargetPrompts:
    """What was drawn for one target.

    Attributes:
        box: Slices, rows and columns (half-open); None without a box.
        middle: The slice in which the box was drawn.
        foreground: Clicks (z, y, x) inside the target.
        background: Clicks outside of it.
    """

    box: Box | None = None
    middle: int = 0
    foreground: tuple[_Point, ...] = ()
    background: tuple[_Point, ...] = ()


@dataclass(frozen=True)
class Painted:
    """A target's mask as it is to be corrected, axes (D, H, W).

    Attributes:
        mask: What the target is, with the paint.
        locked: All that was painted in or erased.
        painted: What of it is new, and is carried over to where nobody painted.
    """

    mask: BoxMask
    locked: BoxMask
    painted: BoxMask


def target_prompts(boxes: Any, clicks: Any, shape: Sequence[int], path: Path) -> dict[int, TargetPrompts]:
    """Return the prompts of each target, numbered from 1 as the challenge does.

    Args:
        boxes: Plain value of `boxes`: a dictionary for each target; None without any.
        clicks: Plain value of `clicks`: `{"fg": [[z, y, x], ...], "bg": [...]}` for each target; None without any.
        shape: (D, H, W) of the image.
        path: The file, for messages.

    Raises:
        InputError: They are not built so, or lie outside of the image.
    """
    drawn, clicked = boxes or [], clicks or []
    if not isinstance(drawn, list) or not isinstance(clicked, list):
        raise InputError(f"boxes or clicks in {path} are no lists of targets.", _REMEDY)
    found = {}
    for at in range(max(len(drawn), len(clicked))):
        try:
            box, middle = _box(drawn[at], shape) if at < len(drawn) else (None, 0)
            points = clicked[at] if at < len(clicked) else {}
            foreground, background = (_points(points.get(kind) or [], shape) for kind in ("fg", "bg"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"The prompts of target {at + 1} in {path} are not understood.", _REMEDY) from error
        found[at + 1] = TargetPrompts(box, middle, foreground, background)
    return found


def painted_target(prompts: TargetPrompts, previous: BoxMask, spacing: Sequence[float]) -> Painted:
    """Return a target's mask with its clicks, or its box where there is no mask yet, as paint.

    Args:
        prompts: What was drawn.
        previous: The previous prediction (D, H, W); empty if there is none.
        spacing: In mm, along D, H, W.
    """
    shape = previous.shape
    mask, locked, painted = previous.array(), np.zeros(shape, bool), np.zeros(shape, bool)
    if previous.is_empty and prompts.box is not None:
        mask = _inside(prompts.box, shape)
        locked |= mask | _around(prompts.box, prompts.middle, shape)
        painted |= locked
    for points, value in ((prompts.foreground, True), (prompts.background, False)):
        for point in points:
            clicked = ball(point, CLICK_MM, spacing, shape).array()
            locked |= clicked
            if mask[point] != value or previous.is_empty:
                painted |= clicked
            mask[clicked] = value
    return Painted(BoxMask.of(mask), BoxMask.of(locked), BoxMask.of(painted))


def _box(entry: Mapping[str, Any], shape: Sequence[int]) -> tuple[Box, int]:
    bounds = []
    for axis, size in zip(("z", "z_mid_y", "z_mid_x"), shape, strict=True):
        low, high = (min(max(int(entry[f"{axis}_{end}"]), 0), size - 1) for end in ("min", "max"))
        if low > high:
            raise ValueError
        bounds.append((low, high + 1))
    first, second, third = bounds
    middle = min(max(int(entry.get("z_mid", (first[0] + first[1]) // 2)), first[0]), first[1] - 1)
    return (first, second, third), middle


def _points(entries: Sequence[Sequence[float]], shape: Sequence[int]) -> tuple[_Point, ...]:
    points = []
    for z, y, x in entries:
        point = int(z), int(y), int(x)
        if not all(0 <= value < size for value, size in zip(point, shape, strict=True)):
            raise ValueError
        points.append(point)
    return tuple(points)


def _inside(box: Box, shape: Sequence[int]) -> np.ndarray:
    """Return the ellipsoid in the middle of a box."""
    mask = np.zeros(shape, bool)
    squares = []
    for start, stop in box:
        place = np.arange(start, stop) - (start + stop - 1) / 2
        squares.append((place / max(0.5, _INSIDE * (stop - start))) ** 2)
    z, y, x = squares
    mask[slices(box)] = z[:, None, None] + y[:, None] + x <= 1
    return mask


def _around(box: Box, middle: int, shape: Sequence[int]) -> np.ndarray:
    """Return what a box says does not belong: around it in its slice, and the slices before and behind it."""
    mask = np.zeros(shape, bool)
    (first, last), *plane = box
    wider = tuple(
        slice(max(0, start - (stop - start) // 4 - 1), min(size, stop + (stop - start) // 4 + 1))
        for (start, stop), size in zip(plane, shape[1:], strict=True)
    )
    mask[middle, wider[0], wider[1]] = True
    mask[middle, slice(*plane[0]), slice(*plane[1])] = False
    for beyond in (first - 1, last):
        if 0 <= beyond < shape[0]:
            mask[beyond, wider[0], wider[1]] = True
    return mask
