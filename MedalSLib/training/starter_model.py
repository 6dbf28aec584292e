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
_YES, _NO = 1.2, -0.6
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


def assign_codes(model: StarterModel, texts: Sequence[str], modalities: Sequence[str], patch: Tensor) -> None:
    """Give each structure voxel channels of its own before training begins, in place.

    Mask embeddings end in GELU: they say "yes" with any number and "no" with -0.17 at most, where GELU has no gradient.
    From the usual initialization a short training first learns "no" for everything and hardly comes back (seen in
    several runs).  So the last layer of each head is fitted to codes that can be told apart from the first step on:
    the channels are dealt out among the names in turn, and a structure says "yes" on its own and "no" on all others.

    Args:
        model: Untrained model.
        texts: Names of the structures, at most as many different ones as the network has voxel channels.
        modalities: Their modalities; the same name in two modalities gets the same code.
        patch: Any image [1, 1, H, W, D].
    """
    network = model.network
    order = {name: number for number, name in enumerate(dict.fromkeys(texts))}
    owners = torch.tensor([order[name] for name in texts])
    with torch.no_grad():
        features = network.encode(patch, torch.zeros_like(patch))
        decoded = network.decode_queries(features, model.encoder(texts, modalities)[None])[0]
        for head in (network.mask_embed_proj, *getattr(network, "mid_mask_embed_proj", ())):
            *before, last, _ = head
            assert isinstance(last, nn.Linear)
            hidden = nn.Sequential(*before)(decoded).cpu()  # where this solver is
            channels = torch.arange(last.out_features) % len(order)
            wanted = torch.where(channels[None] == owners[:, None], _YES, _NO)
            with_bias = torch.cat((hidden, torch.ones(len(hidden), 1)), dim=1)
            fitted = torch.linalg.lstsq(with_bias, wanted, driver="gelsd").solution
            last.weight.copy_(fitted[:-1].T)
            last.bias.copy_(fitted[-1])


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
