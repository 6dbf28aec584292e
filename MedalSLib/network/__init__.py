"""The network, its text encoders, their weights, and the registry of models.

Network (the published architecture, arXiv 2511.13001):
- `MedalS` (in `medals`) is built from `unet`, `position` and `query_decoder` by a `MedalSConfig`.  Its axes are
  (H, W, D) = (y, x, z), as published.
- `gpu_network` and `openvino_network` run the same weights faster; `MedalS` is the reference they are tested against.

Text encoders: `KnowledgeTextEncoder` (in `text_encoder`) is the published one, `compact_encoder` with `text_features`
the small one of models that this project trains; `modality_rows` is the modality's input to both, and
`frozen_queries` keeps what they have encoded.

Files:
- `checkpoints` reads published `.pth` files without running their pickle, `weights_file` our safetensors.
- `manifest` describes a model's folder, `published` the folder of the published files, which has no manifest.
- `registry` lists, installs, verifies and removes models, with `install_sources` and `download`.
- `bundle.open_model` gives an opened `Model`: networks and text encoder, loaded on first use.
- `onnx_export` and `monai_bundle` write one for other programs.

`registry` and what it imports need no torch, so that listing models stays quick.
"""
