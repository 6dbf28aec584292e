"""A model from a folder, without a network: the licence first, then installed, used, and removed again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

STARTER = Path(__file__).resolve().parents[2] / "Resources" / "Models" / "starter"


@pytest.fixture
def folder(tmp_path):
    """A model folder as a colleague would hand it over: the starter under another name."""
    copied = Path(shutil.copytree(STARTER, tmp_path / "from a colleague"))
    manifest = json.loads((copied / "manifest.json").read_text(encoding="utf-8"))
    manifest |= {"name": "hospital", "title": "Hospital model", "licence": "CC-BY-4.0"}
    (copied / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copied


def test_a_folder_is_installed_after_its_licence_was_accepted_and_removed_again(bench, folder):
    models = bench.view.engine.models
    models._path.currentPath = str(folder)
    bench.find("modelLocal").click()
    assert "CC-BY-4.0" in bench.find("licenceText").text
    assert "Hospital model" not in [row.title for row in bench.panel.model.models.rows if row.usable]
    bench.find("licenceAccept").click()
    bench.settle()
    assert "Hospital model is installed" in bench.find("modelMessage").text
    chosen = [row.name for row in bench.panel.model.models.rows if row.chosen]
    assert chosen == ["hospital"]
    from MedalSLib.network.registry import find_folder

    installed = find_folder("hospital")
    assert installed.is_dir()
    combo = bench.find("modelCombo")
    combo.setCurrentIndex(combo.findData("hospital"))
    combo.activated.emit(combo.currentIndex)
    bench.find("modelRemove").click()
    bench.settle()
    assert not installed.exists()
    assert folder.is_dir()
    assert [row.name for row in bench.panel.model.models.rows if row.chosen] == ["starter"]


def test_nothing_is_installed_when_the_licence_is_declined_or_nothing_was_chosen(bench, folder):
    models = bench.view.engine.models
    bench.find("modelLocal").click()
    assert "Choose the folder or the zip file" in bench.find("modelMessage").text
    models._path.currentPath = str(folder)
    bench.find("modelLocal").click()
    bench.find("licenceDecline").click()
    assert bench.panel.model.models.question is None
    assert "hospital" not in [row.name for row in bench.panel.model.models.rows]
