"""The starter's weights before training: what must not be left to chance in a short run of a small network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from MedalSLib.training.building import new_model
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe
from tools.starter.data_source import SynthesisSource

_PROMPT_GAIN = 60.0
_VOXEL_GAIN = 2.0
_YES, _NO = 1.2, -0.6


def new_starter(recipe: Recipe, source: SynthesisSource) -> PromptedModel:
    """Return an untrained starter, the same for the same seed.

    Images come as 0..255 and the prompt channel as 0..1, so the first convolution's prompt weights begin larger: at
    equal weights a prompt would be a thousandth part of the input's variance.  Mask embeddings end in GELU, so they say
    "no" with -0.17 at most; with few channels that is only heard if the voxel embeddings are larger than 1.

    Args:
        recipe: The recipe.
        source: Its data source; says what is taught, and gives a patch to fit codes on.
    """
    model = new_model(recipe)
    network = model.network
    first = next(module for module in network.modules() if isinstance(module, nn.Conv3d))
    with torch.no_grad():
        first.weight[:, 1] *= _PROMPT_GAIN
        for block in (network.fusion_conv, network.backbone.decoder.stages[-1]):
            norms = [module for module in block.modules() if isinstance(module, nn.InstanceNorm3d)]
            norms[-1].weight.mul_(_VOXEL_GAIN)
    known = source.settings.classes()
    assign_codes(model, [one.name for one in known], [one.modality for one in known], source.batch(0).image[:1].cpu())
    return model


def assign_codes(model: PromptedModel, texts: Sequence[str], modalities: Sequence[str], patch: Tensor) -> None:
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
    assert model.encoder is not None
    order = {name: number for number, name in enumerate(dict.fromkeys(texts))}
    owners = torch.tensor([order[name] for name in texts])
    with torch.no_grad():
        features = network.encode(patch, torch.zeros_like(patch))
        decoded = network.decode_queries(features, model.encoder(texts, modalities)[None])[0]
        for head in (network.mask_embed_proj, *getattr(network, "mid_mask_embed_proj", ())):
            *before, last, _ = head
            assert isinstance(last, nn.Linear)
            hidden = nn.Sequential(*before)(decoded)
            channels = torch.arange(last.out_features) % len(order)
            wanted = torch.where(channels[None] == owners[:, None], _YES, _NO)
            with_bias = torch.cat((hidden, torch.ones(len(hidden), 1)), dim=1)
            fitted = torch.linalg.lstsq(with_bias, wanted, driver="gelsd").solution
            last.weight.copy_(fitted[:-1].T)
            last.bias.copy_(fitted[-1])
