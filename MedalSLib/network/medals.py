"""Medal S: text queries and mask prompts to logits, all classes of a patch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.position import sinusoidal_code
from MedalSLib.network.query_decoder import QueryDecoder
from MedalSLib.network.unet import ConvStack, UNet

HEADS = "mid_mask_embed_proj."
"""What the names of the weights of deep-supervision heads begin with."""


@dataclass(frozen=True)
class VoxelFeatures:
    """Features of a patch that do not depend on any text, so that they can be cached and reused for every query.

    Attributes:
        tokens: [B, T, query_dim], one for each cell of `grid`.
        grid: Token cells along (H, W, D).
        embedding: Voxel embedding [B, C, H, W, D] before class prompts are mixed in.
        coarse: Voxel embeddings of the deep-supervision heads at 1/2, 1/4, 1/8; empty without them.
    """

    tokens: Tensor
    grid: tuple[int, int, int]
    embedding: Tensor
    coarse: tuple[Tensor, ...] = ()

    def to(self, *args: Any, **kwargs: Any) -> VoxelFeatures:
        """Return the features on another device or in another precision (arguments as of `torch.Tensor.to`)."""
        return VoxelFeatures(
            self.tokens.to(*args, **kwargs),
            self.grid,
            self.embedding.to(*args, **kwargs),
            tuple(level.to(*args, **kwargs) for level in self.coarse),
        )


def plain_features(network: Any, image: Tensor) -> VoxelFeatures:
    """Run a patch without prompts through a `MedalS` or another form of it (see `MedalS.plain`)."""
    features: VoxelFeatures = network.encode(image, torch.zeros_like(image))
    return replace(features, embedding=network.fuse(features, None), coarse=())


def _projection(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers, each followed by GELU (the last one too, as published)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return nn.Sequential(*layers)


class MedalS(nn.Module):
    """The Medal S network (arXiv 2511.13001), with the parameter names and the results of the published one.

    `forward` does all of it.  Callers that keep results between passes use its parts: `encode` does not depend on text,
    `mask_embeddings` does not depend on class prompts, and queries never see each other, so both may run in chunks.
    Only the mixing of class prompts joins the classes: `mix_prompts` adds them up chunk by chunk.
    """

    def __init__(self, config: MedalSConfig) -> None:
        super().__init__()
        self.config = config
        width, dim = config.embedding_dim, config.query_dim
        self.backbone = UNet(2, config.widths, config.strides, config.convs_per_stage)
        self.projection_layer = _projection((sum(config.widths), dim, dim))
        self.transformer_decoder = QueryDecoder(dim, config.heads, config.ffn_dim, config.layers)
        self.mask_embed_proj = _projection((dim, config.mask_hidden, width))
        self.fusion_conv = ConvStack(1, 2 * width, width)
        if config.deep_supervision:
            heads = zip(config.deep_hidden, config.widths[1:], strict=False)
            self.mid_mask_embed_proj = nn.ModuleList(_projection((dim, hidden, level)) for hidden, level in heads)

    def forward(
        self, queries: Tensor, image: Tensor, union_prompt: Tensor, class_prompts: Tensor | None
    ) -> list[Tensor]:
        """Run the whole network.

        Args:
            queries: Text queries [B, N, query_dim].
            image: Intensities [B, 1, H, W, D], 0..255 without further normalization.
            union_prompt: [B, 1, H, W, D], 1 where any class is prompted.
            class_prompts: One mask for each query [B, N, H, W, D]; None skips the mixing block, which is not the same
                as prompts that are zero.

        Returns:
            Logits [B, N, H, W, D]; with deep supervision followed by those at 1/2, 1/4 and 1/8 resolution.

        Raises:
            ValueError: Shapes do not fit.
        """
        features = self.encode(image, union_prompt)
        decoded = self.decode_queries(features, queries)
        embeddings, voxels = self.mask_embed_proj(decoded), features.embedding
        if class_prompts is not None:
            voxels = self.fuse(features, self.mix_prompts(embeddings, class_prompts))
        outputs = [self.project(voxels, embeddings)]
        if self.config.deep_supervision:
            heads = zip(self.mid_mask_embed_proj, features.coarse, strict=True)
            outputs += [self.project(voxels, head(decoded)) for head, voxels in heads]
        return outputs

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """Run the part that reads no text: the U-Net and the tokens.

        Args:
            image: Intensities [B, 1, H, W, D], 0..255; each axis a multiple of `config.total_stride`.
            union_prompt: [B, 1, H, W, D], 1 where any class is prompted.

        Raises:
            ValueError: Shapes do not fit.
        """
        grid = self._grid(image, union_prompt)
        features = self.backbone.encoder(torch.cat((image, union_prompt.to(image.dtype)), dim=1))
        # The features of every stage, averaged over each token's cell: [B, T, sum of widths].
        cells = [functional.adaptive_avg_pool3d(level, grid).flatten(2) for level in features]
        tokens = self.projection_layer(torch.cat(cells, dim=1).transpose(1, 2))
        heads = len(self.mid_mask_embed_proj) if self.config.deep_supervision else 0
        embedding, *coarse = self.backbone.decoder(features, keep=1 + heads)
        return VoxelFeatures(tokens, grid, embedding, tuple(coarse))

    def plain(self, image: Tensor) -> VoxelFeatures:
        """Run a patch [B, 1, H, W, D] without prompts; the result depends on no text, so it can be cached.

        Returns:
            Voxel features whose embedding is mixed already, ready for `project`.
        """
        return plain_features(self, image)

    def decode_queries(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """Let queries [B, N, query_dim] look at the image's tokens; returns the same shape."""
        positions = sinusoidal_code(features.grid, self.config.query_dim, features.tokens.device)
        return self.transformer_decoder(queries, features.tokens, positions)

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """Turn queries [B, N, query_dim] into mask embeddings [B, N, C]; each depends on its own query alone."""
        return self.mask_embed_proj(self.decode_queries(features, queries))

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """Add class prompts to what the mixing block's convolution sees of them.

        Published: the sum over classes of prompt x embedding goes through a convolution.  Both are linear, so the
        embeddings are folded into the kernel instead: the same figures without the C-channel sum in between.

        Args:
            embeddings: Mask embeddings [B, N, C] of these classes (a chunk of all).
            class_prompts: Their masks [B, N, H, W, D].
            total: What earlier chunks came to; overwritten with the new total where no gradient is recorded.

        Returns:
            The total so far, [B, C, H, W, D], for `fuse`.
        """
        width = self.config.embedding_dim
        kernels = torch.einsum("ocxyz,bnc->bonxyz", self.fusion_conv.first.conv.weight[:, width:], embeddings)
        masks = class_prompts.to(embeddings.dtype)
        parts = [functional.conv3d(mask[None], kernel, padding=1) for mask, kernel in zip(masks, kernels, strict=True)]
        part = parts[0] if len(parts) == 1 else torch.cat(parts)
        if total is None:
            return part
        return total + part if torch.is_grad_enabled() else total.add_(part)

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """Mix class prompts into the voxel embedding.

        Args:
            features: Features of the patch.
            mixed: The result of `mix_prompts` over all classes; None if every prompt is zero (then the result
                depends on no text and can be cached).

        Returns:
            Voxel embedding [B, C, H, W, D] for `project`.
        """
        conv = self.fusion_conv.first.conv
        fused = functional.conv3d(features.embedding, conv.weight[:, : self.config.embedding_dim], conv.bias, padding=1)
        if mixed is not None:
            fused = fused + mixed if torch.is_grad_enabled() else fused.add_(mixed)
        return self.fusion_conv.first.finish(fused)

    @staticmethod
    def project(voxels: Tensor, embeddings: Tensor) -> Tensor:
        """Return logits [B, N, H, W, D] of voxel embedding [B, C, H, W, D] . mask embeddings [B, N, C]."""
        return torch.bmm(embeddings, voxels.flatten(2)).unflatten(2, voxels.shape[2:])

    def _grid(self, image: Tensor, union_prompt: Tensor) -> tuple[int, int, int]:
        """Check the shapes and return the token grid."""
        if image.dim() != 5 or image.shape[1] != 1 or union_prompt.shape != image.shape:
            raise ValueError(
                f"image and union_prompt are [B, 1, H, W, D], not {list(image.shape)} and {list(union_prompt.shape)}"
            )
        stride = self.config.total_stride
        height, width, depth = image.shape[2:]
        if height % stride or width % stride or depth % stride:
            raise ValueError(f"each image axis must be a multiple of {stride}: {height} x {width} x {depth} is not")
        if height * width * depth <= stride**3:
            raise ValueError(f"one axis at least must be longer than {stride}: a single token cannot be normalized")
        return height // stride, width // stride, depth // stride
