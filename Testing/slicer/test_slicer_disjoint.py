"""An engine's result taken apart: masks that share no voxel, and a mask of each instance."""

from __future__ import annotations

import numpy as np
import pytest
from slicer_host.phantoms import SHAPE, box

from MedalSLib.volume.mask import BoxMask


@pytest.mark.parametrize("seed", range(5))
def test_shared_voxels_go_to_the_most_probable_structure_else_to_the_first(slicer_host, seed):
    from MedalSLib.run import Report, RunResult
    from MedalSLib.slicer.disjoint import disjoint
    from MedalSLib.volume.box_array import BoxArray

    random = np.random.default_rng(seed)
    names = ("a", "b", "c", "d")
    masks = {}
    for name in names:
        masks[name] = box((7, 8, 9), *np.sort(random.integers(0, 8, (3, 2)), axis=1).tolist())
        masks[name] &= random.random((7, 8, 9)) < 0.8
    labelmap = random.integers(0, 5, (7, 8, 9)).astype(np.uint8)
    boxes = {name: BoxMask.of(mask) for name, mask in masks.items()}
    found = disjoint(RunResult(boxes, BoxArray.of(labelmap), names, Report("m", "cpu", "CT")))
    expected = {name: np.zeros((7, 8, 9), bool) for name in names}
    for place in np.ndindex(7, 8, 9):
        have = [name for name in names if masks[name][place]]
        best = names[labelmap[place] - 1] if labelmap[place] else ""
        if have:
            expected[best if best in have else have[0]][place] = True
    assert found == {name: BoxMask.of(mask) for name, mask in expected.items()}


def test_instances_are_cut_out_one_by_one_with_the_numbers_that_are_missing(slicer_host):
    from MedalSLib.slicer.disjoint import instanceMasks
    from MedalSLib.volume.box_array import BoxArray

    labels = np.zeros(SHAPE, np.int32)
    labels[2:4, 2:4, 2:4], labels[10:12, 10:13, 10:14] = 1, 3
    one, two, three = instanceMasks(BoxArray.of(labels))
    assert (one.shape, one.box, one.count()) == (SHAPE, ((2, 4), (2, 4), (2, 4)), 8)
    assert two.is_empty
    assert (three.box, three.count()) == (((10, 12), (10, 13), (10, 14)), 24)
