"""Servers of pages and a Chromium for the story in the browser; skips where something is missing.

The packages want another slicer-core than the other tests, so the story has an environment of its own:
`.venv-view/bin/pip install pytest playwright psutil`, then `.venv-view/bin/python -m pytest Testing/view`.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# Nothing of the browser's own business: no network, no questions.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """The process of a `view_server`, and the addresses it prints."""
    for package in ("trame_slicer", "slicer_layer_dm", "greenlet"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (medals[view])")
    command = [sys.executable, str(Path(__file__).with_name("view_server.py")), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent) as process:
        assert process.stdout is not None
        try:
            yield process, (line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            process.terminate()


def opened(browser: Any, address: str) -> Any:
    """The page in a window of its own."""
    shown = browser.new_page(viewport={"width": 1400, "height": 900})
    shown.set_default_timeout(60_000)
    shown.goto(address)
    return shown
