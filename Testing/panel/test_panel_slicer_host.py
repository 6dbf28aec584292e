"""Installations through Slicer's own ways: `slicer.packaging`, the fall-back for 5.10, the extensions manager."""

from __future__ import annotations

import os
import sys
from subprocess import CalledProcessError
from types import ModuleType, SimpleNamespace

import pytest

from MedalSLib.panel.install.host import SlicerHost


@pytest.fixture
def host(slicer_host):
    return SlicerHost(lambda: None)


@pytest.fixture
def constraints(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("numpy==2.4.6\n", encoding="utf-8")
    return path


def test_packages_are_installed_with_slicers_own_function_under_constraints(host, constraints):
    import slicer.packaging

    slicer.packaging.installs.clear()
    lines = []
    host.installPackages(("safetensors>=0.4",), constraints, lines.append)
    assert slicer.packaging.installs == [
        {"requirements": ["safetensors>=0.4"], "constraints": constraints, "requester": "Medal S"}
    ]
    assert lines == ["Successfully installed"]


def test_only_built_packages_are_taken_and_the_environment_is_put_back(host, constraints, monkeypatch):
    import slicer.packaging

    seen = []
    monkeypatch.setattr(
        slicer.packaging,
        "pip_install",
        lambda *_, completedCallback, **__: (seen.append(os.environ["PIP_ONLY_BINARY"]), completedCallback(0)),
    )
    monkeypatch.delenv("PIP_ONLY_BINARY", raising=False)
    host.installPackages(("a",), constraints, print)
    assert seen == [":all:"] and "PIP_ONLY_BINARY" not in os.environ


def test_the_interface_lives_while_pip_works(slicer_host, constraints, monkeypatch):
    import slicer.packaging

    rounds, finish = [], []

    def pump():
        rounds.append(1)
        if len(rounds) == 3:
            finish[0](0)

    monkeypatch.setattr(
        slicer.packaging, "pip_install", lambda *_, completedCallback, **__: finish.append(completedCallback)
    )
    SlicerHost(pump).installPackages(("a",), constraints, print)
    assert len(rounds) == 3


def test_a_failed_installation_raises(host, constraints, monkeypatch):
    import slicer.packaging

    monkeypatch.setattr(slicer.packaging, "pip_install", lambda *_, completedCallback, **__: completedCallback(1))
    with pytest.raises(CalledProcessError):
        host.installPackages(("a",), constraints, print)


def test_slicer_5_10_installs_with_its_older_function(host, constraints, monkeypatch):
    import slicer.util

    calls = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", calls.append, raising=False)
    host.installPackages(("safetensors>=0.4",), constraints, print)
    assert calls == [["--constraint", str(constraints), "safetensors>=0.4"]]


def test_the_extension_is_installed_without_questions_and_without_a_restart(host, slicer_host, monkeypatch):
    calls = []
    model = SimpleNamespace(
        interactive=True,
        isExtensionInstalled=lambda name: name == "Other",
        installExtensionFromServer=lambda name, restart: calls.append((name, restart)) or True,
    )
    monkeypatch.setattr(slicer_host.app, "extensionsManagerModel", lambda: model, raising=False)
    assert not host.extensionInstalled("PyTorch")
    assert host.installExtension("PyTorch")
    assert calls == [("PyTorch", False)] and model.interactive is False


def test_torch_comes_from_the_extension_and_a_broken_one_goes_first(host, monkeypatch):
    import MedalSLib.panel.install.host as module

    calls = []
    logic = SimpleNamespace(
        uninstallTorch=lambda: calls.append("uninstall"),
        installTorch=lambda askConfirmation, torchVersionRequirement: calls.append(torchVersionRequirement),
    )
    extension = ModuleType("PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: logic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    monkeypatch.setattr(module, "torchVersion", lambda: "?")
    host.installTorch(">=2.6")
    monkeypatch.setattr(module, "torchVersion", lambda: "")
    host.installTorch(">=2.6")
    assert calls == ["uninstall", ">=2.6", ">=2.6"]
