"""What starts quickly stays quick: modules are counted, not seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch", "transformers", "tokenizers", "scipy", "monai", "nibabel", "pydicom", "highdicom", "SimpleITK", "nrrd",
    "slicerio", "matplotlib", "fastapi", "uvicorn", "ray", "openvino", "pandas", "psutil", "cc3d", "tqdm", "requests",
}  # fmt: skip


def loaded(program: str) -> set[str]:
    """Return the top-level packages that a program in a fresh interpreter has imported in the end."""
    ending = "\nimport sys; sys.stderr.write('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", program + ending], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("import MedalSLib", set()),
        ("import MedalSLib.vocabulary", set()),
        ("from MedalSLib.run import RunOptions", set()),
        ("import MedalSLib.engine", set()),
        ("from MedalSLib.cli import build_parser; build_parser()", set()),
        ("from MedalSLib.cli import main; main(['names', 'kid', '--modality', 'CT'])", set()),
        ("from MedalSLib.cli import main; main(['resolve', 'rt kidney', '--modality', 'CT', '--json'])", set()),
        ("from MedalSLib.vocabulary import suggest; suggest('kid', 'CT')", set()),
        ("import MedalSLib.service.client", {"requests"}),
    ],
)
def test_no_heavy_package_creeps_in(program: str, allowed: set[str]) -> None:
    assert loaded(program) & HEAVY <= allowed


def test_the_library_alone_needs_not_even_numpy() -> None:
    assert "numpy" not in loaded("import MedalSLib")
