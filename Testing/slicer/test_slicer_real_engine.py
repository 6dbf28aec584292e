"""The engine of this project, with a small random model, under the scene: what the fake engine cannot show."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from slicer_host.module import loadModule
from slicer_host.phantoms import addVolume, affine, slicerSays

from MedalSLib.errors import CancelledError, PromptError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    tiny = pytest.importorskip("tiny_models")
    folder = tmp_path_factory.mktemp("model")
    tiny.write_tiny_model(folder, contrast=40.0)
    return str(folder)


@pytest.fixture(autouse=True)
def one_thread():
    """Small patches are faster without threads that wait for each other."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def logic(slicer_host):
    module, _parent = loadModule(ROOT / "MedalS" / "MedalS.py")
    logic = module.MedalSLogic()
    yield logic
    logic.close()


@pytest.fixture
def ct(scene):
    return addVolume(scene, (8, 16, 16), affine((2, 2, 3), np.diag([-1, -1, 1])))


def test_segments_hold_what_the_engine_found(logic, ct, model):
    outcome = logic.segment(ct, "liver, left kidney", modality="CT", model=model)
    assert {item.structure for item in outcome.written} == {"Liver", "Left kidney"}
    assert any(item.segmentID for item in outcome.written)
    for item in outcome.written:
        structure = outcome.report.structures[item.structure]
        if item.reason == "absent":
            assert not structure.found
            continue
        voxels = slicerSays(outcome.segmentationNode, item.segmentID, ct).sum()
        assert voxels * 12 / 1000 == pytest.approx(structure.volume_ml)


def test_a_wrong_name_is_said_and_nothing_is_written(logic, ct, model, scene):
    with pytest.raises(PromptError):
        logic.segment(ct, "flux capacitor", modality="CT", model=model)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def test_a_cancelled_run_leaves_the_image_open_for_the_next(logic, ct, model, slicer_host, scene):
    cancel = threading.Event()
    slicer_host.app.onProcessEvents = cancel.set
    with pytest.raises(CancelledError):
        logic.segment(ct, "liver", modality="CT", model=model, cancel=cancel)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    slicer_host.app.onProcessEvents = None
    assert logic.segment(ct, "liver", modality="CT", model=model).report.structures
