"""A stand-in for the 3D Slicer application around Slicer's real core, for tests without the application.

The scene, the nodes and the module logics are Slicer's own, from the package `slicer-core`.  Only what that package
lacks is stood in for, in `modules/slicer`: `ScriptedLoadableModule`, `i18n` and `packaging`, with the names that
Slicer's sources have and nothing else, so that a test cannot pass on an interface which does not exist.
"""

from __future__ import annotations

from slicer_host.boot import SlicerHost, host, why_not

__all__ = ["SlicerHost", "host", "why_not"]
