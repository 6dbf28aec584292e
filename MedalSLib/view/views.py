"""The four views: what they draw when, and what the page draws over them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from trame.widgets import html
from trame_slicer.app.ui import create_vertical_view_gutter_ui
from trame_slicer.app.ui.view_gutter import create_slice_buttons
from trame_slicer.core import LayoutManager, ViewManager
from trame_slicer.rca_view import register_rca_factories

_LAYOUT = "Quad View"
_PICTURES = 60.0
"""A second, at most."""
_QUALITY = 90
"""Of the pictures, also while something moves: a worse one first and a better one later costs two drawings."""
_REST = 0.2
"""Seconds without work in a view after which the other views are drawn: two cores cannot draw all of them at once."""
_OF_SLICE = "slice_"
_BOUNDS = {"min": "low", "max": "high", "step": "step", "value": "value"}


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
        server.trigger("medals_slice")(self._show)

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
        shown = self._state[_OF_SLICE + name]
        self._show(name, min(max(shown["value"] + steps * shown["step"], shown["low"]), shown["high"]))

    def _show(self, name: str, place: float) -> None:
        self.work_in(self._named[name])
        self._named[name].set_slice_value(place)

    def _on_slice(self, server: Any, name: str, view: Any) -> None:
        """Put the drawing of a stroke and a slider over a slice view; Vuetify's takes half of the browser's time."""
        html.Canvas(
            classes="stroke",
            style="position: absolute; inset: 0; width: 100%; height: 100%; pointer-events: none; opacity: 0.5",
            raw_attrs=[f'data-view="{name}"'],
        )
        create_vertical_view_gutter_ui(server, name, view, create_slice_buttons)
        shown = _OF_SLICE + name
        html.Input(
            type="range",
            style="position: absolute; bottom: 4px; left: 2%; width: 96%",
            raw_attrs=[f':{bound}="{shown}.{key}"' for bound, key in _BOUNDS.items()]
            + [f"""@input="trigger('medals_slice', ['{name}', +$event.target.value])" """],
        )
        self._named[name] = view
        self._tell(name, view)
        view.modified.connect(partial(self._tell, name))

    def _tell(self, name: str, view: Any) -> None:
        """Tell the page which slice a view shows, and how many mm it is wide, for the size of the brush."""
        low, high = view.get_slice_range()
        shown = {"low": low, "high": high, "step": view.get_slice_step(), "value": view.get_slice_value()}
        self._state[_OF_SLICE + name] = {**shown, "width": view.get_view_node().GetFieldOfView()[0]}
