"""A page with a quick engine, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from view_browser import CHROMIUM, FLAGS, opened, served


@pytest.fixture
def address() -> Iterator[str]:
    """Address of a page, served by a process of its own."""
    with served() as (_process, addresses):
        yield next(addresses)


@pytest.fixture
def browser() -> Iterator[Any]:
    """A browser."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as engine:
        yield engine.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))


@pytest.fixture
def page(browser: Any, address: str) -> Any:
    """The page in the browser."""
    return opened(browser, address)
