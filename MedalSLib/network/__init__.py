"""The network, its text encoders, their weights, and the registry of models.

Network (the published architecture, arXiv 2511.13001):
- `MedalS` (in `medals`) is built from `unet`, `position` and `query_decoder` by a `MedalSConfig`.  Its axes are
  (H, W, D) = (y, x, z), as published.
- `gpu_network` and `openvino_network` run the same weights faster; `MedalS` is the reference they are tested against.

Text encoders: `KnowledgeTextEncoder` (in `text_encoder`) is the published one, `compact_encoder` with `text_features`
the small one of models that this project trains; `modality_rows` is the modality's input to both.

Files:
- `checkpoints` reads published `.pth` files without running their pickle, `weights_file` our safetensors.
- `manifest` describes a model's folder, `published` the folder of the published files, which has no manifest.
- `registry` lists, installs, verifies and removes models, with `install_sources` and `download`.
- `bundle.open_model` gives an opened `Model`: networks and text encoder, loaded on first use.

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
