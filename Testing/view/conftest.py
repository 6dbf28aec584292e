"""A page with a quick engine, in a real Chromium; skipped where `medals[view]`, playwright or Chromium is missing.

The packages want another slicer-core than the other tests, so the story has an environment of its own:
`.venv-view/bin/pip install pytest playwright`, then `.venv-view/bin/python -m pytest Testing/view`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SUPPORT = Path(__file__).resolve().parents[1] / "support"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Nothing of the browser's own business: no network, no questions.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a page, served by a process of its own."""
    for package in ("trame_slicer", "slicer_layer_dm", "greenlet"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (medals[view])")
    command = [sys.executable, str(SUPPORT / "view_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SUPPORT) as process:
        assert process.stdout is not None
        found = next((line.strip() for line in process.stdout if line.startswith("http")), "")
        assert found, "the server ended before it listened"
        yield found
        process.terminate()


@pytest.fixture
def page(address: str) -> Iterator[Any]:
    """The page in a browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        shown = browser.new_page(viewport={"width": 1400, "height": 900})
        shown.set_default_timeout(60_000)
        shown.goto(address)
        yield shown
        browser.close()
