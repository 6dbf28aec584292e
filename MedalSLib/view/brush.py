"""The brush in the slice views, a ball that follows the mouse while its left button is down, and the lasso."""

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
from MedalSLib.volume.polygon import polygon

Tool = Literal["", "paint", "erase", "lasso"]
_PRIORITY = 10.0
"""Above that of Slicer's own interactor style, which would move the window's level with the same button."""


class Brush:
    """Paints in the chosen segment.

    Args:
        workspace: Paints.
        mayPaint: Whether anything may be painted now.
        finished: Called after each stroke, whether it painted or not.
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
        self._places: list[np.ndarray] = []
        self.tool: Tool = ""
        self.radiusMm = CLICK_MM

    def watch(self, views: Iterable[Any], working: Callable[[Any], None]) -> None:
        """Follow the mouse in slice views of trame-slicer.

        Args:
            views: The views.
            working: Called with the view before it changes.
        """
        self._working = working
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
        if self._places or (self.tool and act == self._press):
            self._working(view)
        try:
            taken = act(np.array(place[:3]))
        except MedalSError as error:
            self._places, taken = [], True
            self._failed(error)
        if taken:
            caller.GetCommand(tags[0]).SetAbortFlag(1)
        if act == self._release:
            self._finished()
            view.schedule_render()  # what the page drew meanwhile gives way to a picture that follows the count

    def _press(self, place: np.ndarray) -> bool:
        if not self.tool or not self._mayPaint():
            return False
        self._places = [place]
        if self.tool != "lasso":
            self._paint(self._balls(place, place), begins=True)
        return True

    def _move(self, place: np.ndarray) -> bool:
        if not self._places:
            return False
        if self.tool != "lasso":
            self._paint(self._balls(self._places.pop(), place), begins=False)
        self._places.append(place)
        return True

    def _release(self, _place: np.ndarray) -> bool:
        places, self._places = self._places, []
        if self.tool == "lasso" and len(places) > 2:
            grid = gridOf(self._workspace.state.volume)
            corners = np.array([grid.ras_to_index(one)[::-1] for one in places])
            self._paint(polygon(corners, grid.shape_kji), begins=True)
        return bool(places)

    def _balls(self, start: np.ndarray, end: np.ndarray) -> BoxMask:
        """Balls from one place to another, without gaps."""
        grid = gridOf(self._workspace.state.volume)
        steps = max(1, int(np.ceil(2 * np.linalg.norm(end - start) / self.radiusMm)))
        places = [start + (end - start) * step / steps for step in range(steps + 1)]
        mask = BoxMask.empty(grid.shape_kji)
        for one in {tuple(np.rint(grid.ras_to_index(one)).astype(int).tolist()) for one in places}:
            voxel = one[::-1]
            if all(0 <= index < size for index, size in zip(voxel, grid.shape_kji, strict=True)):
                mask = mask | ball(voxel, self.radiusMm, grid.spacing_ijk[::-1], grid.shape_kji)
        return mask

    def _paint(self, mask: BoxMask, begins: bool) -> None:
        if not mask.is_empty or begins:
            self._workspace.paint(mask, self.tool == "erase", begins)
