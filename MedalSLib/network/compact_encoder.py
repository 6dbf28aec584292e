"""A text encoder of a few hundred kilobytes, trained together with a small network; it needs no tokenizer files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedalSLib.errors import ModelError
from MedalSLib.network.modality_rows import modality_rows
from MedalSLib.network.text_features import LARGEST_NUMBER, REGIONS, SIDES, text_features
from MedalSLib.records import model_record
from MedalSLib.vocabulary import MODALITIES


@dataclass(frozen=True)
class CompactEncoderConfig:
    """Sizes of a `CompactTextEncoder`.

    Attributes:
        query_dim: Length of a query, that of the network: a multiple of 4.
        buckets: Rows of each of the two hash tables (words, three-character pieces).
        width: Length of a hashed entry.
        hidden: Hidden width of the perceptron.
    """

    query_dim: int = 256
    buckets: int = 2048
    width: int = 32
    hidden: int = 128

    def __post_init__(self) -> None:
        if any(type(value) is not int or value < 1 for value in asdict(self).values()) or self.query_dim % 4:
            raise ModelError(
                "The configuration of the compact text encoder is not valid: sizes are whole numbers greater than 0, "
                "and query_dim is a multiple of 4."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CompactEncoderConfig:
        """Read what `to_dict` wrote.

        Raises:
            ModelError: An entry is unknown or not valid.
        """
        return model_record(cls, values, "The configuration of the compact text encoder")


class CompactTextEncoder(nn.Module):
    """Texts and their modality to queries [N, query_dim].

    Hashed words and word pieces make spellings of one name neighbors.  That alone would also make neighbors of left
    and right, and of T11 and T12, which share nearly all their letters: so side, spinal region and number are
    explicit inputs.  They also fill the last quarter of the query with fixed codes, and the trained part has a fixed
    length, so that no training can bring two sides or two levels close together.
    """

    side_codes: Tensor
    region_codes: Tensor
    number_codes: Tensor

    def __init__(self, config: CompactEncoderConfig) -> None:
        super().__init__()
        self.config = config
        counts = {"side": len(SIDES), "region": len(REGIONS), "number": LARGEST_NUMBER + 1}
        self.words = nn.EmbeddingBag(config.buckets, config.width, mode="mean")
        self.pieces = nn.EmbeddingBag(config.buckets, config.width, mode="mean")
        self.modality = nn.Embedding(len(MODALITIES), config.width)
        self.attributes = nn.ModuleDict(
            {name: nn.Embedding(count, config.width, padding_idx=0) for name, count in counts.items()}
        )
        coded = config.query_dim // 4
        self.perceptron = nn.Sequential(
            nn.Linear(config.width * (3 + len(counts)), config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.hidden),
            nn.GELU(),
            nn.Linear(config.hidden, config.query_dim - coded),
            nn.LayerNorm(config.query_dim - coded, elementwise_affine=False),
        )
        for seed, (name, count) in enumerate(counts.items()):
            self.register_buffer(f"{name}_codes", _codes(count, coded, seed))

    def forward(self, texts: Sequence[str], modality: str | Sequence[str]) -> Tensor:
        """Return queries [N, query_dim], with gradients where they are enabled (see `KnowledgeTextEncoder.forward`)."""
        device = self.modality.weight.device
        features = [text_features(text, self.config.buckets) for text in texts]

        def column(values: Sequence[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        attributes = {
            "side": column([feature.side for feature in features]),
            "region": column([feature.region for feature in features]),
            "number": column([feature.number for feature in features]),
        }
        inputs = [
            self._bag(self.words, [feature.words for feature in features]),
            self._bag(self.pieces, [feature.pieces for feature in features]),
            self.modality(column(modality_rows(modality, len(texts)))),
            *(self.attributes[name](rows) for name, rows in attributes.items()),
        ]
        codes = (
            self.side_codes[attributes["side"]]
            + self.region_codes[attributes["region"]]
            + self.number_codes[attributes["number"]]
        )
        return torch.cat((self.perceptron(torch.cat(inputs, dim=1)), codes), dim=1)

    def _bag(self, table: nn.EmbeddingBag, rows: Sequence[Sequence[int]]) -> Tensor:
        """Return the mean of each text's entries, at a length that does not depend on their number."""
        device = table.weight.device
        flat = torch.tensor([number for row in rows for number in row], dtype=torch.long, device=device)
        sizes = torch.tensor([0, *(len(row) for row in rows)][: len(rows)], dtype=torch.long, device=device)
        mean = table(flat, sizes.cumsum(0))
        return functional.layer_norm(mean, mean.shape[-1:])


def _codes(count: int, width: int, seed: int) -> Tensor:
    """Fixed unit-variance codes, one a row; the first, which stands for "none", is zero."""
    codes = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    codes[0] = 0
    return codes
