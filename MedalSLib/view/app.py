"""Puts scene, presenters and page together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trame.app import get_server

from MedalSLib.panel.engines import Factory
from MedalSLib.view import page
from MedalSLib.view.desk import Desk
from MedalSLib.view.event_loop import pump
from MedalSLib.view.scene import ViewScene
from MedalSLib.view.server import serve
from MedalSLib.view.views import Views
from MedalSLib.volume.image import Image


def view(
    image: Image,
    keep_s: float,
    on_ready: Callable[[str], None],
    choose: Callable[[Desk], None] = lambda _desk: None,
    factories: Mapping[str, Factory] | None = None,
) -> None:
    """Serve one image to one person, at a free port of the loopback.

    Args:
        image: The image.
        keep_s: Seconds after which it ends when the page was closed; 0 for never.
        on_ready: Called with the address.
        choose: Chooses engine and modality before anything is shown.
        factories: How engines are opened, by kind; None for the real ones.
    """
    server = get_server(client_type="vue3")
    scene = ViewScene(image, pump)
    desk = Desk(server.state, scene, factories)
    choose(desk)
    views = Views(server, scene.app.scene, scene.app.view_manager)
    scene.view()
    desk.brush.watch(views.slices, views.work_in)
    page.build(server, desk, scene, views)
    try:
        serve(server, keep_s, on_ready)
    finally:
        desk.close()
