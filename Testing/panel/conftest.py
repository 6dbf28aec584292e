"""The panel on the stand-in host: real scene, strict Qt, an engine that answers what it is told."""

from __future__ import annotations

import time

import numpy as np
import pytest
import qt_host
from fake_engine import FakeEngine
from slicer_host.fixtures import scene, slicer_host, slicer_session
from slicer_host.phantoms import addVolume, affine, box
from stories import starter, story

__all__ = ["scene", "slicer_host", "slicer_session", "starter", "story"]

SHAPE = (30, 40, 48)
LIVER = box(SHAPE, (4, 16), (5, 25), (6, 30))
SPLEEN = box(SHAPE, (8, 20), (26, 36), (32, 44))
CLASSES = ("CT_Liver", "CT_Spleen", "CT_Right kidney", "CT_Left kidney", "CT_Pancreas")


class Engine(FakeEngine):
    """The fake engine, with a door that can be a server's."""

    def describe_upload(self, array, prompts=(), masks=()):
        from MedalSLib.service.addresses import parse_address
        from MedalSLib.service.describing import describe_upload

        return describe_upload(parse_address("https://seg.example"), 600, array, prompts, masks)


class Bench:
    """The panel, shown and entered, with a CT in the scene.

    Attributes:
        during: Called from the event pump in the middle of a run; a test sets it.
    """

    def __init__(self, host, application):
        import slicer

        self.host, self.application, self.slicer = host, application, slicer
        self.during = None
        self.longest = 0.0
        host.app.onProcessEvents = self._pump
        self.engine = Engine({"Liver": LIVER, "Spleen": SPLEEN}, classes=CLASSES)
        import importlib.util
        from pathlib import Path

        path = Path(__file__).resolve().parents[2] / "MedalS" / "MedalS.py"
        spec = importlib.util.spec_from_file_location("MedalS", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.logic = module.MedalSLogic()
        from MedalSLib.panel.widgets.panel_view import PanelView

        self.opened = []
        self.panel = self.view = PanelView(self.logic, dict.fromkeys(("isolated", "in-process", "remote"), self._open))
        self.model = self.view.model
        self.panel.widget.resize(480, 1000)
        self.panel.widget.show()
        self.panel.enter()
        self.ct = addVolume(host.scene, SHAPE, affine((2, 2, 2)), "CT abdomen")
        self.settle()

    def _open(self, choice, cancel):
        self.opened.append(choice)
        return self.engine

    def _pump(self):
        self.application.processEvents()
        if self.during is not None:
            self.during()

    def settle(self, timers=("_refreshTimer",)):
        """Process events until the panel's timers have fired."""
        end = time.monotonic() + 10
        self.application.processEvents()
        while any(getattr(self.view, name).isActive() for name in timers):
            assert time.monotonic() < end, "the panel does not come to rest"
            self.application.processEvents()
            time.sleep(0.002)
        self.application.processEvents()

    def type(self, text):
        """Type into the prompt field, at its end."""
        edit = self.view.prompt.edit
        edit.setFocus()
        edit.insertPlainText(text)

    def press(self, key, modifiers=None):
        from PySide6 import QtCore, QtTest

        QtTest.QTest.keyClick(self.view.prompt.edit, key, modifiers or QtCore.Qt.NoModifier)

    def find(self, name):
        """Return a widget of the panel by its object name."""
        import qt

        qt.QCoreApplication.sendPostedEvents(None, qt.QEvent.DeferredDelete)
        found = self.panel.widget.findChild(qt.QWidget, name)
        assert found is not None, f"there is no widget {name}"
        return found

    def table(self, name):
        table = self.find(name)
        return [
            [table.item(row, column).text() if table.item(row, column) else "" for column in range(table.columnCount)]
            for row in range(table.rowCount)
        ]

    def structures(self):
        """Return the list of structures: volume, state and role by name."""
        return {row[1]: row[2:] for row in self.table("structuresTable")}

    def role(self, name, words):
        """Choose an entry of a structure's menu by some of its words."""
        from MedalSLib.panel.widgets.structures_view import ROLE

        self.find("structuresTable").cellClicked.emit(list(self.structures()).index(name), ROLE)
        menu = self.view.structures.menu
        (action,) = [one for one in menu.actions() if words in one.text]
        action.trigger()
        menu.hide()
        self.settle()

    def point(self, voxel_kji):
        """Hold the mouse over a voxel of the CT."""
        from MedalSLib.slicer.volumes import gridOf

        crosshair = self.slicer.mrmlScene.GetNthNodeByClass(0, "vtkMRMLCrosshairNode")
        if crosshair is None:
            crosshair = self.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
        crosshair.SetCursorPositionRAS(list(gridOf(self.ct).index_to_ras(voxel_kji[::-1])))

    def segments(self):
        node = self.logic.parameters.segmentation
        if node is None:
            return {}
        segmentation = node.GetSegmentation()
        return {segmentation.GetSegment(one).GetName(): one for one in segmentation.GetSegmentIDs()}

    def mask(self, name):
        from slicer_host.phantoms import slicerSays

        return np.asarray(slicerSays(self.logic.parameters.segmentation, self.segments()[name], self.ct))

    def picture(self, path):
        self.settle()
        assert self.panel.widget.grab().save(str(path))

    def close(self):
        self.during = None
        if self.panel is not None:
            self.panel.cleanup()
            self.logic.close()
            self.panel.widget.close()
            self.panel.widget.deleteLater()


@pytest.fixture(scope="session")
def application(slicer_session):
    reason = qt_host.why_not()
    if reason:
        pytest.skip(reason)
    return qt_host.install(slicer_session.slicer)


@pytest.fixture
def strict(application):
    """The strict Qt, with an empty journal; exceptions in slots fail the test at its end."""
    from qt_host.settings import stored

    qt_host.journal.clear()
    stored.clear()
    yield application
    qt_host.journal.check()


@pytest.fixture
def bench(strict, slicer_host, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDALS_HOME", str(tmp_path / "home"))
    made = Bench(slicer_host, strict)
    yield made
    made.close()


@pytest.fixture
def result(bench):
    """A panel after a run for liver and spleen."""
    bench.type("liver, spleen")
    bench.find("runButton").click()
    bench.settle()
    return bench
