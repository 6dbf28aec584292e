"""Network, text encoder and queries of a run, new or from a model that is there already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from MedalSLib.errors import InputError, ModelError
from MedalSLib.network.compact_encoder import CompactEncoderConfig, CompactTextEncoder
from MedalSLib.network.frozen_queries import Encode, FrozenQueries
from MedalSLib.network.medals import MedalS
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe

Freeze = Literal["nothing", "image_encoder", "backbone"]
FREEZE_CHOICES: tuple[Freeze, ...] = ("nothing", "image_encoder", "backbone")


def new_model(recipe: Recipe) -> PromptedModel:
    """Return a model with random weights, the same for the same seed.

    Raises:
        InputError: The recipe is one of a fine-tuning, or does not say where the frozen text encoder is.
        ModelError: The frozen text encoder is missing, or its queries do not fit the network.
    """
    if recipe.text.encoder == "base":
        raise InputError('The text encoder "base" needs a model to start from.', "Use medals fine-tune.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = MedalS(recipe.network_config())
        if recipe.text.encoder == "compact":
            config = CompactEncoderConfig(query_dim=network.config.query_dim, hidden=recipe.text.hidden)
            return PromptedModel(network, CompactTextEncoder(config))
    return PromptedModel(network, None, FrozenQueries(_knowledge_encoder(recipe)))


def _knowledge_encoder(recipe: Recipe) -> nn.Module:
    from MedalSLib.network.text_encoder import KnowledgeTextEncoder

    if not recipe.text.folder:
        raise InputError(
            'The recipe uses the published text encoder, but "text.folder" is empty.',
            "Set it to the folder with text_encoder.pth and BioLORD-2023-C (--text-encoder FOLDER).",
        )
    if recipe.network_config().query_dim != 768:
        raise ModelError("The published text encoder gives queries of 768 numbers.", "Set network.query_dim to 768.")
    return KnowledgeTextEncoder.from_folder(Path(recipe.text.folder))


def model_from(network: MedalS, encode: Encode, image_size: tuple[int, int, int]) -> PromptedModel:
    """Return a model to fine-tune: an opened network with the text encoder that it has.

    The text encoder stays as it is: its queries are shared with the model's other stage.  There is no deep
    supervision: an opened network has no heads for it, and new ones would begin at random with half of the loss.

    Args:
        network: The network to start from.
        encode: Its text encoder.
        image_size: Patch it will be trained on.
    """
    trained = MedalS(replace(network.config, deep_supervision=False, image_size=image_size))
    try:
        trained.load_state_dict(network.state_dict())
    except RuntimeError as error:
        raise ModelError(
            f"The network to start from does not fit ({str(error).splitlines()[-1].strip()}).", "Choose another."
        ) from error
    return PromptedModel(trained, None, encode)


def freeze(model: PromptedModel, what: Freeze) -> None:
    """Stop all of the U-Net ("backbone") or its descending half ("image_encoder") from learning, or "nothing"."""
    if what == "backbone":
        model.network.backbone.requires_grad_(False)
    elif what == "image_encoder":
        model.network.backbone.encoder.requires_grad_(False)
