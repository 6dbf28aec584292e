"""The four views: what they draw when, and what the page draws over them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from trame.widgets import html
from trame_slicer.app.ui import create_vertical_slice_view_gutter_ui
from trame_slicer.core import LayoutManager, ViewManager
from trame_slicer.rca_view import register_rca_factories

_LAYOUT = "Quad View"
_PICTURES = 60.0
"""A second, at most."""
_QUALITY = 90
"""Of the pictures, also while something moves: a worse one first and a better one later costs two drawings."""
_REST = 0.2
"""Seconds without work in a view after which the other views are drawn: two cores cannot draw all of them at once."""


class Views:
    """The views of a scene, in the page of a server.

    Args:
        server: The trame server.
        scene: Slicer's scene.
        manager: Makes the views.

    Attributes:
        layout: Where they lie.
        slices: The slice views.
    """

    def __init__(self, server: Any, scene: Any, manager: ViewManager) -> None:
        self._state = server.state
        self._state.widths = {}
        self._resting: asyncio.TimerHandle | None = None
        self._named: dict[str, Any] = {}
        register_rca_factories(manager, server, self._on_slice, target_fps=_PICTURES, blur_fps=_PICTURES,
                               interactive_quality=_QUALITY)  # fmt: skip
        self.layout = LayoutManager(scene, manager, server)
        self.layout.register_layout_dict(LayoutManager.default_grid_configuration())
        self.layout.set_layout(_LAYOUT)
        self.slices = manager.get_slice_views()
        self._all = [*self.slices, *manager.get_threed_views()]
        for view in self.slices:
            view.render_window().SetMultiSamples(0)  # smooth edges of a surface; an image only takes six times longer
        server.trigger("medals_scroll")(self._scroll)

    def work_in(self, view: Any) -> None:
        """Draw a view at once, and the others when nothing was done in it for a moment."""
        for one in self._all:
            if one.is_render_blocked is (one is view):
                one.set_render_blocked(one is not view)
        if self._resting is not None:
            self._resting.cancel()
        self._resting = asyncio.get_running_loop().call_later(_REST, self._rest)

    def _rest(self) -> None:
        for view in self._all:
            if view.is_render_blocked:
                view.set_render_blocked(False)

    def _scroll(self, name: str, steps: int) -> None:
        view = self._named[name]
        low, high = view.get_slice_range()
        self.work_in(view)
        view.set_slice_value(min(max(view.get_slice_value() + steps * view.get_slice_step(), low), high))

    def _on_slice(self, server: Any, name: str, view: Any) -> None:
        """Put the drawing of a stroke over a slice view, below the slider."""
        html.Canvas(
            classes="stroke",
            style="position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; opacity: 0.5",
            raw_attrs=[f'data-view="{name}"'],
        )
        create_vertical_slice_view_gutter_ui(server, name, view)
        self._named[name] = view
        view.modified.connect(partial(self._show_width, name))

    def _show_width(self, name: str, view: Any) -> None:
        """Tell the page how many mm a view is wide, for the size of the brush."""
        width = view.get_view_node().GetFieldOfView()[0]
        if self._state.widths.get(name) != width:
            self._state.widths = {**self._state.widths, name: width}
