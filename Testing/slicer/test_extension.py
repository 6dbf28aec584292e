"""The extension as Slicer loads it: what it asks of pip, and the module's four classes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from fake_engine import FakeEngine

ROOT = Path(__file__).resolve().parents[2]


class TestRequirements:
    def test_pip_never_installs_torch_or_what_slicer_ships(self):
        from packaging.requirements import Requirement

        from MedalSLib.panel.install.packages import OWN, TORCH, names, requirements

        assert requirements()
        assert not {name.lower() for name in names(requirements())} & {name.lower() for name in OWN}
        constraints = (ROOT / "Resources" / "requirements" / "constraints.txt").read_text(encoding="utf-8")
        torch = next(Requirement(line) for line in constraints.splitlines() if line.startswith("torch"))
        assert torch.specifier == Requirement("torch" + TORCH).specifier

    def test_constraints_hold_the_installed_versions_and_each_package_once(self):
        from importlib.metadata import version

        from packaging.requirements import Requirement

        from MedalSLib.panel.install.packages import constraints, names, ownVersions

        lines = constraints(ownVersions())
        lowered = [name.lower() for name in names(lines)]
        assert len(lowered) == len(set(lowered))
        assert f"numpy=={version('numpy')}" in lines
        bounds = (ROOT / "Resources" / "requirements" / "constraints.txt").read_text(encoding="utf-8").splitlines()
        bounded = {Requirement(line).name.lower() for line in bounds if line and not line.startswith("#")}
        assert bounded <= set(lowered), "a bound for a package that is not installed is lost"


class TestTheModule:
    @pytest.fixture
    def loaded(self, slicer_host):
        from slicer_host.module import loadModule

        return loadModule(ROOT / "MedalS" / "MedalS.py")

    def test_the_file_imports_nothing_heavy(self):
        tree = ast.parse((ROOT / "MedalS" / "MedalS.py").read_text(encoding="utf-8"))
        heads = set()
        for node in tree.body:
            if isinstance(node, ast.Import):
                heads |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                heads.add(node.module.split(".")[0])
        assert heads <= {"__future__", "slicer"} | set(sys.stdlib_module_names)

    def test_the_file_can_be_read_by_the_python_of_slicer_5_8(self):
        ast.parse((ROOT / "MedalS" / "MedalS.py").read_text(encoding="utf-8"), feature_version=(3, 9))

    def test_an_old_slicer_is_refused_in_words_and_nothing_is_imported(self, loaded, monkeypatch):
        import slicer

        monkeypatch.delattr(slicer, "vtkSlicerSegmentEditorLogic")
        monkeypatch.setattr(slicer.app, "applicationVersion", "5.8.1")
        shown = []
        monkeypatch.setitem(sys.modules, "qt", SimpleNamespace(QLabel=lambda text: SimpleNamespace(text=text)))
        monkeypatch.setitem(sys.modules, "MedalSLib.panel.widgets.panel_view", None)
        parent = SimpleNamespace(layout=lambda: SimpleNamespace(addWidget=shown.append))
        widget = loaded[0].MedalSWidget(parent)
        widget.setup()
        widget.enter()
        widget.exit()
        widget.cleanup()
        assert "5.10 or newer; this is 5.8.1" in shown[0].text
        assert shown[0].wordWrap
        loaded[0].onStartupCompleted()

    def test_loading_it_loads_nothing_heavy(self, slicer_session):
        program = (
            f"import sys; sys.path[:0] = [{str(ROOT / 'Testing' / 'support')!r}]\n"
            "from pathlib import Path\n"
            "from slicer_host import host\n"
            "from slicer_host.module import loadModule\n"
            "host(); before = set(sys.modules)\n"
            f"module, parent = loadModule(Path({str(ROOT / 'MedalS' / 'MedalS.py')!r}))\n"
            "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
            "print(sorted(new & {'torch', 'transformers', 'scipy', 'MedalSLib', 'SimpleITK', 'fastapi', 'qt'}))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr[-2000:]

    def test_the_generic_tests_texts_are_there(self, loaded):
        _module, parent = loaded
        assert parent.title == "Medal S"
        assert parent.categories == ["Segmentation"]
        for text in (*parent.contributors, parent.helpText, parent.acknowledgementText):
            assert len(text) > 20
        assert "arXiv 2511.13001" in parent.acknowledgementText
        assert loaded[0].HOMEPAGE in parent.helpText

    def test_terminology_and_samples_are_offered_when_slicer_has_started(self, loaded, slicer_host, monkeypatch):
        import slicer

        from MedalSLib.slicer.sample_data import SAMPLES
        from MedalSLib.slicer.segment_terminology import OWN_CONTEXT

        registered = []
        logic = SimpleNamespace(registerCustomSampleDataSource=lambda **source: registered.append(source))
        sampleData = ModuleType("SampleData")
        sampleData.SampleDataLogic = logic
        monkeypatch.setitem(sys.modules, "SampleData", sampleData)
        monkeypatch.setattr(slicer.modules, "sampledata", object(), raising=False)
        loaded[0].onStartupCompleted()
        assert slicer_host.logics["terminologies"].IsTerminologyContextLoaded(OWN_CONTEXT)
        assert [source["sampleName"] for source in registered] == [sample.name for sample in SAMPLES]
        for source in registered:
            digest = source["checksums"].removeprefix("SHA256:")
            assert re.fullmatch("[0-9a-f]{64}", digest)
            assert source["uris"].endswith("/SHA256/" + digest)

    def test_a_script_segments_in_one_call(self, loaded, slicer_host):
        from slicer_host.phantoms import addVolume, box, slicerSays

        module, _parent = loaded
        logic = module.MedalSLogic()
        volume = addVolume(slicer_host.scene)
        liver = box((24, 40, 48), (4, 16), (5, 25), (6, 30))
        engine = FakeEngine({"Liver": liver}, pause=0.1)
        logic.engine = lambda model: engine
        outcome = logic.segment(volume, "Liver", modality="CT")
        logic.close()
        assert (slicerSays(outcome.segmentationNode, outcome.written[0].segmentID, volume) == liver).all()
        assert slicer_host.app.processed > 0

    def test_the_engine_of_a_script_is_closed_at_clean_up_after_the_image_in_it(self, loaded, slicer_host, monkeypatch):
        from slicer_host.phantoms import addVolume, box

        import MedalSLib.engine

        engine, closed = FakeEngine({"Liver": box((24, 40, 48), (4, 16), (5, 25), (6, 30))}), []
        engine.close = lambda: closed.append(engine.sessions_closed)
        monkeypatch.setattr(MedalSLib.engine, "open_engine", lambda model, device, **options: engine)
        logic = loaded[0].MedalSLogic()
        logic.segment(addVolume(slicer_host.scene), "Liver", modality="CT")
        assert closed == []
        logic.close()
        assert closed == [1]  # sessions that were closed before the engine

    @pytest.mark.parametrize(
        "name",
        [
            "test_results_are_written_and_undone",
            pytest.param("test_starter_segments_a_phantom", marks=pytest.mark.slow),
        ],
    )
    def test_the_self_test_passes(self, loaded, name):
        import unittest

        module, _parent = loaded
        result = unittest.TestResult()
        module.MedalSTest(name).run(result)
        assert result.testsRun == 1 and result.wasSuccessful(), result.failures + result.errors

    def test_the_panel_is_built_in_setup_and_closed_with_the_module(self, loaded, monkeypatch):
        calls = []

        class Panel:
            widget = "the panel's widget"

            def __init__(self, logic):
                calls.append(type(logic).__name__)

            def enter(self):
                calls.append("enter")

            def exit(self):
                calls.append("exit")

            def cleanup(self):
                calls.append("cleanup")

        main = ModuleType("MedalSLib.panel.widgets.panel_view")
        main.PanelView = Panel
        monkeypatch.setitem(sys.modules, "MedalSLib.panel.widgets.panel_view", main)
        parent = SimpleNamespace(layout=lambda: SimpleNamespace(addWidget=calls.append))
        widget = loaded[0].MedalSWidget(parent)
        assert calls == []
        monkeypatch.setattr(loaded[0].MedalSLogic, "close", lambda self: calls.append("logic closed"))
        widget.setup()
        widget.enter()
        widget.exit()
        widget.cleanup()
        assert calls == ["MedalSLogic", "the panel's widget", "enter", "exit", "cleanup", "logic closed"]
