"""The network, its text encoders, their checkpoints, and the registry of models.

`MedalS` and the encoders need torch; names are loaded on first use, so that listing models stays quick without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from MedalSLib.network.checkpoints import load_published
    from MedalSLib.network.config import MedalSConfig
    from MedalSLib.network.medals import MedalS, VoxelFeatures

__all__ = ["MedalS", "MedalSConfig", "VoxelFeatures", "load_published"]

_HOMES = {
    "MedalS": "MedalSLib.network.medals",
    "MedalSConfig": "MedalSLib.network.config",
    "VoxelFeatures": "MedalSLib.network.medals",
    "load_published": "MedalSLib.network.checkpoints",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
