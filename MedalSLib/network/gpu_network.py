"""Medal S laid out for tensor cores: half precision, channels last, one kernel for each normalization.

The weights and the mathematics are those of `MedalS`, which is the reference: in float32 the results agree with it, in
half precision with `MedalS` under autocast, within rounding.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedalSLib.network.medals import MedalS, VoxelFeatures, plain_features
from MedalSLib.network.unet import LEAK, ConvBlock, ConvStack

_ALIGNMENT = 8
"""Tensor cores are used only where the number of channels is a multiple of this."""


class GpuNetwork:
    """The parts of a `MedalS` that inference calls, with weights in half precision and channels last.

    Args:
        network: The network, in evaluation mode, on its device.  Its small query side is used as it is, so it must
            live as long as this.
        dtype: Precision of convolutions and voxel features.
    """

    def __init__(self, network: MedalS, dtype: torch.dtype = torch.bfloat16) -> None:
        self.config = network.config
        self.dtype = dtype
        self._network = weakref.proxy(network)
        backbone = network.backbone
        stages = cast("Iterable[nn.Sequential]", backbone.encoder.stages)
        self._encoder = [[_Block(block, dtype) for block in cast("ConvStack", stage[0]).blocks] for stage in stages]
        decoder = cast("Iterable[ConvStack]", backbone.decoder.stages)
        ups = cast("Iterable[nn.ConvTranspose3d]", backbone.decoder.transpconvs)
        self._decoder = [_Joint(up, stack, dtype) for up, stack in zip(ups, decoder, strict=True)]
        fusion = network.fusion_conv.first
        width = self.config.embedding_dim
        self._fusion = _Block(fusion, dtype, slice(None, width))
        self._prompt_weight = fusion.conv.weight.detach()[:, width:]

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """Run the U-Net (see `MedalS.encode`); deep-supervision heads are left out."""
        grid = self._network._grid(image, union_prompt)
        batch, _, high, wide, deep = image.shape
        x = torch.zeros((batch, high, wide, deep, _ALIGNMENT), dtype=self.dtype, device=image.device)
        x[..., 0], x[..., 1] = image[:, 0], union_prompt[:, 0]
        x = x.permute(0, 4, 1, 2, 3)
        features = []
        for stage in self._encoder:
            for block in stage:
                x = block(x)
            features.append(x)
        pooled = torch.cat([_cells(level, grid) for level in features], dim=-1)
        tokens = cast("Tensor", self._network.projection_layer(pooled))
        x = features.pop()
        for joint in self._decoder:
            x = joint(x, features.pop())
        return VoxelFeatures(tokens, grid, x)

    def plain(self, image: Tensor) -> VoxelFeatures:
        """See `MedalS.plain`."""
        return plain_features(self, image)

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """See `MedalS.mask_embeddings`."""
        return cast("Tensor", self._network.mask_embeddings(features, queries))

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """See `MedalS.mix_prompts`; classes are padded with empty ones to a multiple of 8.

        Args:
            embeddings: Mask embeddings [B, N, C].
            class_prompts: Masks [B, N, H, W, D].
            total: Sum over earlier chunks of classes, overwritten; None for the first chunk.
        """
        missing = -class_prompts.shape[1] % _ALIGNMENT
        kernels = torch.einsum("ocxyz,bnc->bonxyz", self._prompt_weight.float(), embeddings.float()).to(self.dtype)
        kernels = functional.pad(kernels, (0,) * 6 + (0, missing))
        masks = functional.pad(class_prompts.to(self.dtype), (0,) * 6 + (0, missing))
        parts = [
            functional.conv3d(_last(mask[None]), _last(kernel), padding=1)
            for mask, kernel in zip(masks, kernels, strict=True)
        ]
        part = parts[0] if len(parts) == 1 else _last(torch.cat(parts))
        return part if total is None else total.add_(part)

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """See `MedalS.fuse`."""
        x = self._fusion.convolve(_last(features.embedding.to(self.dtype)))
        return self._fusion.finish(x if mixed is None else x.add_(mixed))

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        """See `MedalS.project`."""
        return MedalS.project(voxels.to(self.dtype), embeddings.to(self.dtype))


class _Block:
    """A `ConvBlock`, or the part of it that reads some of its input channels."""

    def __init__(self, block: ConvBlock, dtype: torch.dtype, inputs: slice | None = None) -> None:
        weight = block.conv.weight.detach() if inputs is None else block.conv.weight.detach()[:, inputs]
        missing = -weight.shape[1] % _ALIGNMENT if weight.shape[1] < _ALIGNMENT else 0
        self._weight = _last(functional.pad(weight, (0,) * 6 + (0, missing)).to(dtype))
        self._stride = block.conv.stride
        # The normalization takes the mean off, and with it any bias before it: none is added.
        self._norm_weight = cast("Tensor", block.norm.weight).detach().float()
        self._norm_bias = cast("Tensor", block.norm.bias).detach().float()
        self._eps = block.norm.eps

    def __call__(self, x: Tensor) -> Tensor:
        return self.finish(self.convolve(x))

    def convolve(self, x: Tensor) -> Tensor:
        """Convolve without bias, padding with zero channels where the input has fewer than the aligned weights."""
        if (missing := self._weight.shape[1] - x.shape[1]) > 0:
            x = _last(functional.pad(x, (0,) * 6 + (0, missing)))
        return functional.conv3d(x, self._weight, stride=self._stride, padding=1)

    def finish(self, x: Tensor) -> Tensor:
        """Normalize and activate; instances are batch-normalized each on its own, in float32 inside the kernel."""
        rows = _last(x).permute(0, 2, 3, 4, 1)
        out = torch.empty_like(rows) if len(rows) > 1 else None
        for index, sample in enumerate(rows):
            flat = sample.reshape(-1, sample.shape[-1])
            normal = functional.batch_norm(
                flat, None, None, self._norm_weight, self._norm_bias, training=True, eps=self._eps
            )
            normal = functional.leaky_relu_(normal, LEAK).view_as(sample)
            if out is None:
                return normal[None].permute(0, 4, 1, 2, 3)
            out[index] = normal
        assert out is not None
        return out.permute(0, 4, 1, 2, 3)


class _Joint:
    """A decoder stage: upsampled and skipped features are convolved one after the other and added, not concatenated."""

    def __init__(self, up: nn.ConvTranspose3d, stack: ConvStack, dtype: torch.dtype) -> None:
        width = stack.first.conv.in_channels // 2
        self._up_weight = _last(up.weight.detach().to(dtype))
        self._up_bias = None if up.bias is None else up.bias.detach().to(dtype)
        self._up_stride = up.stride
        self._below = _Block(stack.first, dtype, slice(None, width))
        self._beside = _Block(stack.first, dtype, slice(width, None))
        self._rest = [_Block(block, dtype) for block in stack.blocks[1:]]

    def __call__(self, coarse: Tensor, skipped: Tensor) -> Tensor:
        up = functional.conv_transpose3d(coarse, self._up_weight, self._up_bias, stride=self._up_stride)
        x = self._beside.convolve(skipped)
        x += self._below.convolve(up)
        del up
        x = self._beside.finish(x)
        for block in self._rest:
            x = block(x)
        return x


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last_3d)


def _cells(level: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Average features over each token's cell: float32 [B, T, C]."""
    batch, channels, *sizes = level.shape
    spans = [side for size, cells in zip(sizes, grid, strict=True) for side in (cells, size // cells)]
    rows = level.permute(0, 2, 3, 4, 1).reshape(batch, *spans, channels)
    return rows.mean(dim=(2, 4, 6), dtype=torch.float32).flatten(1, 3)
