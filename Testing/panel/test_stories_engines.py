"""Stories: the engine ends in the middle of a run, in a process of its own and on a server, and is used again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from stories import LUNGS, dice, same

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


PATIENCE_SECONDS = 3.0
"""How long these clients try a server that is gone; users' clients try for a minute."""


@pytest.fixture
def chest(story):
    from MedalSLib.panel.engines import defaultFactories
    from MedalSLib.service.client import connect

    def remote(choice, cancel):
        return connect(choice.url, choice.key, timeout=PATIENCE_SECONDS, cancel=cancel)

    story.bench.model.engines.factories = defaultFactories() | {"remote": remote}
    yield story.load_chest()
    story.bench.model.engines.close()


class StarterServer:
    """`medals serve` with the starter, a process of its own."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "MedalSLib.cli", "serve", "--port", str(self.port), "--device", "cpu"]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        lines = iter(self.process.stderr.readline, "")
        ending = threading.Timer(60, self.process.kill)  # a server that never listens must not hold the test
        ending.start()
        assert any("listens on" in line for line in lines), "the server did not start"
        ending.cancel()
        threading.Thread(target=lambda: [None for _ in lines], daemon=True).start()

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture
def server():
    made = StarterServer()
    made.start()
    yield made
    made.kill()


def pacemaker(story, volume):
    mask = np.zeros(story.slicer.util.arrayFromVolume(volume).shape, bool)
    mask[9:12, 50:60, 40:50] = True
    return mask


def check_lungs(story, chest):
    masks, truth = story.masks(story.segmentation, chest), story.truth(chest)
    assert all(dice(masks[name], truth[name]) > 0.8 for name in LUNGS)


def test_server_killed(story, chest, server, monkeypatch):
    bench = story.bench
    connect(story, server)
    story.picture("1-connected")
    story.turn_to("Segment")
    story.type("both lungs")
    story.run()
    assert bench.find("consentBox").visible and "127.0.0.1" in bench.find("consentText").text
    assert story.segmentation is None  # nothing was sent yet
    story.picture("2-consent")
    story.run("consentAllow")
    check_lungs(story, chest)
    assert server.address in bench.find("badge").text
    story.draw(chest, "Pacemaker", pacemaker(story, chest), story.segmentation)
    story.paint("Left lung", (12, 60, 40), 25, erase=True)
    before = story.masks(story.segmentation, chest)

    said = kill_in_mid_run(story, server, monkeypatch)
    assert any("no news from the server for" in text for text in said)
    assert same(story.masks(story.segmentation, chest), before)
    assert f"Nothing listens at {server.url}" in story.message()
    assert story.message().endswith("Your segments are as they were.")
    assert bench.find("badge").text.startswith("⚠ Not ready")
    story.picture("3-killed")

    done = story.once(lambda: True, bench.find("cancelButton").click)  # nobody waits for a server that is gone
    story.start_over()
    assert done and story.message() == "The run was cancelled."
    story.turn_to("Engine")
    story.press("testButton")
    assert bench.find("engineMessage").text.startswith("✕")

    server.start()
    story.press("testButton")
    assert bench.find("engineMessage").text.startswith("✓ Connected")
    story.turn_to("Segment")
    story.start_over()
    assert story.message().startswith("✓ 3 of 3") and bench.find("badge").text.startswith("●")
    assert np.array_equal(story.masks(story.segmentation, chest)["Pacemaker"], before["Pacemaker"])
    check_lungs(story, chest)


def connect(story, server):
    story.turn_to("Engine")
    story.choose("engineKind", "remote")
    story.bench.find("serverUrl").text = server.url
    story.press("testButton")
    assert story.bench.find("engineMessage").text.startswith("✓ Connected: Starter")


def kill_in_mid_run(story, server, monkeypatch):
    """Kill the server once the lungs are there and the aorta is not; return what the progress line said."""
    from MedalSLib.panel.widgets import run_view

    monkeypatch.setattr(run_view, "_SILENCE_SECONDS", 1.0)
    said = set()
    killed = story.once(story.some_written, server.kill)
    look = story.bench.during

    def listen():
        look()
        said.add(story.bench.find("progressLabel").text)

    story.bench.during = listen
    story.type(", aorta")
    story.start_over()
    assert killed
    return said


def test_own_process_killed(story, chest):
    """The way that runs are computed unless the user chooses another one: it is started again, the run goes on."""
    engines = story.bench.model.engines
    assert engines.kind == "isolated"
    story.type("both lungs, aorta")
    killed = []

    def kill():
        killed.append(engines._engine.child.pid)
        engines._engine.child.kill()

    story.once(story.some_written, kill)
    story.run()
    assert killed and engines._engine.child.pid not in (None, killed[0])
    assert story.message().startswith("✓ 3 of 3")
    check_lungs(story, chest)
    assert story.masks(story.segmentation, chest)["Aorta"].any()
    story.picture("1-result")
