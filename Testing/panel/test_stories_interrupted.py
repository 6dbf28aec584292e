"""Stories: a run is interrupted by the user, and the ground is taken from under it; nothing of his is lost."""

from __future__ import annotations

import numpy as np
import pytest
from stories import LUNGS, dice, same

pytestmark = pytest.mark.slow


@pytest.fixture
def chest(story):
    return story.load_chest()


def slab(volume, low, high):
    """A box of the user's own, across the chest."""
    import slicer

    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, bool)
    mask[low:high, 40:80, 30:90] = True
    return mask


def test_cancel(story, chest):
    story.type("both lungs")
    story.run()
    story.paint("Left lung", (12, 60, 40), 25, erase=True)
    story.draw(chest, "My tumor", slab(chest, 3, 6), story.segmentation)
    before = story.masks(story.segmentation, chest)
    changed = []

    def cancel():
        changed.append(not same(story.masks(story.segmentation, chest), before))
        story.picture("1-before-cancel")
        story.bench.find("cancelButton").click()
        assert not story.bench.find("cancelButton").enabled  # it was heard

    story.type(", aorta")
    done = story.once(story.some_written, cancel)
    story.start_over()
    assert done and changed == [True]  # the run had already filled the hole again
    assert story.message() == "The run was cancelled."
    assert same(story.masks(story.segmentation, chest), before)
    story.picture("2-after-cancel")

    story.start_over()
    assert story.message().startswith("✓ 3 of 3")
    assert np.array_equal(story.masks(story.segmentation, chest)["My tumor"], before["My tumor"])


def test_volume_deleted(story, chest):
    mine = story.draw(chest, "My tumor", slab(chest, 3, 6))
    before = story.masks(mine, chest)
    other = story.load_chest(name="Another chest")
    story.bench.view.inputs.volume.setCurrentNode(chest)
    story.bench.settle()
    story.type("both lungs, aorta")
    done = story.once(story.some_written, lambda: story.scene.RemoveNode(chest))
    story.run()
    assert done and "CTChest4 was removed during the run" in story.message()
    assert same(story.masks(mine, other), before)
    names = [node.GetName() for node in story.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")]
    assert names == ["My drawing"]  # no half of a result stays behind
    story.picture("1-deleted")

    assert story.bench.logic.parameters.volume is other  # the panel has chosen what is left, and can run at once
    story.run()
    assert story.message().startswith("✓ 3 of 3")


def test_scene_closed(story, chest):
    story.type("both lungs, aorta")
    done = story.once(story.some_written, lambda: story.scene.Clear(0))
    story.run()
    assert done and story.slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == []
    assert story.bench.view.prompt.edit.plainText == "" and story.results() == {}
    assert story.message() == "Load an image and choose it as the volume."
    story.picture("1-closed")

    again = story.load_chest(name="Next patient")
    assert story.bench.logic.parameters.volume is again
    story.type("both lungs")
    story.run()
    masks, truth = story.masks(story.segmentation, again), story.truth(again)
    assert all(dice(masks[name], truth[name]) > 0.8 for name in LUNGS)
