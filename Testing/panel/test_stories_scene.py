"""Stories: a scene is saved and loaded, patients are switched, two readers have a segmentation each."""

from __future__ import annotations

import numpy as np
import pytest
from stories import LUNGS, UPPER, dice, same

pytestmark = pytest.mark.slow


@pytest.fixture
def chest(story):
    return story.load_chest()


def choose_volume(story, node):
    story.bench.view.inputs.volume.setCurrentNode(node)
    story.bench.settle()


def choose_segmentation(story, node):
    story.bench.view.inputs.segmentation.setCurrentNode(node)
    story.bench.settle()


def identifiers(node):
    inside = node.GetSegmentation()
    return {inside.GetSegment(one).GetName(): one for one in inside.GetSegmentIDs()}


def test_save_and_load(story, chest, tmp_path):
    story.type("both lungs")
    story.run()
    mine = np.zeros(story.slicer.util.arrayFromVolume(chest).shape, bool)
    mine[9:12, 50:60, 40:50] = True
    story.draw(chest, "Pacemaker", mine, story.segmentation)
    story.choose("overlapCombo", "keep")
    story.bench.role("Pacemaker", "Keep out")
    before, ids = story.masks(story.segmentation, chest), identifiers(story.segmentation)
    path = str(tmp_path / "study.mrb")
    assert story.scene.WriteToMRB(path)

    story.scene.Clear(0)
    story.bench.settle()
    assert story.bench.view.prompt.edit.plainText == "" and story.bench.table("structuresTable") == []
    assert story.scene.ReadFromMRB(path, True)
    story.bench.settle()
    again = story.bench.logic.parameters.volume
    assert again.GetName() == "CTChest4"
    assert same(story.masks(story.segmentation, again), before)
    assert story.bench.view.prompt.edit.plainText == "both lungs"
    assert story.bench.find("overlapCombo").currentText == "the other segment keeps them"
    roles = {name: row[2] for name, row in story.bench.structures().items()}
    assert roles == {"Left lung": "…", "Right lung": "…", "Pacemaker": "keep out"}
    story.views.renew()
    story.views.show(again)
    story.picture("1-loaded")

    story.type(", aorta")
    story.run()
    assert story.message().startswith("✓ 3 of 3")
    now = identifiers(story.segmentation)
    assert {name: now[name] for name in ids} == ids and set(now) == {*ids, "Aorta"}  # nothing was added twice
    assert np.array_equal(story.masks(story.segmentation, again)["Pacemaker"], before["Pacemaker"])


def test_switch_volumes(story, chest):
    story.type("both lungs")
    story.run()
    first, results = story.segmentation, story.masks(story.segmentation, chest)
    other = story.load_chest(UPPER, "Second patient")
    choose_volume(story, other)
    assert story.segmentation is None and story.bench.find("volumeNote").text.startswith("126 x 126 x 25")
    assert story.bench.table("structuresTable") == [] and not story.bench.find("structuresTable").visible
    assert story.message() == "The last result is in CTChest4, CTChest4 segmentation."  # it is not this patient's
    story.picture("1-second-patient")
    story.run()
    second = story.segmentation
    assert second is not first and same(story.masks(first, chest), results)
    for node, volume in ((first, chest), (second, other)):
        masks, truth = story.masks(node, volume), story.truth(volume)
        assert all(dice(masks[name], truth[name]) > 0.8 for name in LUNGS)
    choose_volume(story, chest)
    assert story.segmentation is first and story.bench.view.refine.editor.segmentationNode() is first


def test_switch_volumes_in_mid_run(story, chest):
    """The run ends where it began; the panel shows what the user chose meanwhile."""
    other = story.load_chest(UPPER, "Second patient")
    choose_volume(story, chest)
    story.type("both lungs, aorta")
    done = story.once(story.some_written, lambda: story.bench.view.inputs.volume.setCurrentNode(other))
    story.run()
    assert (
        done
        and story.message().startswith("The last result is in CTChest4")
        and story.bench.table("structuresTable") == []
    )
    (node,) = story.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    masks, truth = story.masks(node, chest), story.truth(chest)
    assert all(dice(masks[name], truth[name]) > 0.8 for name in LUNGS) and masks["Aorta"].any()
    assert story.bench.logic.parameters.volume is other and story.segmentation is None
    story.picture("1-switched")
    choose_volume(story, chest)
    assert story.message().startswith("✓ 3 of 3") and story.bench.find("structuresTable").visible
    assert story.segmentation is node and set(story.bench.structures()) == set(masks)


def test_two_segmentations(story, chest):
    story.type("both lungs")
    story.run()
    first = story.segmentation
    story.paint("Left lung", (12, 60, 40), 25, erase=True)
    reading = story.masks(first, chest)

    second = story.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Second reader")
    choose_segmentation(story, second)
    assert story.bench.table("structuresTable") == []
    story.run()
    assert story.segmentation is second and set(story.masks(second, chest)) == set(LUNGS)
    assert same(story.masks(first, chest), reading)
    assert story.masks(second, chest)["Left lung"].sum() > reading["Left lung"].sum()
    names = {node.GetName() for node in story.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")}
    assert names == {"CTChest4 segmentation", "Second reader"}
    story.picture("1-two")

    story.press("undoButton")
    assert story.masks(second, chest) == {} and same(story.masks(first, chest), reading)
    story.press("redoButton")
    assert set(story.masks(second, chest)) == set(LUNGS)
    choose_segmentation(story, first)
    assert {name: row[1] for name, row in story.bench.structures().items()} == {
        "Left lung": "✎ corrected",
        "Right lung": "",
    }
    story.run()  # what he erased before the other's turn is still known as his
    assert "1 refined" in story.message() and same(story.masks(first, chest), reading) is False
    assert set(story.masks(second, chest)) == set(LUNGS)
