"""Fixtures for tests that need Slicer's core; import them in a conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slicer_host.boot import SlicerHost, host, why_not


@pytest.fixture(scope="session")
def slicer_session() -> SlicerHost:
    """The host, started once; tests that use it are skipped where slicer-core is missing."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return host()


@pytest.fixture
def slicer_host(slicer_session: SlicerHost) -> Iterator[SlicerHost]:
    """The host with an empty scene."""
    slicer_session.reset()
    yield slicer_session
    slicer_session.reset()


@pytest.fixture
def scene(slicer_host: SlicerHost) -> Any:
    """The empty scene of the host."""
    return slicer_host.scene
