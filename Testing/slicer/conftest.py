"""The Slicer stand-in host, a volume and an editor for the tests of this room."""

import pytest
from slicer_host.fixtures import scene, slicer_host, slicer_session
from slicer_host.phantoms import SHAPE, addVolume, affine

__all__ = ["scene", "slicer_host", "slicer_session"]


@pytest.fixture
def ct(scene):  # pytest hands fixtures in by name
    return addVolume(scene, SHAPE, affine((2, 2, 2)))


@pytest.fixture
def editing(scene):
    from MedalSLib.slicer.editing import SegmentEditing

    return SegmentEditing(scene)
