"""Model folders small enough for tests: a two-stage model of ours with random weights, and a published-looking one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.manifest import Manifest, StageManifest, TextEncoderManifest, write_manifest
from MedalSLib.network.medals import MedalS
from MedalSLib.network.weights_file import save_weights

CLASSES = ("CT_Liver", "CT_Left kidney", "MRI_Liver")


def small_config(
    image_size: tuple[int, int, int], widths: tuple[int, ...], query_dim: int, layers: int = 3
) -> MedalSConfig:
    """Return the published architecture with few channels, each further stage at half the resolution."""
    hidden = -(-max(4 * widths[0], query_dim // 3) // 8) * 8
    return MedalSConfig(
        image_size=image_size,
        widths=widths,
        strides=(1,) + (2,) * (len(widths) - 1),
        query_dim=query_dim,
        heads=next(count for count in (8, 4, 2, 1) if query_dim % count == 0),
        ffn_dim=-(-query_dim * 8 // 3 // 8) * 8,
        layers=layers,
        mask_hidden=hidden,
        deep_hidden=(hidden,) * min(3, max(len(widths) - 2, 0)),
    )


def write_tiny_model(
    folder: Path,
    name: str = "tiny",
    classes: tuple[str, ...] = CLASSES,
    patch: tuple[int, int, int] = (32, 32, 64),
    contrast: float = 1.0,
    widths: tuple[int, ...] = (4, 4, 8, 8, 8, 8),
) -> Manifest:
    """Write a two-stage model with a compact text encoder and random (seeded) weights of a few hundred kilobytes.

    Random weights are never sure of anything, so at a `contrast` of 1 every structure is absent.  Another contrast
    scales the mask embeddings and shifts the voxel embeddings, so that about half of the voxels are in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stages = []
    for stage, spacing in (("1", (1.5, 1.5, 3.0)), ("2", (1.0, 1.0, 1.0))):
        torch.manual_seed(int(stage))
        network = MedalS(small_config(patch, widths=widths, query_dim=16, layers=1))
        if contrast != 1.0:
            with torch.no_grad():
                network.mask_embed_proj[-2].weight *= contrast
                norms = [part for part in network.fusion_conv.modules() if isinstance(part, torch.nn.InstanceNorm3d)]
                norms[-1].bias -= 1.0
        file = f"stage{stage}.safetensors"
        checksum = save_weights(folder / file, network, classes, "nothing: random weights", "CC0-1.0")
        stages.append(StageManifest(stage, spacing, patch, file, checksum, network.config.to_dict()))
    torch.manual_seed(3)
    encoder = CompactTextEncoder(CompactEncoderConfig(query_dim=16, buckets=64, width=8, hidden=16))
    checksum = save_weights(folder / "text.safetensors", encoder, classes)
    manifest = Manifest(
        name=name,
        version="0.1",
        title="Random weights for tests",
        licence="CC0-1.0",
        licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
        classes=classes,
        stages=tuple(stages),
        text_encoder=TextEncoderManifest("compact", ("text.safetensors",), {"text.safetensors": checksum}),
    )
    write_manifest(folder, manifest)
    return manifest


def blocky_image(seed: int, cells: tuple[int, int, int], voxels: tuple[int, int, int]) -> np.ndarray:
    """Return Hounsfield-like intensities (K, J, I) with structure at two scales: cells of so many voxels, and noise."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 150, cells)
    for axis, count in enumerate(voxels):
        coarse = coarse.repeat(count, axis)
    return (coarse + random.normal(0, 20, coarse.shape)).astype(np.int16)


def write_published_lookalike(folder: Path, shapes: Path) -> None:
    """Write files under the published names: networks of the published shapes (constant weights), no real text encoder.

    Args:
        folder: Where to.
        shapes: `network_state_dict_shapes.json` of the golden figures.
    """
    (folder / "BioLORD-2023-C").mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / "BioLORD-2023-C" / name).write_text("{}")
    weights = {
        "module." + key: torch.full((1,), 0.01).expand(shape) for key, shape in json.loads(shapes.read_text()).items()
    }
    for part in ("224_224_128_spacing_1.5_1.5_3.0_step_358600", "192_192_192_spacing_1.0_1.0_1.0_step_341300"):
        content = {"step": np.int64(1), "model_state_dict": weights}
        torch.save(content, folder / f"nano_UNet_CVPR2025_crop_size_{part}.pth")
    torch.save({"step": 1, "model_state_dict": {"module.temperature": torch.zeros(1)}}, folder / "text_encoder.pth")
