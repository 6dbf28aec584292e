"""The panel works with nothing but what a bare 3D Slicer ships, and its texts can be translated."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PANEL = ROOT / "MedalSLib" / "panel"
GLUE = {"workspace", "comparison", "defaults", "host"}
PRESENTERS = sorted(
    path for path in PANEL.rglob("*.py") if "widgets" not in path.parts and path.stem not in {*GLUE, "__init__"}
)
FILES = sorted(PANEL.rglob("*.py"))
HEAVY = "rapidfuzz torch transformers scipy nibabel pydicom SimpleITK platformdirs psutil fastapi qt ctk slicer vtk"


def run(program: str) -> str:
    block = (
        "import sys\n"
        f"blocked = set({HEAVY!r}.split())\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in blocked: raise ModuleNotFoundError(name, name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Block())\n"
    )
    # MEDALS_HOME, which a developer may have set, makes platformdirs unnecessary.
    environment = {name: value for name, value in os.environ.items() if name != "MEDALS_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", block + program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_presenter_imports_in_a_bare_slicer():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PRESENTERS]
    assert len(names) > 15
    run("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names))


def test_names_and_typos_are_understood_in_a_bare_slicer():
    said = run(
        "import json\n"
        "from MedalSLib.panel.chips import readPrompt\n"
        "from MedalSLib.panel.completion import complete\n"
        "chips = [(c.state, c.classes, c.suggestions[:1]) for c in readPrompt('livr, rt kidny, splnees', 'CT')]\n"
        "print(json.dumps([chips, [c.text for c in complete('splee', 5, 'CT')][:1]]))\n"
    )
    chips, completions = json.loads(said)
    assert chips[:2] == [["guessed", ["Liver"], []], ["guessed", ["Right kidney"], []]]
    assert completions == ["Spleen"]


def test_the_model_list_of_a_bare_slicer_says_what_is_missing():
    said = run(
        "import importlib\n"
        "from MedalSLib.panel.jobs import BackgroundJobs\n"
        "from MedalSLib.panel.model_chooser import ModelsPresenter\n"
        "registry = lambda: importlib.import_module('MedalSLib.network.registry')\n"
        "models = ModelsPresenter(registry, lambda: 'starter', print, BackgroundJobs(lambda: None))\n"
        "models.refresh()\n"
        "print(models.message.text)\n"
    )
    assert said.strip().endswith("need packages that are not installed (platformdirs). See the Install page.")


@pytest.mark.parametrize("path", PRESENTERS, ids=lambda path: path.stem)
def test_a_presenter_imports_neither_qt_nor_slicer(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    heads = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert not heads & {"qt", "ctk", "slicer", "vtk"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_texts_for_translation_are_literals(path):
    """Translators' tools read the source: a text that is put together first would never be found."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            (argument,) = node.args
            assert isinstance(argument, ast.Constant) and isinstance(argument.value, str), ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_is_longer_than_a_reader_can_hold(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


def test_nothing_in_the_panel_calls_home():
    """The only address in the panel is the package index that an installation needs."""
    addresses = {
        node.value
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("http")
    }
    assert addresses == {"https://pypi.org/simple/safetensors/", "https://server.example:8000"}


def test_without_typos_libraries_the_distances_are_the_same():
    """The fall-back for a bare Slicer is compared with the library that is used otherwise."""
    from rapidfuzz.distance import OSA

    from MedalSLib.vocabulary.similarity import _osa_distance

    words = ["liver", "livr", "ilver", "spleen", "splene", "kidney", "kidny", "", "a"]
    for a in words:
        for b in words:
            assert _osa_distance(a, b, 3) == min(OSA.distance(a, b), 4), (a, b)
