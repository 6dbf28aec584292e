"""Installations through Slicer's own ways: `slicer.packaging`, the fall-back for 5.10, the extensions manager."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from subprocess import CalledProcessError
from types import ModuleType, SimpleNamespace

import pytest

from MedalSLib.errors import CancelledError
from MedalSLib.panel.install.host import SlicerHost

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for PythonSlicer is a shell script")
NEVER = threading.Event()


@pytest.fixture
def host(slicer_host):
    return SlicerHost(lambda: None)


@pytest.fixture
def constraints(tmp_path):
    path = tmp_path / "constraints.txt"
    path.write_text("numpy==2.4.6\n", encoding="utf-8")
    return path


@pytest.fixture
def installer(tmp_path, monkeypatch, slicer_host):
    """Let `slicer.packaging` run a program of the test's, below a launcher, with Slicer's own functions."""
    import slicer.packaging
    import slicer.util

    launcher = tmp_path / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    program = tmp_path / "pretended_pip.py"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def install(requirements, **keywords):
        slicer.util.executePythonModule(program.stem, requirements)

    monkeypatch.setattr(slicer.packaging, "pip_install", install)
    return lambda text: program.write_text(text, encoding="utf-8")


def test_packages_are_installed_with_slicers_own_function_under_constraints(host, constraints):
    import slicer.packaging

    slicer.packaging.installs.clear()
    host.installPackages(("safetensors>=0.4",), constraints, print, NEVER)
    assert slicer.packaging.installs == [
        {"requirements": ["safetensors>=0.4"], "constraints": constraints, "requester": "Medal S"}
    ]


def test_only_built_packages_are_taken_and_the_environment_is_put_back(host, constraints, monkeypatch):
    import slicer.packaging

    seen = []
    monkeypatch.setattr(slicer.packaging, "pip_install", lambda *_, **__: seen.append(os.environ["PIP_ONLY_BINARY"]))
    monkeypatch.delenv("PIP_ONLY_BINARY", raising=False)
    host.installPackages(("a",), constraints, print, NEVER)
    assert seen == [":all:"] and "PIP_ONLY_BINARY" not in os.environ


@POSIX
def test_the_interface_lives_while_an_installer_is_silent(constraints, installer):
    import slicer.util

    before, lines, rounds = slicer.util.logProcessOutput, [], []
    installer("import sys, time; print('Collecting', sys.argv[1], flush=True); time.sleep(0.4); print('done')")
    SlicerHost(lambda: rounds.append(len(lines))).installPackages(("safetensors",), constraints, lines.append, NEVER)
    assert lines == ["Collecting safetensors", "done"]
    assert rounds.count(1) > 3  # between the two lines the window was looked after
    assert slicer.util.logProcessOutput is before


@POSIX
def test_a_failed_installation_raises_with_what_was_said(host, constraints, installer):
    installer("import sys; print('No space left on device'); sys.exit(1)")
    with pytest.raises(CalledProcessError) as caught:
        host.installPackages(("a",), constraints, print, NEVER)
    assert "No space left" in caught.value.stderr


@POSIX
def test_cancel_ends_the_installer_below_its_launcher_too(constraints, installer, tmp_path):
    import psutil

    installer("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    cancel, lines = threading.Event(), []
    host = SlicerHost(lambda: cancel.set() if lines else None)
    with pytest.raises(CancelledError):
        host.installPackages(("a",), constraints, lines.append, cancel)
    with contextlib.suppress(psutil.NoSuchProcess):
        left = psutil.Process(int(lines[0]))
        deadline = time.monotonic() + 10  # the system ends it a moment after it was told to
        while left.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "the installer goes on"
            time.sleep(0.01)


def test_slicer_5_10_installs_with_its_older_function(host, constraints, monkeypatch):
    import slicer.util

    calls = []
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", calls.append, raising=False)
    host.installPackages(("safetensors>=0.4",), constraints, print, NEVER)
    assert calls == [["--constraint", str(constraints), "safetensors>=0.4"]]


@pytest.mark.parametrize("answer", [True, RuntimeError("no network")])
def test_the_extension_is_installed_without_questions_and_without_a_restart(host, slicer_host, monkeypatch, answer):
    """The extensions manager asks others again afterwards, also when the installation failed."""
    calls = []

    def install(name, restart):
        calls.append((name, restart, model.interactive))
        if isinstance(answer, Exception):
            raise answer
        return answer

    model = SimpleNamespace(
        interactive=True, isExtensionInstalled=lambda name: name == "Other", installExtensionFromServer=install
    )
    monkeypatch.setattr(slicer_host.app, "extensionsManagerModel", lambda: model, raising=False)
    assert not host.extensionInstalled("PyTorch")
    if answer is True:
        assert host.installExtension("PyTorch")
    else:
        with pytest.raises(RuntimeError):
            host.installExtension("PyTorch")
    assert calls == [("PyTorch", False, False)] and model.interactive is True


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
    host.installTorch(">=2.6", print, NEVER)
    monkeypatch.setattr(module, "torchVersion", lambda: "")
    host.installTorch(">=2.6", print, NEVER)
    assert calls == ["uninstall", ">=2.6", ">=2.6"]


def test_what_a_restart_would_lose_is_named_as_slicer_itself_counts_it(host, scene):
    scene.Clear(False)
    assert host.unsaved() == ()
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT abdomen")
    assert host.unsaved() == ("",)  # the scene alone: nothing of the volume would be lost
    import vtk

    image = vtk.vtkImageData()
    image.SetDimensions(2, 2, 2)
    image.AllocateScalars(vtk.VTK_SHORT, 1)
    node.SetAndObserveImageData(image)
    assert host.unsaved() == ("CT abdomen",)


def test_saving_opens_slicers_own_dialog(host, slicer_host, monkeypatch):
    manager = SimpleNamespace(openSaveDataDialog=lambda: True)
    monkeypatch.setattr(slicer_host.app, "coreIOManager", lambda: manager, raising=False)
    assert host.save() is True
