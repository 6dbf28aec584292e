"""Nothing that the extension ships needs what it does not ship."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / ".ci"))

import list_extension_files  # noqa: E402
from extension_checks.extension import Extension  # noqa: E402
from extension_checks.package import lay_out  # noqa: E402


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The extension as Slicer's package has it."""
    return lay_out(Extension(ROOT), tmp_path_factory.mktemp("package"))


def test_benchmarks_say_that_they_come_with_a_checkout_alone(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "MedalSLib", tmp_path / "MedalSLib", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "MedalSLib.cli", "bench", "start-up"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    cause, remedy = done.stderr.strip().splitlines()
    assert "without benchmarks" in cause and "checkout" in remedy


def test_the_extension_is_without_what_only_a_laboratory_needs(package: Path) -> None:
    shipped = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert not [name for name in shipped if name.startswith((*list_extension_files.LEFT_OUT, "tools/"))]
    sources = list((package / "MedalSLib").rglob("*.py"))
    rooms = ("MedalSLib.training", "MedalSLib.evaluation", "MedalSLib.cli", "MedalSLib.service.batch", "tools.")
    assert len(sources) > 100
    assert not [
        path.name
        for path in sources
        if any(f"import {room}" in (text := path.read_text()) or f"from {room}" in text for room in rooms)
    ]
