"""Architecture of a Medal S network: a frozen record of every width, stored with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from MedalSLib.errors import ModelError
from MedalSLib.records import model_record, to_json

_PUBLISHED_WIDTHS = (64, 64, 128, 256, 512, 768)


@dataclass(frozen=True)
class MedalSConfig:
    """Architecture of a `MedalS` network; the defaults are the published one, of 109.4 M parameters.

    Attributes:
        image_size: Patch (H, W, D) the weights were trained on.  `forward` takes any size whose axes are multiples of
            `total_stride`; this one is what inference uses.
        widths: Channels of the encoder's stages, finest first.
        strides: Stride of each stage, the same on all axes; the first is 1.
        convs_per_stage: 3x3x3 convolutions in each stage of the encoder and of the decoder.
        query_dim: Length of a text query, and width of the tokens and of the query decoder.
        heads: Attention heads; divides `query_dim`.
        ffn_dim: Hidden width of the query decoder's feed-forward layers.
        layers: Cross-attention layers.
        mask_hidden: Hidden width of the projection from query to mask embedding.
        deep_hidden: Hidden widths of the same projections of the deep-supervision heads, from 1/2 resolution down.
        deep_supervision: Whether the heads at lower resolutions exist (training only).
    """

    image_size: tuple[int, int, int]
    widths: tuple[int, ...] = _PUBLISHED_WIDTHS
    strides: tuple[int, ...] = (1, 2, 2, 2, 2, 2)
    convs_per_stage: int = 2
    query_dim: int = 768
    heads: int = 8
    ffn_dim: int = 2048
    layers: int = 6
    mask_hidden: int = 256
    deep_hidden: tuple[int, ...] = (256, 384, 512)
    deep_supervision: bool = False

    def __post_init__(self) -> None:
        problems = [text for wrong, text in self._rules() if wrong]
        if problems:
            raise ModelError(f"The network configuration is not valid: {'; '.join(problems)}.")

    def _rules(self) -> list[tuple[bool, str]]:
        counts = (self.convs_per_stage, self.query_dim, self.heads, self.ffn_dim, self.layers, self.mask_hidden)
        lists = (*self.image_size, *self.widths, *self.strides, *self.deep_hidden)
        if any(type(value) is not int or value < 1 for value in (*counts, *lists)):
            return [(True, "every size is a positive whole number")]
        stages = len(self.widths)
        return [
            (len(self.image_size) != 3, "image_size has three axes (H, W, D)"),
            (stages < 2 or len(self.strides) != stages, "there is one stride for each of at least two widths"),
            (self.strides[0] != 1, "the first stride is 1"),
            (any(size % self.total_stride for size in self.image_size), f"image_size divides by {self.total_stride}"),
            (self.query_dim % self.heads != 0, "heads divides query_dim"),
            (len(self.deep_hidden) > max(stages - 2, 0), "each deep-supervision head has a decoder stage"),
        ]

    @property
    def total_stride(self) -> int:
        """Voxels a token covers along an axis; image axes are multiples of it (32 as published)."""
        return prod(self.strides)

    @property
    def embedding_dim(self) -> int:
        """Channels of the voxel embedding and length of a mask embedding."""
        return self.widths[0]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back."""
        return to_json(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MedalSConfig:
        """Read what `to_dict` wrote.

        Raises:
            ModelError: An entry is unknown, missing or not valid.
        """
        return model_record(cls, values, "The network configuration")
