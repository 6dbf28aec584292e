"""Every name of Slicer's, CTK's, PythonQt's and VTK's interfaces that we use is in the list, and the list is right."""

from __future__ import annotations

import ast
import inspect
import logging
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import types
import unittest
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer_interface
from slicer_interface import KINDS, Fact, write_stubs

ROOT = Path(__file__).resolve().parents[2]
OURS = [ROOT / "MedalS" / "MedalS.py", *sorted((ROOT / "MedalSLib" / "panel").rglob("*.py"))]
OURS += sorted((ROOT / "MedalSLib" / "slicer").rglob("*.py"))
HOST = {"slicer", "qt", "ctk", "vtk", "PyTorchUtils", "SampleData"}
FACTS = slicer_interface.facts()
WORDS = {fact.word for fact in FACTS}
SIGNALS = {fact.name for fact in FACTS if fact.kind == "signal"}
PYTHON: set[str] = {
    name
    for kind in (
        str, bytes, int, float, list, dict, set, tuple, type, object, property, pathlib.Path, re.Match, re.Pattern,
        threading.Event, threading.Thread, logging.Logger, queue.SimpleQueue, np.ndarray, np.dtype,
        type(np.zeros(1).flags), types.FunctionType, unittest.TestCase,
    )
    for name in dir(kind)
} | {
    "args", "readline", "returncode", "stdout", "stderr",  # subprocess
    "ok", "status_code",  # requests
    "contains", "evaluate", "marker", "specifier",  # packaging
}  # fmt: skip


@cache
def own_names() -> set[str]:
    """Names that our own code gives to functions, classes, fields and attributes."""
    found: set[str] = set()
    for path in [OURS[0], *(ROOT / "MedalSLib").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found |= {node.attr} if ast.unparse(node.value) == "self" else set()
    return found


def strangers(source: str, own: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and name of each attribute that is neither ours, nor Python's, nor in the list."""
    tree = ast.parse(source)
    elsewhere: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            elsewhere |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            foreign = isinstance(root, ast.Name) and root.id in elsewhere - HOST
            if not foreign and node.attr not in WORDS | own | PYTHON:
                yield node.lineno, node.attr


def wrong_signals(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and signature of each connection to a signal that is not in the list."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "connect":
            signal = node.args[0] if node.args else None
            if isinstance(signal, ast.Constant) and signal.value not in SIGNALS:
                yield node.lineno, str(signal.value)


def checked(paths: list[Path], folder: Path) -> list[str]:
    """What mypy says of files when the list is all it knows of Slicer."""
    pytest.importorskip("mypy")
    write_stubs(FACTS, folder / "stubs")
    settings = folder / "mypy.ini"
    settings.write_text(
        f"[mypy]\nmypy_path = {(folder / 'stubs').as_posix()}\nignore_missing_imports = True\n"
        "check_untyped_defs = True\nfollow_imports = silent\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(folder / "cache")]
    done = subprocess.run(
        [*command, "--no-error-summary", *map(str, paths)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line]


class TestOurCode:
    @pytest.mark.slow
    def test_it_uses_what_the_list_has_and_as_it_is(self, tmp_path: Path) -> None:
        """Where the type of a thing is known: names, properties that are called, methods that are assigned."""
        errors = checked(OURS, tmp_path)
        assert not errors, "\n".join(errors) + "\nsee Testing/support/slicer_interface.py"

    def test_it_uses_no_other_names(self) -> None:
        """Where the type is not known: the name must be somebody's."""
        own = own_names()
        found = [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for path in OURS
            for line, name in strangers(path.read_text(encoding="utf-8"), own)
        ]
        assert not found, "not in Testing/support/slicer_interface.csv: " + ", ".join(found)

    def test_it_connects_to_signals_of_the_list(self) -> None:
        found = [
            f"{path.relative_to(ROOT)}:{line}: {name}"
            for path in OURS
            for line, name in wrong_signals(path.read_text(encoding="utf-8"))
        ]
        assert not found


MISUSES = """\
import ctk
import qt
import slicer
import vtk
import SampleData
from slicer.packaging import pip_install
qt.QRegExp("x")
qt.QLabel("x").text()
qt.QLabel("x").setFoo(1)
qt.QLabel("x").setText = None
qt.QLabel("x").wordWrap = "yes"
qt.QPushButton("x", parent=None)
qt.QPushButton("x").enabled()
qt.QTableWidgetItem("x").text.upper()
qt.Qt.AlignSideways
qt.QTimer.singleShoot(0, print)
qt.QSettings().value("x", defaultValue=1)
ctk.ctkCollapsibleButton().setCollapsed(True)
ctk.ctkRangeWidget()
slicer.qMRMLNodeComboBox().setNodeTypes(["x"])
slicer.qMRMLNodeComboBox().currentNode.GetName()
slicer.qMRMLSegmentEditorWidget().saveState()
slicer.util.addVolumeFromNumpy(None)
slicer.util.arrayFromVolume()
slicer.app.majorVersion()
slicer.app.pythonVersion
slicer.modules.segmentanything
slicer.mrmlScene.GetNodeByName("x")
slicer.vtkMRMLFancyNode()
vtk.vtkMatrix4x4().Multiply()
pip_install(["x"], constraint="c.txt")
SampleData.SampleDataLogic.registerCustomSampleDataSource(sampleDescription="x")
"""


class TestAWrongNameIsFound:
    def test_by_its_type(self, tmp_path: Path) -> None:
        path = tmp_path / "misuses.py"
        path.write_text(MISUSES, encoding="utf-8")
        lines = {int(error.split(":")[1]) for error in checked([path], tmp_path)}
        first = MISUSES.splitlines().index("from slicer.packaging import pip_install") + 2
        missed = [text for line, text in enumerate(MISUSES.splitlines(), 1) if line >= first and line not in lines]
        assert not missed

    @pytest.mark.parametrize(
        "text", ["node.GetSegmentationColour()", "widget.setTextColour(1)", "x.thing.ModifiedEvnt"]
    )
    def test_on_a_thing_of_unknown_type(self, text: str) -> None:
        assert len(list(strangers(text, own_names()))) >= 1

    @pytest.mark.parametrize("signal", ["clicked(int)", "currentNodeChanged(bool)", "toggle(bool)"])
    def test_in_a_connection(self, signal: str) -> None:
        assert list(wrong_signals(f"b.connect({signal!r}, f)")) == [(1, signal)]


class TestTheList:
    def test_it_is_sorted_complete_and_without_doubles(self) -> None:
        keys = [(fact.owner, fact.name) for fact in FACTS]
        assert keys == sorted(set(keys))
        owners = {fact.name for fact in FACTS if fact.kind == "class"} | {
            f"{fact.owner}.{fact.name}" for fact in FACTS if fact.kind == "module"
        }
        owners |= HOST
        for fact in FACTS:
            assert fact.kind in KINDS and fact.owner in owners, fact
            assert re.fullmatch(r"(Slicer|CTK|PythonQt|VTK|SlicerPyTorch|qtbase) \S+\.(h|py|cxx)", fact.declared), fact

    def test_every_name_is_used(self) -> None:
        """By us, by the stand-in host, or as the class of a name that is."""
        support = sorted((ROOT / "Testing" / "support").rglob("*.py"))
        text = "\n".join(path.read_text(encoding="utf-8") for path in [*OURS, *support])
        words = set(re.findall(r"\w+", text)) | {fact.type for fact in FACTS} | {fact.owner for fact in FACTS}
        assert [fact for fact in FACTS if fact.word not in words and fact.name not in words] == []

    def test_a_name_that_the_sources_lack_is_found(self, tmp_path: Path) -> None:
        """The comparison with checkouts of the sources: python Testing/support/slicer_interface.py FOLDER."""
        header = tmp_path / "Slicer" / "A.h"
        header.parent.mkdir()
        header.write_text("class A { vtkGetMacro(Spacing, int); void run(); };")
        known = [Fact("A", name, "method", "", "Slicer A.h") for name in ("GetSpacing", "run", "running", "SetOrigin")]
        known.append(Fact("A", "run", "method", "", "Slicer B.h"))
        problems = slicer_interface.undeclared(known, tmp_path)
        assert [problem.split(":")[0] for problem in problems] == ["A.running", "A.SetOrigin", "A.run"]


def of(*modules: str) -> list[Fact]:
    """Facts about the members of these modules' classes."""
    classes = {fact.name for fact in FACTS if fact.kind == "class" and fact.owner in modules}
    return [fact for fact in FACTS if fact.owner in classes]


_FRESH = "MEDALS_FRESH_QT"


class TestTheListAtRunTime:
    def test_slicers_core_has_what_the_list_says(self, slicer_session: Any) -> None:
        import slicer
        import vtk

        for fact in of("slicer", "vtk"):
            cls = getattr(slicer, fact.owner, None) or getattr(vtk, fact.owner, None)
            if fact.owner.startswith("vtk"):
                assert cls is not None and hasattr(cls, fact.name), fact
                assert isinstance(getattr(cls, fact.name), int) == (fact.kind == "value"), fact
        for name in ("restart", "pip_install", "addVolumeFromArray", "arrayFromVolume"):
            fact = next(one for one in FACTS if (one.owner, one.name) == ("slicer.util", name))
            assert parameters(getattr(slicer.util, name)) == fact.type, fact

    @pytest.mark.slow
    def test_qt_has_what_the_list_says(self) -> None:
        """In a process of its own: PySide6 deletes meta objects of classes that other tests have subclassed."""
        inner = f"{__file__}::TestTheListAtRunTime::test_qt_of_this_process_has_what_the_list_says"
        command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", inner]
        done = subprocess.run(command, env={**os.environ, _FRESH: "1"}, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and " skipped" not in done.stdout.lower(), done.stdout[-4000:]

    @pytest.mark.skipif(_FRESH not in os.environ, reason="run by the test above")
    def test_qt_of_this_process_has_what_the_list_says(self, application: Any) -> None:
        import qt

        for fact in of("qt"):
            cls = getattr(qt, fact.owner)
            meta = getattr(cls, "staticMetaObject", None)
            if fact.kind == "signal":
                assert meta.indexOfSignal(fact.name) >= 0, fact
            elif fact.kind == "property":
                assert meta.indexOfProperty(fact.name) >= 0, fact
            else:
                assert hasattr(cls, fact.name), fact
                assert fact.kind == "value" or meta is None or meta.indexOfProperty(fact.name) < 0, fact

    def test_the_stand_in_has_no_names_that_the_real_widgets_lack(self, application: Any) -> None:
        from PySide6 import QtCore
        from qt_host import ctk_widgets, qmrml

        overridden = {"staticMetaObject", "signatures", "childEvent", "resizeEvent"}
        for module in (ctk_widgets, qmrml):
            for name in module.__all__:
                cls = getattr(module, name)
                own = {key: value for key, value in vars(cls).items() if not key.startswith("_")}
                for key, value in own.items():
                    if key in overridden:
                        continue
                    known = [fact for fact in FACTS if fact.word == key and fact.owner in lineage(name)]
                    assert known, f"{name}.{key} does not exist"
                    is_signal, is_property = isinstance(value, QtCore.Signal), isinstance(value, property)
                    kind = "signal" if is_signal else "property" if is_property else known[0].kind
                    assert known[0].kind == kind and kind in ("signal", "property", "method", "value"), (name, key)

    def test_the_stand_in_has_the_names_that_we_use(self, application: Any) -> None:
        import slicer

        for fact in of("slicer", "ctk"):
            if fact.owner.startswith(("qMRML", "ctk")):
                cls = getattr(slicer, fact.owner, None) or getattr(sys.modules["ctk"], fact.owner)
                signatures = getattr(cls, "signatures", {})
                assert hasattr(cls, fact.word) or fact.name in signatures, fact

    def test_the_stand_ins_python_has_slicers_parameters(self, slicer_session: Any) -> None:
        import importlib

        for fact in FACTS:
            if fact.kind != "function" or fact.owner.split(".")[0] in ("vtk", "PyTorchUtilsLogic", "SampleDataLogic"):
                continue
            if fact.owner.startswith("slicer."):
                made = getattr(importlib.import_module(fact.owner), fact.name)
            else:
                module = importlib.import_module("slicer.ScriptedLoadableModule")
                made = getattr(getattr(module, fact.owner), fact.name)
            assert parameters(made) == fact.type, fact

    def test_the_stand_in_application_has_no_other_names(self, slicer_session: Any) -> None:
        of_the_stand_in = {"processed", "onProcessEvents", "emit"}
        names = {name for name in dir(slicer_session.app) if not name.startswith("_")} - of_the_stand_in
        assert names <= {fact.word for fact in FACTS if fact.owner in lineage("qSlicerApplication")}

    def test_the_stand_in_module_has_no_other_names(self) -> None:
        from slicer_host.module import ModuleObject

        known = {fact.word for fact in FACTS if fact.owner in lineage("qSlicerScriptedLoadableModule")}
        assert set(ModuleObject.__slots__) <= known


def lineage(name: str) -> set[str]:
    """The classes that a class comes from, itself included."""
    bases = {fact.name: fact.type for fact in FACTS if fact.kind == "class"}
    found = set()
    while name:
        found.add(name)
        name = bases.get(name, "")
    return found


def parameters(function: Any) -> str:
    """Parameters and defaults as the list writes them, types left out."""
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        found.append(f"{stars}{name}{default}")
    return ", ".join(found)


@pytest.fixture(scope="module")
def slicer_session() -> Any:
    from slicer_host.boot import host, why_not

    reason = why_not()
    if reason:
        pytest.skip(reason)
    return host()


@pytest.fixture(scope="module")
def application(slicer_session: Any) -> Any:
    import qt_host

    reason = qt_host.why_not()
    if reason:
        pytest.skip(reason)
    return qt_host.install(slicer_session.slicer)
