"""A model as ONNX: one graph for each network, the queries of its texts, and what is needed to run them.

The text encoder is not exported: texts become queries here, once for each class the model knows.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MedalSLib.atomic_files import empty_folder, write_json
from MedalSLib.errors import OutputError, ResourceError
from MedalSLib.network.bundle import Model
from MedalSLib.network.medals import MedalS
from MedalSLib.records import to_json
from MedalSLib.vocabulary import describe, text_for

QUERIES, FACTS = "queries.npz", "model.json"
_OPSET = 18
_FEW = 2
"""Queries of the example that is traced; graphs take any number."""


class _Whole(nn.Module):
    """A network from queries and prompts to logits, with the mixing of prompts as published.

    `MedalS` folds mask embeddings into the kernel of a convolution, which not every runtime can do.
    """

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.network = network

    def forward(self, queries: Tensor, image: Tensor, union_prompt: Tensor, class_prompts: Tensor) -> Tensor:
        """Return logits [1, N, H, W, D] (see `MedalS.forward`)."""
        features = self.network.encode(image, union_prompt)
        embeddings = self.network.mask_embeddings(features, queries)
        mixed = torch.bmm(embeddings.transpose(1, 2), class_prompts.flatten(2)).unflatten(2, class_prompts.shape[2:])
        fused = self.network.fusion_conv(torch.cat((features.embedding, mixed), dim=1))
        return MedalS.project(fused, embeddings)


def export_onnx(model: Model, folder: Path) -> list[Path]:
    """Write a model as ONNX.

    Args:
        model: The model, on the CPU.
        folder: An empty folder, or one that does not exist yet.

    Returns:
        The files: `stage1.onnx` and so on, with the inputs `queries` [1, N, query_dim], `image` [1, 1, H, W, D] of
        0..255, `union_prompt` [1, 1, H, W, D] and `class_prompts` [1, N, H, W, D] (zeros without prompts), and the
        output `logits` [1, N, H, W, D]; `queries.npz` with the model's classes; `model.json` with grids and windows.

    Raises:
        ResourceError: The package onnx is not installed.
        OutputError: The folder is not empty, or cannot be written.
    """
    try:
        import onnx  # noqa: F401 - torch needs it
    except ImportError as error:
        raise ResourceError("ONNX files need the package onnx.", "Install it with: pip install onnx.") from error
    empty_folder(folder)
    manifest, files = model.manifest, []
    try:
        for stage in manifest.stages:
            files.append(folder / f"stage{stage.stage}.onnx")
            _export(model.network(stage.stage), stage.patch_hwd, files[-1])
        structures = [describe(key) for key in manifest.classes]
        queries = model.encode([(text_for(item), item.modality) for item in structures]).cpu().numpy()
        np.savez_compressed(folder / QUERIES, classes=np.array(manifest.classes, dtype=np.str_), queries=queries)
    except OSError as error:
        raise OutputError(
            f"The model cannot be written to {folder} ({error}).", "Check the space that is left."
        ) from error
    facts: dict[str, Any] = {
        "name": manifest.name, "version": manifest.version, "licence": manifest.licence,
        "orientation": manifest.orientation,
        "axes": "H, W, D are y, x, z; x grows to the patient's left, y to the back, z to the head",
        "intensities": "0..255 after the window, no further normalisation",
        "windows": {item.key: item.window for item in structures} | manifest.windows,
        "stages": [
            {"stage": stage.stage, "file": f"stage{stage.stage}.onnx", "spacing_hwd": list(stage.spacing_hwd),
             "patch_hwd": list(stage.patch_hwd), "by_modality": to_json(stage)["by_modality"]}
            for stage in manifest.stages
        ],
    }  # fmt: skip
    write_json(folder / FACTS, facts)
    return [*files, folder / QUERIES, folder / FACTS]


def _export(network: MedalS, patch: tuple[int, int, int], path: Path) -> None:
    query, image = torch.rand(1, _FEW, network.config.query_dim), torch.rand(1, 1, *patch)
    prompts = torch.rand(1, _FEW, *patch)
    number = {1: "N"}
    # With gradients: without them layers work in place, which is traced wrongly.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that are fixed, as they are meant to be
        torch.onnx.export(
            _Whole(network).eval(),
            (query, image, torch.rand(1, 1, *patch), prompts),
            str(path),
            input_names=["queries", "image", "union_prompt", "class_prompts"],
            output_names=["logits"],
            dynamic_axes={"queries": number, "class_prompts": number, "logits": number},
            opset_version=_OPSET,
            dynamo=False,
        )
