"""The published text encoder: BioLORD's MPNet with a projection and a modality embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import MPNetConfig, MPNetModel

from MedalSLib.errors import ModelError
from MedalSLib.network.checkpoints import fill, read_published
from MedalSLib.network.modality_rows import modality_rows
from MedalSLib.network.published import LANGUAGE_MODEL, TEXT_ENCODER
from MedalSLib.vocabulary import MODALITIES

LONGEST = 256
_FIRST_POSITION = 2  # MPNet numbers positions from its padding index + 1; the published code never pads with that index
_IGNORED = ("atlas_tower", "temperature")
_IGNORED_ENDINGS = ("position_ids",)


class KnowledgeTextEncoder(nn.Module):
    """Texts and their modality to queries [N, 768].

    Words are pieces of the tokenizer between the ids of the literal strings `[CLS]` and `[SEP]` (ordinary entries of
    this vocabulary, not MPNet's own marks), padded with id 0: the published rule, on which the weights were trained.

    Args:
        config: MPNet configuration.
        tokenizer: The word-piece tokenizer of the same model.
    """

    def __init__(self, config: MPNetConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        width = config.hidden_size
        self.text_tower = nn.ModuleDict({"biolord": MPNetModel(config)})
        self.projection_layer = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.modality_embed = nn.Embedding(len(MODALITIES), width)
        self._tokenizer = tokenizer
        self._first, self._last = (tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]"))

    @classmethod
    def from_folder(cls, path: str | Path, device: str | torch.device = "cpu") -> KnowledgeTextEncoder:
        """Open the published encoder.

        Args:
            path: Folder with `text_encoder.pth` and `BioLORD-2023-C/` (config.json and tokenizer.json;
                its weights are not needed).
            device: Where to put the encoder.

        Raises:
            ModelError: A file is missing, damaged, or of another model.
        """
        path = Path(path)
        encoder = cls(_language_config(path / LANGUAGE_MODEL), _tokenizer(path / LANGUAGE_MODEL))
        weights = {
            key: value
            for key, value in read_published(path / TEXT_ENCODER).items()
            if not key.startswith(_IGNORED) and not key.endswith(_IGNORED_ENDINGS)
        }
        fill(encoder, weights, path / TEXT_ENCODER)
        return encoder.to(device).eval()

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return token ids [N, T], padded with 0; at most 256, the last of a longer text being `[SEP]`."""
        rows = []
        for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False):
            rows.append([self._first, *encoding.ids[: LONGEST - 2], self._last])
        longest = max(len(row) for row in rows)
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows])

    @torch.no_grad()
    def forward(self, texts: Sequence[str], modality: str | Sequence[str]) -> Tensor:
        """Encode.

        Args:
            texts: Names or sentences, N of them.
            modality: "CT", "MRI", "US", "PET" or "Microscopy": one for all, or one for each.

        Returns:
            Queries [N, 768], float32, on the encoder's device.

        Raises:
            PromptError: No such modality.
            InputError: Not as many modalities as there are texts.
        """
        device = self.modality_embed.weight.device
        if not texts:
            return torch.zeros(0, self.modality_embed.embedding_dim, device=device)
        rows = torch.tensor(modality_rows(modality, len(texts)), device=device)
        ids = self.tokens(texts).to(device)
        mask = (ids > 0).long()
        positions = torch.arange(_FIRST_POSITION, _FIRST_POSITION + ids.shape[1], device=device).expand_as(ids)
        states = self.text_tower["biolord"](input_ids=ids, attention_mask=mask, position_ids=positions)[0]
        pooled = (states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return (self.projection_layer(pooled) + self.modality_embed(rows)).float()


def _language_config(folder: Path) -> MPNetConfig:
    try:
        return MPNetConfig.from_json_file(folder / "config.json")
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"The configuration of the text encoder, {folder.name}/config.json, is missing or damaged.",
            "Install the model again.",
        ) from error


def _tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer with the library it is written for; its own padding and truncation are not the published."""
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises Exception itself, for missing and malformed files alike
        raise ModelError(
            f"The tokenizer of the text encoder, {folder.name}/{path.name}, is missing or damaged.",
            "Install the model again.",
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenizer.token_to_id("[CLS]") is None or tokenizer.token_to_id("[SEP]") is None:
        raise ModelError(
            f"The tokenizer {folder.name}/{path.name} is not that of BioLORD-2023-C.", "Install the model again."
        )
    return tokenizer
