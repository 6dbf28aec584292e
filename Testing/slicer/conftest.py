"""The Slicer stand-in host for the tests of this room."""

from slicer_host.fixtures import scene, slicer_host, slicer_session

__all__ = ["scene", "slicer_host", "slicer_session"]
