"""A scene that was saved in November 2026 still opens: the parameters, and the marks on its segments.

`saved_scene` was written by the released code of then; a change of names in the library must not reach it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from slicer_host.phantoms import box, slicerSays

SAVED = Path(__file__).with_name("saved_scene")
SHAPE = (10, 12, 14)
LIVER, SPLEEN = box(SHAPE, (2, 6), (3, 8), (4, 9)), box(SHAPE, (5, 8), (8, 11), (9, 13))


@pytest.fixture
def logic(slicer_host, tmp_path):
    """The module's logic, after the scene was opened."""
    from slicer_host.module import loadModule

    shutil.copytree(SAVED, tmp_path / "scene")
    scene = slicer_host.scene
    scene.Clear(True)
    scene.SetURL(str(tmp_path / "scene" / "scene.mrml"))
    assert scene.Import()
    module, _parent = loadModule(Path(__file__).resolve().parents[2] / "MedalS" / "MedalS.py")
    logic = module.MedalSLogic()
    yield logic
    logic.close()


def test_the_parameters_are_those_that_were_saved(logic):
    state = logic.parameters
    assert (state.volume.GetName(), state.segmentation.GetName(), state.region.GetName()) == (
        "CT abdomen",
        "CT abdomen segmentation",
        "R",
    )
    assert state.prompt == 'liver, "left kidney"\nfoie'
    assert (state.modality, state.model, state.overlap, state.seed) == ("CT", "medals-v1", "keep", 7)
    assert (state.allFrames, state.firstStageOnly, state.separateInstances) == (True, True, True)
    assert (state.spatialPrompts, state.excluded, state.windows) == ({"Liver": "Liver"}, ("Spleen",), {"*": "lung"})


def test_its_results_are_known_by_structure_and_code_and_its_locks_hold(logic):
    from MedalSLib.slicer.matching import matchSegments
    from MedalSLib.slicer.segment_terminology import structureOfTerminology
    from MedalSLib.slicer.targets import terminologyOf

    node = logic.parameters.segmentation
    found = {one.name: (one.structure, one.how, one.empty, one.locked) for one in matchSegments(node, "CT")}
    assert found == {"Liver": ("Liver", "result", False, False), "Spleen": ("Spleen", "result", False, True)}
    for name in found:
        segment = node.GetSegmentation().GetSegment(name)
        assert structureOfTerminology(terminologyOf(segment), "CT") == name


def test_a_new_run_goes_into_its_segments(logic):
    state = logic.parameters
    larger = box(SHAPE, (1, 8), (3, 9), (4, 11))
    logic.engine = lambda model: FakeEngine({"Liver": larger, "Spleen": larger})
    assert (slicerSays(state.segmentation, "Liver", state.volume) == LIVER).all()
    logic.segment(state.volume, ["Liver", "Spleen"], state.segmentation, modality="CT")
    assert list(state.segmentation.GetSegmentation().GetSegmentIDs()) == ["Liver", "Spleen"]
    assert (slicerSays(state.segmentation, "Liver", state.volume) == larger).all()
    assert (slicerSays(state.segmentation, "Spleen", state.volume) == SPLEEN).all()  # it is locked
