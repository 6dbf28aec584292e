"""The starter's network and text encoder as one module, and its ways in and out of files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from MedalSLib.network import MedalS, MedalSConfig
from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder

QUERY_DIM = 192
WIDTHS = (24, 32, 64, 128, 160, 160)
PATCH_HWD = (128, 128, 96)
_PROMPT_GAIN = 60.0
_VOXEL_GAIN = 2.0
_SILENT = -0.5
_PART_BYTES = 15 * 2**20


class StarterModel(nn.Module):
    """Both halves of the starter, trained together.

    Args:
        network: Medal S at the starter's widths.
        encoder: Text encoder.
    """

    def __init__(self, network: MedalS, encoder: CompactTextEncoder) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder


def build(deep_supervision: bool, widths: tuple[int, ...] = WIDTHS, query_dim: int = QUERY_DIM) -> StarterModel:
    """Return an untrained starter.

    Images come as 0..255 and the prompt channel as 0..1, so the first convolution's prompt weights begin larger: at
    equal weights a prompt would be a thousandth part of the input's variance.  Mask embeddings end in GELU, so they say
    "no" with -0.17 at most; with few channels that is only heard if the voxel embeddings are larger than 1.
    """
    config = MedalSConfig.small(PATCH_HWD, widths, query_dim, deep_supervision, layers=3)
    network = MedalS(config)
    first = next(module for module in network.modules() if isinstance(module, nn.Conv3d))
    with torch.no_grad():
        first.weight[:, 1] *= _PROMPT_GAIN
        for block in (network.fusion_conv, network.backbone.decoder.stages[-1]):
            norms = [module for module in block.modules() if isinstance(module, nn.InstanceNorm3d)]
            norms[-1].weight.mul_(_VOXEL_GAIN)
    return StarterModel(network, CompactTextEncoder(CompactEncoderConfig(query_dim=query_dim)))


def spread_mask_embeddings(model: StarterModel, texts: Sequence[str], modalities: Sequence[str], patch: Tensor) -> None:
    """Give each structure a code of its own before training begins, in place.

    At the usual initialization the mask embeddings of all structures are nearly the same, and a short training spends
    most of its steps on telling them apart.  Here the last layer of each head is scaled so that a channel varies by 1
    between the structures, and a third of the channels begin below zero for all of them: what is no structure at all
    is said there.

    Args:
        model: Untrained model.
        texts: Names of the structures.
        modalities: Their modalities.
        patch: Any image [1, 1, H, W, D].
    """
    network = model.network
    with torch.no_grad():
        features = network.encode(patch, torch.zeros_like(patch))
        decoded = network.decode_queries(features, model.encoder(texts, modalities)[None])[0]
        heads = [network.mask_embed_proj, *getattr(network, "mid_mask_embed_proj", ())]
        for head in heads:
            *before, last, _ = head
            assert isinstance(last, nn.Linear)
            hidden = nn.Sequential(*before)(decoded)
            values = last(hidden)
            scale = 1.0 / values.std(0).clamp_min(1e-4)
            silent = torch.arange(len(scale)) % 3 == 0
            scale = torch.where(silent, 0.1 * scale, scale)
            last.weight.mul_(scale[:, None])
            last.bias.copy_(torch.where(silent, _SILENT, 0.0) - (last.weight @ hidden.mean(0)))


def write_parts(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> list[Path]:
    """Write tensors to as many safetensors files as keep each under 15 MiB, `name.0.safetensors` and so on."""
    groups: list[dict[str, Tensor]] = [{}]
    used = 0
    for key, value in tensors.items():
        size = value.numel() * value.element_size()
        if used + size > _PART_BYTES and groups[-1]:
            groups.append({})
            used = 0
        groups[-1][key] = value.detach().cpu().contiguous()
        used += size
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, group in enumerate(groups):
        path = folder / f"{name}.{number}.safetensors"
        save_file(group, path)
        paths.append(path)
    return paths


def read_parts(folder: Path, name: str) -> dict[str, Tensor]:
    """Read what `write_parts` wrote; empty if there is nothing of this name."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"{name}.[0-9]*.safetensors")):
        tensors.update(load_file(path))
    return tensors


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def without_training_heads(keys: Iterable[str]) -> list[str]:
    """Return the names that inference needs."""
    return [key for key in keys if ".mid_mask_embed_proj." not in key]
