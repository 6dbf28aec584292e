"""Stories: a result is corrected with the editor's brush and refined, taken back, brought again, and fenced in."""

from __future__ import annotations

import numpy as np
import pytest
from stories import LUNGS, dice, same

from MedalSLib.volume.geometry import Grid

pytestmark = pytest.mark.slow

REACH_MM = 20.0
"""How far around the strokes a refinement may go (the tutorial's "surroundings")."""


@pytest.fixture
def chest(story):
    return story.load_chest()


@pytest.fixture
def lungs(story, chest):
    """The story after a run for both lungs; returns their masks."""
    story.type("both lungs")
    story.run()
    return story.masks(story.segmentation, chest)


def depth(mask, volume):
    """Distance of each voxel of a mask to its border, in mm."""
    from scipy import ndimage

    return ndimage.distance_transform_edt(mask, sampling=volume.GetSpacing()[::-1])


def far_from(strokes, volume):
    """Voxels that no refinement of these strokes may change."""
    near = np.zeros(strokes.shape, bool)
    reach = [int(np.ceil(REACH_MM / step)) for step in volume.GetSpacing()[::-1]]
    bounds = [(low.min(), low.max() + 1) for low in np.nonzero(strokes)]
    near[tuple(slice(max(low - by, 0), high + by) for (low, high), by in zip(bounds, reach, strict=True))] = True
    return ~near


def test_paint_erase_and_refine(story, chest, lungs):
    inside = np.unravel_index(np.argmax(depth(lungs["Left lung"], chest)), lungs["Left lung"].shape)
    distance = depth(~lungs["Left lung"], chest)
    beside = np.argwhere((distance > 9) & (distance < 14) & ~lungs["Right lung"])
    beside = beside[beside[:, 0] == inside[0]][0]
    erased = story.paint("Left lung", inside, 14, erase=True)
    painted = story.paint("Left lung", beside, 8) & ~lungs["Left lung"]
    assert painted.any()
    before = story.masks(story.segmentation, chest)
    story.check_volumes(chest)  # the brush counts at once
    story.bench.slicer.vtkMRMLSliceNode.JumpAllSlices(story.scene, *place(chest, inside))
    story.picture("1-painted")

    story.run()
    after = story.masks(story.segmentation, chest)
    assert story.message().startswith("✓ 1 refined") and "refined" in story.results()["Left lung"][1]
    assert after["Left lung"][painted].all() and not after["Left lung"][erased].any()
    far = far_from(erased | painted, chest)
    assert np.array_equal(after["Left lung"][far], before["Left lung"][far])
    assert np.array_equal(after["Right lung"], before["Right lung"])
    story.check_volumes(chest)  # of the whole lung, although the refinement looked at a part of it
    story.picture("2-refined")

    story.press("undoButton")
    assert same(story.masks(story.segmentation, chest), before)
    story.press("redoButton")
    assert same(story.masks(story.segmentation, chest), after)
    story.bench.settle()
    assert "Left lung" in story.bench.find("replacedLabel").text  # only starting over would undo the correction
    story.run()
    assert "refined" in story.results()["Left lung"][1]
    assert same(story.masks(story.segmentation, chest), after)


def place(volume, index):
    """World position of a voxel (k, j, i)."""
    from MedalSLib.slicer.volumes import gridOf

    grid: Grid = gridOf(volume)
    return grid.index_to_ras(np.asarray(index[::-1], float))


def test_undo_and_redo(story, chest):
    """The user's segment loses voxels to the run; one undo gives them back, one redo takes them again."""
    mine = np.zeros(story.slicer.util.arrayFromVolume(chest).shape, bool)
    mine[8:14, 30:90, 20:100] = True
    node = story.draw(chest, "My tumor", mine)
    story.bench.view.inputs.segmentation.setCurrentNode(node)
    story.choose("overlapCombo", "overwrite")
    before = story.masks(node, chest)
    story.type("both lungs, aorta")
    story.run()
    after = story.masks(node, chest)
    assert story.segmentation is node and set(after) == {"My tumor", *LUNGS, "Aorta"}
    assert 0 < after["My tumor"].sum() < before["My tumor"].sum()
    colors = colors_of(node)

    story.press("undoButton")
    assert same(story.masks(node, chest), before)
    assert {name for name, row in story.results().items() if row[1] == "- no longer there"} == {*LUNGS, "Aorta"}
    story.picture("1-undone")
    story.press("redoButton")
    assert same(story.masks(node, chest), after) and colors_of(node) == colors
    story.check_volumes(chest)
    story.picture("2-redone")


def colors_of(node):
    inside = node.GetSegmentation()
    return {inside.GetSegment(one).GetName(): inside.GetSegment(one).GetColor() for one in inside.GetSegmentIDs()}


def test_rough_drawing_as_prompt(story, chest):
    """A rough box stands for the left lung and becomes its result; another one is kept out of."""
    truth = story.truth(chest)["Left lung"]
    rough = np.zeros_like(truth)
    k, j, i = (slice(low.min() + 2, low.max() - 1) for low in np.nonzero(truth))
    rough[k, j, i] = True
    device = np.zeros_like(truth)
    center = np.unravel_index(np.argmax(depth(truth, chest)), truth.shape)
    device[tuple(slice(index - 1, index + 2) for index in center)] = True
    node = story.draw(chest, "left lung", rough)
    story.draw(chest, "Pacemaker", device, node)
    story.bench.view.inputs.segmentation.setCurrentNode(node)
    story.bench.settle()
    assert set(story.bench.structures()) == {"left lung", "Pacemaker"}
    story.bench.role("left lung", "A prompt")
    story.bench.role("Pacemaker", "Keep out")
    story.run()
    after = story.masks(node, chest)
    assert set(after) == {"left lung", "Pacemaker"}
    assert np.array_equal(after["Pacemaker"], device) and not (after["left lung"] & device).any()
    assert dice(after["left lung"], truth) > dice(rough, truth)
    story.picture("1-result")
