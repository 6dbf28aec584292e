"""What the extension does not ship is said in one sentence, and nothing that it ships needs it."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize(
    ("command", "lacking"),
    [
        (["train", "prepared", "run"], "training"),
        (["prepare", "source", "prepared"], "training"),
        (["fine-tune", "source", "model"], "training"),
        (["evaluate", "--gt", "a", "--seg", "b"], "evaluation"),
        (["bench", "start-up"], "benchmarks"),
    ],
)
def test_commands_say_what_this_installation_lacks_and_where_to_get_it(
    package: Path, tmp_path: Path, command: list[str], lacking: str
) -> None:
    environment = os.environ | {"PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-m", "MedalSLib.cli", *command],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    cause, remedy = done.stderr.strip().splitlines()
    assert f"without {lacking}" in cause
    assert "pip" in remedy or "checkout" in remedy


def test_the_extension_is_without_what_only_a_laboratory_needs(package: Path) -> None:
    shipped = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert not [name for name in shipped if name.startswith((*list_extension_files.LEFT_OUT, "tools/"))]
    sources = [path for path in (package / "MedalSLib").rglob("*.py") if "cli" not in path.parts]
    rooms = ("MedalSLib.training", "MedalSLib.evaluation", "tools.")
    assert len(sources) > 100
    assert not [
        path.name
        for path in sources
        if any(f"import {room}" in (text := path.read_text()) or f"from {room}" in text for room in rooms)
    ]
