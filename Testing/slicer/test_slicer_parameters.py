"""The module's state in the scene: typed, saved and loaded with it, and never a key."""

from __future__ import annotations

import pytest
from slicer_host.phantoms import addVolume

ALL = ("prompt", "modality", "model", "overlap", "allFrames", "firstStageOnly", "separateInstances", "seed")


@pytest.fixture
def parameters(scene):
    from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

    from MedalSLib.slicer.parameters import Parameters

    return Parameters(ScriptedLoadableModuleLogic().getParameterNode)


def fill(parameters, scene):
    from MedalSLib.slicer.request import Overlap
    from MedalSLib.slicer.segmentations import addSegmentation

    parameters.volume = addVolume(scene, name="CT of today")
    parameters.segmentation = addSegmentation(parameters.volume)
    parameters.region = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "R")
    parameters.prompt = 'liver, "left kidney"\nfoie; 肝 = µ'
    parameters.modality = "MRI"
    parameters.model = "starter"
    parameters.overlap = Overlap.KEEP_OTHERS
    parameters.allFrames = True
    parameters.seed = -7
    parameters.spatialPrompts = {"Segment_1": "Liver", "a;b,c": "Left kidney"}
    parameters.excluded = ("x", "y,z")
    parameters.windows = {"Liver": "40/400"}


def test_values_have_defaults_and_their_types(parameters):
    from MedalSLib.slicer.request import Overlap

    assert [getattr(parameters, name) for name in ALL] == ["", "", "starter", Overlap.ALLOW, False, False, False, 0]
    assert (parameters.volume, parameters.segmentation, parameters.region) == (None, None, None)
    assert (parameters.spatialPrompts, parameters.excluded, parameters.windows) == ({}, (), {})


@pytest.mark.parametrize("suffix", ["mrml", "mrb"])
def test_everything_survives_saving_and_loading(parameters, scene, tmp_path, suffix):
    from MedalSLib.slicer.request import Overlap

    fill(parameters, scene)
    path = tmp_path / f"scene.{suffix}"
    if suffix == "mrb":
        assert scene.WriteToMRB(str(path))
    else:
        scene.SetRootDirectory(str(tmp_path))
        scene.SetURL(str(path))
        assert scene.Commit()
    scene.Clear(True)
    assert parameters.prompt == ""
    scene.SetURL(str(path))
    if suffix == "mrb":
        assert scene.ReadFromMRB(str(path), True)
    else:
        assert scene.Import()
    assert parameters.prompt == 'liver, "left kidney"\nfoie; 肝 = µ'
    assert (parameters.modality, parameters.overlap, parameters.allFrames, parameters.seed) == (
        "MRI",
        Overlap.KEEP_OTHERS,
        True,
        -7,
    )
    assert parameters.spatialPrompts == {"Segment_1": "Liver", "a;b,c": "Left kidney"}
    assert (parameters.excluded, parameters.windows) == (("x", "y,z"), {"Liver": "40/400"})
    assert parameters.volume.GetName() == "CT of today"
    assert parameters.segmentation.GetName() == "CT of today segmentation"
    assert parameters.region.GetName() == "R"


def test_a_removed_node_is_none_and_a_closed_scene_starts_anew(parameters, scene):
    fill(parameters, scene)
    scene.RemoveNode(parameters.volume)
    assert parameters.volume is None
    scene.Clear(False)
    parameters.prompt = "spleen"
    assert parameters.prompt == "spleen"
    assert parameters.segmentation is None


@pytest.mark.parametrize(
    ("name", "text", "default"),
    [("seed", "seven", 0), ("allFrames", "perhaps", False), ("spatialPrompts", "[1", {}), ("excluded", '{"a": 1}', ())],
)
def test_a_text_of_another_version_counts_as_the_default(parameters, name, text, default):
    parameters.node.SetParameter(name, text)
    assert getattr(parameters, name) == default


def test_setting_the_same_value_does_not_modify_the_node(parameters):
    parameters.prompt = "liver"
    time = parameters.node.GetMTime()
    parameters.prompt = "liver"
    assert parameters.node.GetMTime() == time


def test_there_is_no_place_for_a_key(parameters):
    from MedalSLib.slicer.parameters import Parameters

    for name in ("apiKey", "key", "token", "password"):
        with pytest.raises(AttributeError, match="keep it out of the scene"):
            setattr(parameters, name, "secret")
    words = ("key", "token", "secret", "password", "url", "host")
    assert not [name for name in vars(Parameters) if any(word in name.lower() for word in words)]
    assert list(parameters.node.GetParameterNames()) == []
