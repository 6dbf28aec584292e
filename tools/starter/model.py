"""The starter's weights before training: what must not be left to chance in a short run of a small network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from MedalSLib.errors import InputError
from MedalSLib.network.manifest import read_manifest
from MedalSLib.network.medals import HEADS
from MedalSLib.network.weights_file import load_compact_encoder, load_network
from MedalSLib.training.building import new_model
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe
from tools.starter.data_source import SynthesisSource

_PROMPT_GAIN = 60.0
_VOXEL_GAIN = 2.0
_VOXEL_SHRINK = 0.5
"""Of trained voxel embeddings, which are ten times larger than new ones, so that new codes are not too sure."""
_YES, _NO = 1.2, -0.6
_FEWEST_SLOTS = 8
_BATCHES_A_PLAN = 2


def new_starter(recipe: Recipe, source: SynthesisSource, base: Path | None = None) -> PromptedModel:
    """Return a starter before training, the same for the same seed.

    Images come as 0..255 and the prompt channel as 0..1, so the first convolution's prompt weights begin larger: at
    equal weights a prompt would be a thousandth part of the input's variance.  Mask embeddings end in GELU, so they say
    "no" with -0.17 at most; with few channels that is only heard if the voxel embeddings are larger than 1.

    Args:
        recipe: The recipe.
        source: Its data source; says what is taught, and gives patches to fit codes on.
        base: Folder of an older starter whose weights it begins with; None to begin with random ones.

    Raises:
        InputError: The older starter is of another network.
    """
    model = new_model(recipe)
    if base is None:
        _prepare(model)
    else:
        _take_over(model, base)
    assign_codes(model, source, source.settings.coded if base is not None else ())
    return model


def _prepare(model: PromptedModel) -> None:
    network = model.network
    first = next(module for module in network.modules() if isinstance(module, nn.Conv3d))
    with torch.no_grad():
        first.weight[:, 1] *= _PROMPT_GAIN
        for block in (network.fusion_conv, network.backbone.decoder.stages[-1]):
            norms = [module for module in block.modules() if isinstance(module, nn.InstanceNorm3d)]
            norms[-1].weight.mul_(_VOXEL_GAIN)


def _take_over(model: PromptedModel, base: Path) -> None:
    """Load the weights of an older starter, which has no deep-supervision heads."""
    manifest = read_manifest(base)
    assert model.encoder is not None
    try:
        weights = load_network(base / manifest.stage("1").weights).state_dict()
        missing, extra = model.network.load_state_dict(weights, strict=False)
        model.encoder.load_state_dict(load_compact_encoder(base / manifest.text_encoder.files[0]).state_dict())
    except RuntimeError as error:
        raise InputError(f"The model in {base} is of another network.", "Begin without --base.") from error
    if extra or any(not key.startswith(HEADS) for key in missing):
        raise InputError(f"The model in {base} is of another network.", "Begin without --base.")
    norms = [module for module in model.network.fusion_conv.modules() if isinstance(module, nn.InstanceNorm3d)]
    with torch.no_grad():
        norms[-1].weight.mul_(_VOXEL_SHRINK)
        norms[-1].bias.mul_(_VOXEL_SHRINK)


def channel_owners(names: Sequence[str], width: int, coded: Sequence[str] = ()) -> list[str | None]:
    """Return, channel by channel, the structure whose own it is.

    Structures of one modality never share a channel as long as there are enough; those of different modalities do,
    since they are never asked for together.

    Args:
        names: The structures of a modality.
        width: Channels.
        coded: Structures that have channels already, dealt out in turn: they keep every channel of the first round, and
            what the later rounds are used for is decided in turns.
    """
    new: list[str | None] = [name for name in names if name not in coded]
    new += [None] * max(0, _FEWEST_SLOTS - len(names))
    owners: list[str | None] = []
    dealt = 0
    for channel in range(width):
        older = coded[channel % len(coded)] if coded else None
        if older in names and (channel // len(coded) % 2 == 0 or not new):
            owners.append(older)
        else:
            owners.append(new[dealt % len(new)])
            dealt += 1
    return owners


def assign_codes(model: PromptedModel, source: SynthesisSource, coded: Sequence[str] = ()) -> None:
    """Give each structure voxel channels of its own before training begins, in place.

    Mask embeddings end in GELU: they say "yes" with any number and "no" with -0.17 at most, where GELU has no gradient.
    From the usual initialization a short training first learns "no" for everything and hardly comes back (seen in
    several runs).  So the last layer of each head is fitted to codes that can be told apart from the first step on: a
    structure says "yes" on its own channels and "no" on all others.

    Args:
        model: The model.
        source: Its data source: what is taught, and patches on which codes are fitted.
        coded: Structures that the weights know already, in the order of their codes.  They are coded anew like all
            others: what training left of their codes is so faint that new structures would drown them (seen in a run
            whose liver, spleen and stomach were forgotten within 400 steps).
    """
    network = model.network
    modalities = dict.fromkeys(known.modality for known in source.settings.classes())
    names = {
        modality: [known.name for known in source.settings.classes() if known.modality == modality]
        for modality in modalities
    }
    asked: list[tuple[str, str]] = []  # modality and name
    decoded: list[Tensor] = []
    with torch.no_grad():
        for modality, patch in _patches(source):
            features = network.encode(patch, torch.zeros_like(patch))
            queries = model.queries([names[modality]], [modality], patch.device)
            decoded.append(network.decode_queries(features, queries)[0])
            asked.extend((modality, name) for name in names[modality])
        rows = torch.cat(decoded)
        for head in (network.mask_embed_proj, *getattr(network, "mid_mask_embed_proj", ())):
            *before, last, _ = head
            assert isinstance(last, nn.Linear)
            owners = {modality: channel_owners(names[modality], last.out_features, coded) for modality in names}
            own = torch.tensor([[owner == name for owner in owners[modality]] for modality, name in asked])
            wanted = torch.where(own, _YES, _NO)
            hidden = nn.Sequential(*before)(rows)
            with_bias = torch.cat((hidden, torch.ones(len(hidden), 1)), dim=1)
            change = torch.linalg.lstsq(with_bias, wanted - last(hidden), driver="gelsd").solution
            last.weight.add_(change[:-1].T)
            last.bias.add_(change[-1])


def _patches(source: SynthesisSource) -> list[tuple[str, Tensor]]:
    """Return some patches [1, 1, H, W, D] of every kind that is trained on, on the CPU, with their modality."""
    known = {known.modality for known in source.settings.classes()}
    found = []
    for position in range(len(source.settings.plans)):
        for number in range(_BATCHES_A_PLAN):
            batch = source.batch(number, position)
            found += [
                (modality, batch.image[sample : sample + 1].cpu())
                for sample, modality in enumerate(batch.modalities)
                if modality in known
            ]
    return found
