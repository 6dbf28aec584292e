"""The prompt field: what its marks lead to, the last prompts, and larger fonts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from looks import cut_off
from panel_doubles import Entry, InstallHost, Registry

from MedalSLib.panel.install.system import SystemFacts
from MedalSLib.panel.model_chooser import ModelsPresenter

FACTS = SystemFacts((5, 12), (3, 12), "Linux", "x86_64", "/opt/Slicer", 200 * 2**30, 32 * 2**30, (), "")
BIG = ("CT_Liver", "CT_Pancreas", "CT_Aorta")


@pytest.fixture
def shop(bench):
    """The panel with a model that can be fetched, one that is installed, and a bundled one that knows the liver."""
    registry = Registry()
    registry.entries = [
        Entry("starter", "Starter", "bundled", classes=("CT_Liver", "CT_Spleen")),
        Entry("medals-v1", "Medal S", "available", licence="CC BY-NC 4.0", size_bytes=1500 * 2**20, classes=BIG),
        Entry("ours", "Ours", "installed", classes=("CT_Aorta",)),
    ]
    bench.model.models.registry = lambda: registry
    bench.model.models.refresh()
    return bench


def actions(bench, name):
    menu = bench.find(name).menu()
    menu.aboutToShow.emit()
    found = {}
    for one in menu.actions():
        found[one.text] = one
        if one.menu() is not None:
            found |= {inner.text: inner for inner in one.menu().actions()}
    return found


def choose(bench, name, text):
    actions(bench, name)[text].trigger()
    bench.settle()


class TestNotInThisModel:
    def test_the_mark_leads_to_the_model_that_has_it_with_size_and_licence(self, shop):
        shop.type("pancreas")
        assert shop.find("chip0").text == "✕ pancreas: not in this model"
        choose(shop, "chip0", "Get the model Medal S · 1.5 GB · licence: CC BY-NC 4.0 …")
        assert shop.view.tabs.currentIndex == 1 and shop.find("modelCombo").currentText == "Medal S"
        assert shop.find("licenceText").text == "Licence of medals-v1" and shop.find("licenceAccept").visible
        assert shop.model.models.registry().accepted == []  # nothing is fetched before the licence is accepted
        shop.find("licenceAccept").click()
        shop.settle()
        assert shop.model.engines.model == "medals-v1" and shop.model.prompt.structures == ("Pancreas",)

    def test_a_model_that_is_there_is_used_at_once(self, shop):
        shop.type("aorta")
        offered = [text for text in actions(shop, "chip0") if "model" in text]
        assert offered == ["Use the model Ours", "Get the model Medal S · 1.5 GB · licence: CC BY-NC 4.0 …"]
        choose(shop, "chip0", "Use the model Ours")
        assert shop.model.engines.model == "ours" and shop.model.prompt.structures == ("Aorta",)
        assert shop.view.tabs.currentIndex == 0

    def test_it_can_be_painted_still(self, shop):
        shop.type("pancreas")
        choose(shop, "chip0", "Paint it yourself")
        assert set(shop.segments()) == {"Pancreas"}

    def test_of_a_group_the_rest_is_offered(self, shop):
        shop.type("abdominal organs")
        assert any(text.startswith("Get the model Medal S") for text in actions(shop, "chip0"))

    def test_what_no_model_knows_offers_none(self, shop):
        shop.type("prostate")
        assert not any("the model" in text for text in actions(shop, "chip0"))

    def test_a_server_has_its_own_models(self, shop):
        shop.type("pancreas")
        shop.model.engines.kind = "remote"
        assert shop.model.prompt.chips[0].runs  # what a server knows is known once it is connected


def test_models_that_know_most_of_it_come_ready_ones_first():
    registry = Registry()
    registry.entries = [
        Entry("some", "Some", "bundled", classes=("CT_A",)),
        Entry("far", "Far", "available", classes=("CT_A", "CT_B")),
        Entry("near", "Near", "installed", classes=("CT_A", "CT_B")),
        Entry("bad", "Bad", "damaged", classes=("CT_A", "CT_B")),
    ]
    models = ModelsPresenter(lambda: registry, lambda: "some", print, None)
    models.refresh()
    assert [row.name for row in models.knowing(["CT_A", "CT_B"])] == ["near", "far"]
    assert models.knowing(["CT_C"]) == ()


class TestRecent:
    def test_a_prompt_can_be_had_back_with_the_next_patient(self, bench):
        bench.type("liver, splen, kidney stone")
        bench.slicer.mrmlScene.Clear(0)
        bench.settle()
        assert bench.view.prompt.edit.plainText == ""  # the next patient begins with an empty field
        choose(bench, "presetsButton", "liver, splen")
        assert bench.view.prompt.edit.plainText == "liver, splen"

    def test_what_was_run_comes_first(self, bench):
        for text in ("liver", "spleen"):
            choose(bench, "presetsButton", "Clear the field")
            bench.type(text)
            bench.view.prompt.completions.hide()
            bench.find("runButton").click()
            bench.settle()
        texts = list(actions(bench, "presetsButton"))
        assert texts.index("spleen") < texts.index("liver")

    def test_everything_is_a_preset(self, shop):
        choose(shop, "presetsButton", "Everything this model knows (2)")
        assert set(shop.model.prompt.structures) == {"Liver", "Spleen"}


def test_the_button_is_beside_the_field_which_has_two_lines(bench):
    edit, presets = bench.view.prompt.edit, bench.find("presetsButton")
    line = edit.fontMetrics().lineSpacing()
    assert 2 * line <= edit.height < 3 * line + 14
    assert abs(presets.mapTo(bench.panel.widget, presets.rect.topLeft()).y() - _top(bench, edit)) < 4


@pytest.mark.parametrize("width", [400, 560])
def test_a_larger_font_cuts_nothing(shop, tmp_path, width):
    """A font changed to 150 % while the panel is open, on every page, with every question asked."""
    install = shop.model.install
    install.host, install.gatherFacts = InstallHost(extension=""), lambda: FACTS
    shop.panel.widget.resize(width, 900)
    shop.type("liver, both kidneys, splen, kidney stone, pancreas")
    shop.view.prompt.completions.hide()
    install.install()
    install.host.notSaved = ("CT abdomen", "CT abdomen segmentation")
    install.restart()
    shop.model.models.askLicence("medals-v1")
    shop.settle()
    edit = shop.view.prompt.edit
    before = edit.height
    font = shop.panel.widget.font
    font.setPointSizeF(font.pointSizeF() * 1.5)
    shop.panel.widget.setFont(font)
    for page in range(3):
        shop.view.tabs.setCurrentIndex(page)
        shop.panel.widget.resize(width, 1400)
        shop.picture(Path(os.environ.get("MEDALS_PICTURES", tmp_path)) / f"large-font-{width}-{page}.png")
        for part in (shop.view.prompt, shop.view.setup, shop.view.engine, shop.view.install):
            assert cut_off(part.widget) == []
    assert shop.find("chip2").font.pointSizeF() == font.pointSizeF()
    assert edit.height >= 2 * edit.fontMetrics().lineSpacing() + 14 and edit.height > before


def _top(bench, widget):
    return widget.mapTo(bench.panel.widget, widget.rect.topLeft()).y()
