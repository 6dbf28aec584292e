"""A computer on which nothing is installed: the Segment page offers it, says size and time, goes on after a restart."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from panel_doubles import InstallHost

from MedalSLib.panel.install import packages
from MedalSLib.panel.install.preflight import DOWNLOAD_BYTES, DOWNLOAD_BYTES_CPU
from MedalSLib.panel.install.system import Gpu, SystemFacts
from MedalSLib.panel.wording import bytesText

FACTS = SystemFacts((5, 12), (3, 12), "Linux", "x86_64", "/opt/Slicer", 200 * 2**30, 32 * 2**30, (), "")
JARGON = re.compile(r"pip\b|cuda|torch|wheel|python", re.IGNORECASE)


@pytest.fixture
def bare(bench):
    """A panel in a 3D Slicer without the PyTorch extension and without any package."""
    return renewed(bench, InstallHost(extension=""))


def renewed(bench, host, facts=FACTS):
    """Let the panel be in another 3D Slicer, as after a restart."""
    install = bench.model.install
    install.host, install.gatherFacts, install.needsRestart = host, lambda: facts, False
    bench.panel.exit()
    bench.panel.enter()
    bench.settle()
    return bench


def said(bench):
    """Return all that the Segment page says."""
    import qt

    page = bench.view.tabs.widget(0)
    kinds = (qt.QLabel, qt.QPushButton)
    return "\n".join(one.text for kind in kinds for one in page.findChildren(kind) if one.visible)


def test_nothing_is_said_of_it_where_all_is_there(bench):
    assert not bench.find("setupBox").visible


def test_the_page_says_what_is_missing_its_size_and_time_before_anything_fails(bare):
    bare.type("liver")
    assert bare.find("setupBox").visible
    offer = bare.find("setupOffer").text
    assert bytesText(DOWNLOAD_BYTES_CPU) in offer and "100 Mbit/s" in offer and "will have to restart once" in offer
    assert not bare.find("runButton").enabled and not bare.opened
    bare.model.run.run()
    assert not bare.opened and "press Install" in bare.model.run.message.text
    assert bare.model.engines.badge.level == "problem"
    assert not JARGON.search(said(bare)), said(bare)


def test_with_a_graphics_card_more_is_fetched(bare):
    bare.model.install.gatherFacts = lambda: replace(FACTS, gpus=(Gpu("RTX", 8000, "550"),))
    bare.model.install.check()
    assert bytesText(DOWNLOAD_BYTES) in bare.find("setupOffer").text


def test_a_server_needs_none_of_it(bare):
    bare.model.engines.kind = "remote"
    assert not bare.find("setupBox").visible


def test_install_restart_and_go_on_by_itself(bare):
    host = bare.model.install.host
    bare.find("setupInstall").click()
    assert host.installed == ["extension PyTorch"] and bare.find("setupRestart").visible
    assert not bare.find("setupInstall").visible and not JARGON.search(said(bare)), said(bare)

    host.notSaved = ("CT abdomen", "")
    bare.find("setupRestart").click()
    assert host.restarted == 0 and "CT abdomen, the scene" in bare.find("setupUnsaved").text
    bare.find("setupLater").click()
    assert host.restarted == 0 and bare.find("setupRestart").visible
    bare.find("setupRestart").click()
    bare.find("setupAnyway").click()
    assert host.restarted == 1

    host.extension = "usable"
    renewed(bare, host)
    assert bare.model.install.isInstalled
    assert bare.find("setupMessage").text == "✓ Medal S is ready to run on this computer."
    bare.type("liver")
    bare.find("runButton").click()
    bare.settle()
    assert bare.opened and not bare.find("setupBox").visible
    bare.model.engines.device = "cpu"  # another engine, of which nothing new is to be said here
    assert not bare.find("setupBox").visible


def test_save_first_restarts_once_all_is_saved(bare):
    host = bare.model.install.host
    bare.find("setupInstall").click()
    host.notSaved = ("CT abdomen",)
    bare.find("setupRestart").click()
    bare.find("setupSave").click()  # the window for saving was closed without saving
    assert host.restarted == 0 and bare.find("setupQuestion").visible

    def save():
        host.notSaved = ("",)
        return True

    host.onSave = save
    bare.find("setupSave").click()
    assert host.restarted == 1 and not bare.find("setupQuestion").visible


def test_a_restart_that_loses_nothing_asks_nothing(bare):
    bare.find("setupInstall").click()
    bare.find("setupRestart").click()
    assert bare.model.install.host.restarted == 1


def test_progress_and_cancel_take_the_buttons_place(bench):
    bare = renewed(bench, InstallHost(extension="usable"))
    shown = []

    def look():
        if bare.model.install.fraction >= 0.7 and not shown:
            shown.append((bare.find("setupBar").visible, bare.find("setupInstall").visible, said(bare)))
            bare.find("setupCancel").click()

    bare.during = look
    bare.find("setupInstall").click()
    bare.during = None
    ((bar, button, text),) = shown
    assert bar and not button and not JARGON.search(text), text
    assert "stopped" in bare.find("setupMessage").text and bare.find("setupInstall").visible
    assert packages.missing(packages.requirements(), bare.model.install.host.version)
    renewed(bare, bare.model.install.host)
    assert not bare.model.install.isInstalled  # what was cancelled does not begin again by itself
    bare.find("setupInstall").click()
    assert bare.model.install.isInstalled


def test_without_a_network_it_says_what_to_do(bench):
    bare = renewed(bench, InstallHost(extension="usable"), replace(FACTS, network="ConnectionError"))
    bare.find("setupInstall").click()
    assert bare.model.install.host.installed == []
    message = bare.find("setupMessage").text
    assert "Connect this computer" in message and "ask your IT" in message and "server" in message
    assert not JARGON.search(said(bare)), said(bare)


@pytest.mark.parametrize("output", ["CERTIFICATE_VERIFY_FAILED", "pip: very odd", "getaddrinfo failed", "Killed"])
def test_a_failure_is_said_without_jargon_and_the_page_with_the_details_is_a_click_away(bench, output):
    host = InstallHost(extension="usable", fails="torch", error=RuntimeError(output))
    bare = renewed(bench, host)
    bare.find("setupInstall").click()
    assert bare.find("setupMessage").text and not JARGON.search(said(bare)), said(bare)
    bare.find("setupDetails").click()
    assert bare.view.tabs.currentIndex == 2 and bare.find("installMessage").text
