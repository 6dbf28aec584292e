"""The brush in the slice views: a ball that follows the mouse while its left button is down."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import numpy as np

from MedalSLib.errors import MedalSError
from MedalSLib.panel.workspace import Workspace
from MedalSLib.slicer.volumes import gridOf
from MedalSLib.volume.ball import CLICK_MM, ball
from MedalSLib.volume.mask import BoxMask

Tool = Literal["", "paint", "erase"]
_PRIORITY = 10.0
"""Above that of Slicer's own interactor style, which would move the window's level with the same button."""


class Brush:
    """Paints in the chosen segment.

    Args:
        workspace: Paints.
        mayPaint: Whether anything may be painted now.
        finished: Called after each stroke.
        failed: Called with what is wrong, if nothing could be painted.

    Attributes:
        tool: What the left button does; "" for what it does in Slicer.
        radiusMm: Of the ball.
    """

    def __init__(
        self,
        workspace: Workspace,
        mayPaint: Callable[[], bool],
        finished: Callable[[], None],
        failed: Callable[[MedalSError], None],
    ) -> None:
        self._workspace = workspace
        self._mayPaint = mayPaint
        self._finished = finished
        self._failed = failed
        self._last: np.ndarray | None = None
        self.tool: Tool = ""
        self.radiusMm = CLICK_MM

    def watch(self, views: Iterable[Any]) -> None:
        """Follow the mouse in slice views of trame-slicer."""
        for view in views:
            interactor = view.interactor()
            for event, act in (
                ("LeftButtonPressEvent", self._press),
                ("MouseMoveEvent", self._move),
                ("LeftButtonReleaseEvent", self._release),
            ):
                tags: list[int] = []
                tags.append(interactor.AddObserver(event, partial(self._event, view, act, tags), _PRIORITY))

    def _event(self, view: Any, act: Callable[[np.ndarray], bool], tags: list[int], caller: Any, _event: str) -> None:
        x, y = caller.GetEventPosition()
        place = view.get_view_node().GetXYToRAS().MultiplyPoint((x, y, 0, 1))
        try:
            taken = act(np.array(place[:3]))
        except MedalSError as error:
            self._last, taken = None, True
            self._failed(error)
        if taken:
            caller.GetCommand(tags[0]).SetAbortFlag(1)

    def _press(self, place: np.ndarray) -> bool:
        if not self.tool or not self._mayPaint():
            return False
        self._paint(place, begins=True)
        return True

    def _move(self, place: np.ndarray) -> bool:
        if self._last is None:
            return False
        self._paint(place, begins=False)
        return True

    def _release(self, _place: np.ndarray) -> bool:
        if self._last is None:
            return False
        self._last = None
        self._finished()
        return True

    def _paint(self, place: np.ndarray, begins: bool) -> None:
        """Paint from the last place to this one, without gaps."""
        start = place if self._last is None else self._last
        grid = gridOf(self._workspace.state.volume)
        steps = max(1, int(np.ceil(2 * np.linalg.norm(place - start) / self.radiusMm)))
        places = [start + (place - start) * step / steps for step in range(0 if begins else 1, steps + 1)]
        mask = BoxMask.empty(grid.shape_kji)
        for one in {tuple(np.rint(grid.ras_to_index(one)).astype(int).tolist()) for one in places}:
            voxel = one[::-1]
            if all(0 <= index < size for index, size in zip(voxel, grid.shape_kji, strict=True)):
                mask = mask | ball(voxel, self.radiusMm, grid.spacing_ijk[::-1], grid.shape_kji)
        if not mask.is_empty or begins:
            self._workspace.paint(mask, self.tool == "erase", begins)
        self._last = place
