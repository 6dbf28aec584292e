"""Pictures of every page, looked at for what a person would notice: nothing blank, nothing cut off.

With MEDALS_PICTURES=FOLDER they are kept there.  Documentation/images has `install` and `names` from here; its
`completions`, `running`, `results`, `refined` and `consent` come from the stories (`test_stories_*.py`) on a chest CT.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from looks import assert_not_blank, cut_off, hint
from panel_doubles import InstallHost
from slicer_host.phantoms import box

from MedalSLib.panel.install.system import Gpu, SystemFacts

pytestmark = pytest.mark.slow

SHAPE = (30, 40, 48)
PARTS = {
    "Liver": box(SHAPE, (4, 22), (5, 28), (4, 26)),
    "Spleen": box(SHAPE, (8, 20), (24, 36), (32, 44)),
    "Right kidney": box(SHAPE, (6, 16), (26, 34), (10, 17)),
    "Left kidney": box(SHAPE, (6, 16), (26, 34), (29, 31)),
}
FACTS = SystemFacts(
    (5, 12), (3, 12), "Windows", "AMD64", "C:/Slicer", 200 * 2**30, 32 * 2**30, (Gpu("NVIDIA RTX", 8188, "551.2"),), ""
)


@pytest.fixture
def folder(tmp_path):
    wanted = os.environ.get("MEDALS_PICTURES")
    return Path(wanted) if wanted else tmp_path


@pytest.fixture
def picture(bench, folder):
    bench.engine.answers = PARTS
    info = replace(bench.engine.info(), title="Medal S starter", device_reason="no CUDA device was found")
    bench.engine.info = lambda: info
    array = bench.slicer.util.arrayFromVolume(bench.ct)
    array[:, :3] = -1000
    bench.slicer.util.arrayFromVolumeModified(bench.ct)
    bench.settle()

    def take(name, height=0):
        widget = bench.panel.widget
        widget.resize(480, height or 600)
        bench.settle()
        if not height:
            page = bench.view.tabs.currentWidget()
            widget.resize(480, max(hint(page.sizeHint).height() + 90, 330))
            bench.settle()
        path = folder / f"{name}.png"
        bench.picture(path)
        assert_not_blank(path)
        assert cut_off(widget) == []

    return take


def test_the_empty_panel(bench, picture):
    picture("empty")


def test_names_that_were_understood_guessed_and_not(bench, picture):
    bench.type("liver, both kidneys, splen, kidney stone")
    bench.view.prompt.completions.hide()
    picture("names")
    bench.type(", panc")
    picture("completions", 520)
    assert bench.view.prompt.completions.visible


def test_a_run_in_its_middle(bench, picture):
    bench.engine.pause = 0.3
    bench.type("liver, spleen, both kidneys, pancreas")
    bench.view.prompt.completions.hide()
    taken = []

    def look():
        if not taken and sum(row.state == "found" for row in bench.model.run.rows) == 3:
            taken.append(1)
            picture("running", 700)

    bench.during = look
    bench.find("runButton").click()
    assert taken


def test_results_and_corrections(bench, picture):
    bench.type("liver, spleen, both kidneys, pancreas")
    bench.find("runButton").click()
    bench.settle()
    bench.model.spatial.use(bench.segments()["Spleen"], "exclude")
    picture("results", 1000)


def test_the_question_before_an_upload(bench, picture):
    bench.model.engines.kind = "remote"
    bench.model.engines.url = "https://seg.example"
    bench.type("liver")
    bench.view.prompt.completions.hide()
    bench.find("runButton").click()
    picture("consent")


def test_the_engine_page(bench, picture):
    bench.view.tabs.setCurrentIndex(1)
    picture("engine")
    bench.model.models.askLicence("medals-v1")
    picture("licence")
    bench.model.engines.kind = "remote"
    picture("server")


def test_a_computer_without_an_engine(bench, picture):
    bench.model.install.gatherFacts = lambda: FACTS
    bench.model.install.host = host = InstallHost(extension="")
    bench.model.install.refresh()
    picture("setup")
    host.notSaved = ("CT abdomen", "CT abdomen segmentation")
    bench.find("setupInstall").click()
    bench.find("setupRestart").click()
    picture("setup-restart")


def test_the_install_page(bench, picture):
    bench.model.install.gatherFacts = lambda: FACTS
    bench.model.install.host.torchVersion = lambda: ""
    bench.view.tabs.setCurrentIndex(2)
    bench.find("checkButton").click()
    picture("install")
