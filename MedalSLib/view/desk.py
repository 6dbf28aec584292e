"""Joins the panel's presenters with the state of the page: what is clicked goes to them, what they say is shown."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from trame_server.utils.asynchronous import create_task

from MedalSLib.panel.completion import insert
from MedalSLib.panel.engines import Factory, defaultFactories
from MedalSLib.panel.install import packages
from MedalSLib.panel.install.host import SlicerHost
from MedalSLib.panel.install.system import SystemFacts, gather
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.messages import messageOf
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.workspace import Workspace
from MedalSLib.view.brush import Brush, Tool
from MedalSLib.view.event_loop import pump, run_waiting
from MedalSLib.view.scene import ViewScene

SLICER_VERSION = (5, 11)
"""Whose core this is."""


class Memory:
    """Settings that are kept until the server stops, with the interface of QSettings."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def value(self, key: str, default: str = "") -> str:
        """Return a value."""
        return self._values.get(key, default)

    def setValue(self, key: str, value: str) -> None:  # as QSettings has it
        """Keep a value."""
        self._values[key] = value


class Desk:
    """One person's work on one image.

    Args:
        state: The state of the page.
        scene: The scene with the image.
        factories: How engines are opened, by kind; None for the real ones.

    Attributes:
        model: The panel's presenters.
        brush: The brush of the slice views.
    """

    def __init__(self, state: Any, scene: ViewScene, factories: Mapping[str, Factory] | None = None) -> None:
        self._state = state
        self._scene = scene
        self._selected = ""
        self._showing = False
        self._said = ""
        self.workspace = Workspace(scene, scene.runner.editing.saveState)
        self.settings = Settings(Memory())

        def facts() -> SystemFacts:
            return gather(SLICER_VERSION, packages.names(packages.requirements()), lambda: "")

        self.model = Presenters(
            self.workspace,
            self.settings,
            BackgroundJobs(pump, poll=0.0),
            pump,
            lambda: importlib.import_module("MedalSLib.network.registry"),
            factories or defaultFactories(),
            SlicerHost(pump),
            facts,
        )
        self.brush = Brush(self.workspace, lambda: not self.model.run.busy, self._painted, self._failed)
        run, prompt = self.model.run, self.model.prompt
        for signal in (run.changed, prompt.changed, self.model.spatial.changed, self.model.engines.changed):
            signal.connect(self.later)
        self.model.consent.changed.connect(self.later)
        state.change("prompt")(lambda prompt, **_: self._typed(prompt))
        state.change("diameter")(lambda diameter, **_: setattr(self.brush, "radiusMm", diameter / 2))
        self.watch("window", scene.show)
        self.watch("loaded", self._load)
        state.update(
            {
                "diameter": 2 * self.brush.radiusMm,
                "window": scene.window,
                "loaded": None,
                "completions": [],
                "strokes": 0,
            }
        )
        if not self.model.engines.isRemote:
            self.model.models.refresh()
        self.refresh()
        self.show()

    def watch(self, name: str, function: Callable[[Any], object]) -> None:
        """Call a function with a value of the page when it changed."""
        self._state.change(name)(lambda **values: self.do(lambda: function(values[name])))

    def refresh(self) -> None:
        """Read volume and segments again."""
        self.model.refresh()
        self.later()

    def later(self) -> None:
        """Show what changed once the present work pauses; many changes at once are shown together."""
        if self._showing:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the server has not started: it sends the whole state then
            return
        self._showing = True
        loop.call_soon(self.show)

    def show(self) -> None:
        """Show everything."""
        self._showing = False
        run, prompt = self.model.run, self.model.prompt
        self._choose()
        with self._state as state:
            state.prompt = prompt.text
            state.chips = [{"text": one.text, "state": one.state, "why": one.explanation} for one in prompt.chips]
            state.action, state.blocker, state.busy = run.action, run.blocker, run.busy
            state.canCancel, state.fraction, state.progress = run.canCancel, round(100 * run.fraction), run.progress
            state.message = {
                "text": self._said or run.message.text,
                "level": "error" if self._said else run.message.level,
            }
            state.remarks = list(run.remarks)
            state.replaced = ", ".join(run.replaced)
            state.comparing, state.canReview = run.comparing, run.canReview
            state.tool, state.selected = self.brush.tool, self._selected
            badge = self.model.engines.badge
            state.badge = {"text": badge.text, "detail": badge.detail, "level": badge.level}
            upload = self.model.consent.question
            state.question = "" if upload is None else upload.text
            state.rows = [self._row(row) for row in run.structures]

    def start(self, function: Callable[[], object]) -> None:
        """Do what may wait, such as a run, beside the server."""
        self._said, self._state.completions = "", []
        create_task(run_waiting(lambda: self._guarded(function)))

    def do(self, function: Callable[[], object]) -> None:
        """Do what is done at once, and show what came of it."""
        self._said = ""
        if not self.model.run.busy:
            self._guarded(function)
            self.refresh()

    def take(self, tool: Tool) -> None:
        """Take a brush, or put it down if it is in the hand."""
        self.brush.tool = "" if self.brush.tool == tool else tool
        self.later()

    def select(self, key: str) -> None:
        """Choose the segment to paint in, and bring it into view."""
        self._selected = key
        self._choose()
        self.model.run.show(key)
        self.later()

    def complete(self, text: str) -> None:
        """Put a completion in the place of the name that is typed."""
        typed = self.model.prompt.text
        self.model.prompt.text, _ = insert(typed, len(typed), text)
        self._state.completions = []

    def toggle(self, key: str) -> None:
        """Show a segment, or hide it."""
        row = next((one for one in self.model.spatial.rows if one.segmentID == key), None)
        if row is not None:
            self.model.spatial.makeVisible([key], not row.visible)

    def saved(self, suffix: str) -> bytes:
        """Return the segmentation as a file; empty if it cannot be saved, which is said."""
        found: list[bytes] = []
        self.do(lambda: found.append(self._scene.saved(suffix)))
        return found[0] if found else b""

    def close(self) -> None:
        """Stop, and free everything."""
        self.model.close()
        self._scene.close()

    def _row(self, row: Any) -> dict[str, Any]:
        key = row.segmentIDs[0] if len(row.segmentIDs) == 1 else ""
        color, visible = (row.segment.color, row.segment.visible) if row.segment is not None else ((0.5,) * 3, True)
        return {
            "key": key,
            "name": row.name,
            "volume": row.volume,
            "state": row.state,
            "hint": row.hint,
            "visible": visible,
            "color": "#" + "".join(f"{round(255 * part):02x}" for part in color),
        }

    def _choose(self) -> None:
        """Let the editor have the chosen segment; another one if it is gone."""
        keys = [row.segmentID for row in self.model.spatial.rows]
        if self._selected not in keys:
            self._selected = keys[0] if keys else ""
        node = self._scene.runner.editing.node
        if not self.model.run.busy and (node.GetSelectedSegmentID() or "") != self._selected:
            self._scene.runner.editing.edit(self._scene.parameters.segmentation, self._scene.volume)
            node.SetSelectedSegmentID(self._selected)
            self.workspace.see()

    def _typed(self, text: str) -> None:
        prompt = self.model.prompt
        if text != prompt.text:
            prompt.text = text
            found = [
                one for one in prompt.complete(text, len(text)) if not text.casefold().endswith(one.text.casefold())
            ]
            self._state.completions = [{"text": one.text, "label": one.label} for one in found]

    def _load(self, files: Any) -> None:
        for one in files if isinstance(files, list) else [files] if files else []:
            self._scene.load(one["name"], one["content"])

    def _painted(self) -> None:
        with self._state as state:  # is told at once, before the next picture
            state.strokes += 1
        self.refresh()

    def _guarded(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception as error:
            self._failed(error)
        self.later()

    def _failed(self, error: Exception) -> None:
        self._said = messageOf(error).text
        self.later()
