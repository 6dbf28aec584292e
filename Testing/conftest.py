"""Fixtures every room shares: golden figures, and the reference folder that lies beside some checkouts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Tests of the engine compare runs to the bit, on networks that run sooner than they compile.
os.environ.setdefault("MEDALS_CPU_ENGINE", "torch")

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "Testing" / "golden"


def reference_folder() -> Path | None:
    """The folder with published lists and challenge cases, if this checkout has one (they may not be redistributed)."""
    for candidate in (os.environ.get("MEDALS_REFERENCE", ""), str(ROOT.parent / "shared" / "reference")):
        if candidate and Path(candidate).is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of the golden figures."""
    return GOLDEN


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the published lists and challenge cases; the test is skipped where it is not to be had."""
    folder = reference_folder()
    if folder is None:
        pytest.skip("the reference folder is not beside this checkout (set MEDALS_REFERENCE)")
    return folder
