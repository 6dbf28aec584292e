"""The page: names, structures and tools on the left, four views on the right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trame.ui.vuetify3 import VAppLayout
from trame.widgets import client, html
from trame.widgets import vuetify3 as v

from MedalSLib.view.desk import Desk
from MedalSLib.view.scene import ViewScene
from MedalSLib.view.views import Views
from MedalSLib.volume.windows import AS_IS, WINDOWS

TITLE = "Medal S"
_FORMATS = {".seg.nrrd": "Save .seg.nrrd", ".nii.gz": "NIfTI"}
_OF_DICOM = {".dcm": "DICOM SEG"}  # refers to the files of the image
_CHIP = "{understood: 'success', guessed: 'warning', unknown: 'error', unsupported: 'error'}[chip.state]"


def build(server: Any, desk: Desk, scene: ViewScene, views: Views) -> None:
    """Lay the page out.

    Args:
        server: The trame server.
        desk: What its buttons do.
        scene: The scene.
        views: The views.
    """
    server.state.trame__title = TITLE
    server.trigger("medals_saved")(lambda suffix: server.protocol.addAttachment(desk.saved(suffix)))
    server.trigger("medals_key")(lambda key: _pressed(desk, scene, key))
    with VAppLayout(server) as layout:
        layout.root.theme = "dark"
        client.Style("html { overflow: hidden }")
        client.Script(Path(__file__).with_suffix(".js").read_text(encoding="utf-8"))
        with v.VNavigationDrawer(permanent=True, width=380), html.Div(classes="pa-3"):
            _names(desk)
            _running(desk)
            _structures(desk)
            _tools(desk, scene)
            _files(_FORMATS | (_OF_DICOM if scene.image.source.format == "DICOM" else {}))
        with v.VMain(style="height: 100vh"), html.Div(style="display: flex; height: 100%"):
            views.layout.initialize_layout_grid(layout)


def _names(desk: Desk) -> None:
    run = desk.model.run
    html.Div("{{ badge.text }} {{ badge.detail }}", classes="text-caption mb-2")
    v.VTextField(
        v_model=("prompt", ""),
        label="Names of structures",
        placeholder="liver, left kidney",
        density="compact",
        hide_details=True,
        autofocus=True,
        __events=[("enter", "keydown.enter")],  # trame knows this event by no name of its own
        enter=lambda: desk.start(run.run),
        id="prompt",
    )
    with v.VList(v_if="completions.length", density="compact", id="completions", classes="py-0"):
        v.VListItem(
            v_for="one in completions",
            key="one.text",
            title=("one.label",),
            click=(desk.complete, "[one.text]"),
        )
    with html.Div(classes="d-flex flex-wrap my-2", style="gap: 4px"):
        v.VChip("{{ chip.text }}", v_for="chip in chips", key="chip.text", title=("chip.why",), color=(_CHIP,),
                size="small")  # fmt: skip


def _running(desk: Desk) -> None:
    run, consent = desk.model.run, desk.model.run.answerConsent
    v.VBtn(
        "{{ action }}",
        v_if="!busy",
        block=True,
        color="primary",
        disabled=("!!blocker",),
        title=("blocker",),
        click=lambda: desk.start(run.run),
        id="run",
    )
    with html.Div(v_if="busy", id="progress"):
        v.VProgressLinear(model_value=("fraction",), height=18)
        html.Div("{{ progress }}", classes="text-caption")
        v.VBtn("Cancel", block=True, disabled=("!canCancel",), click=run.cancel, id="cancel")
    v.VBtn(
        "Start over (replaces corrections of {{ replaced }})",
        v_if="replaced && !busy",
        block=True,
        size="x-small",
        variant="text",
        click=lambda: desk.start(run.startOver),
    )
    with v.VAlert(v_if="question", type="warning", density="compact"):
        html.Div("This is the first image for this server. May it be sent? {{ question }}")
        v.VBtn("Send", click=lambda: desk.start(lambda: consent(True)))
        v.VBtn("Do not", click=lambda: desk.start(lambda: consent(False)))
    v.VAlert("{{ message.text }}", v_if="message.text", type=("message.level",), density="compact", classes="mt-2",
             id="message")  # fmt: skip
    html.Div("{{ one }}", v_for="one in remarks", key="one", classes="text-caption")


def _structures(desk: Desk) -> None:
    with (
        v.VList(density="compact", id="structures", style="max-height: 40vh; overflow: auto"),
        v.VListItem(
            v_for="row in rows",
            key="row.key + row.name",
            active=("row.key && row.key === selected",),
            title=("row.name",),
            subtitle=("`${row.volume} ${row.state} ${row.hint}`",),
            click=(desk.select, "[row.key]"),
        ),
    ):
        with v.Template(v_slot_prepend=True):
            v.VIcon("mdi-square", color=("row.color",), size="small")
        with v.Template(v_slot_append=True):
            v.VBtn(icon=("row.visible ? 'mdi-eye' : 'mdi-eye-off'",), size="x-small", variant="text",
                   click_stop=(desk.toggle, "[row.key]"), v_if="row.key", title="Show or hide")  # fmt: skip


def _tools(desk: Desk, scene: ViewScene) -> None:
    run = desk.model.run
    with html.Div(classes="d-flex flex-wrap my-2", style="gap: 4px"):
        for text, name, click, pressed, enabled in (
            ("Paint (P)", "paint", lambda: desk.take("paint"), "tool === 'paint'", "selected"),
            ("Erase (E)", "erase", lambda: desk.take("erase"), "tool === 'erase'", "selected"),
            ("Lasso (L)", "lasso", lambda: desk.take("lasso"), "tool === 'lasso'", "selected"),
            ("Undo", "undo", lambda: desk.do(scene.undo), "false", "!busy"),
            ("Redo", "redo", lambda: desk.do(scene.redo), "false", "!busy"),
            ("Before (C)", "before", lambda: run.compare(not run.comparing), "comparing", "canReview"),
            ("Revert", "revert", lambda: desk.start(run.revert), "false", "canReview"),
        ):
            v.VBtn(text, size="small", click=click, active=(pressed,), disabled=(f"!({enabled})",), id=name)
    v.VSlider(
        v_model=("diameter", 8),
        min=1,
        max=60,
        step=1,
        label="Brush, mm",
        thumb_label=True,
        density="compact",
        hide_details=True,
    )
    v.VSelect(v_model=("window", ""), items=("windows", [one for one in WINDOWS if one != AS_IS.name]),
              label="Window", density="compact", hide_details=True)  # fmt: skip
    v.VSwitch(label="3-D", v_model=("surfaces", False), density="compact", hide_details=True)
    desk.watch("surfaces", scene.show_surfaces)


def _files(formats: Mapping[str, str]) -> None:
    with html.Div(classes="d-flex flex-wrap my-2", style="gap: 4px"):
        for suffix, text in formats.items():
            v.VBtn(
                text,
                size="small",
                id="save" + suffix.replace(".", "-"),
                disabled=("!selected || busy",),
                click=f"utils.download('segmentation{suffix}', trigger('medals_saved', ['{suffix}']))",
            )
    v.VFileInput(v_model=("loaded", None), label="Load a segmentation", density="compact", hide_details=True, id="load")


def _pressed(desk: Desk, scene: ViewScene, key: str) -> None:
    run = desk.model.run
    acts = {
        "p": lambda: desk.take("paint"),
        "e": lambda: desk.take("erase"),
        "l": lambda: desk.take("lasso"),
        "a": lambda: desk.start(lambda: run.click(True)),
        "x": lambda: desk.start(lambda: run.click(False)),
        "c": lambda: run.compare(not run.comparing),
        "z": lambda: desk.do(scene.undo),
        "y": lambda: desk.do(scene.redo),
        "S": run.sliceIsRight,
        "D": run.showDoubtful,
    }
    if key in acts:
        acts[key]()
