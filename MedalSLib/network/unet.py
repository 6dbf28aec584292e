"""Voxel branch of Medal S: a plain convolutional U-Net (names of its parts as in the published checkpoints)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAK = 0.01
_AT_ONCE = 1 << 24  # values


def initialize(weight: Tensor) -> None:
    """Draw a convolution's first weights; one on the meta device, whose values are read from a file later, has none.

    PyTorch's random numbers for the meta device bring in its compiler and with it Triton: seconds at the first run, and
    a crash in a process whose OpenGL driver has loaded another LLVM (Mesa's llvmpipe and radeonsi do).
    """
    if not weight.is_meta:
        nn.init.kaiming_normal_(weight, a=LEAK)


class ConvBlock(nn.Module):
    """3x3x3 convolution, instance normalization, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, kernel_size=3, stride=stride, padding=1)
        self.norm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        initialize(self.conv.weight)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # bias=True: never None

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W, D] to [B, outputs, H / stride, W / stride, D / stride]."""
        return self.finish(self.conv(x))

    def finish(self, x: Tensor) -> Tensor:
        """Normalize and activate the convolution's output, which is overwritten where no gradient is recorded."""
        if torch.is_grad_enabled():
            return functional.leaky_relu(self.norm(x), LEAK, inplace=True)
        # Channels are normalized each on its own, so a few at a time do, without a second volume of all of them.
        count = max(1, x.shape[1] * _AT_ONCE // x.numel())
        parts = (x.split(count, dim=1), self.norm.weight.split(count), self.norm.bias.split(count))
        for part, weight, bias in zip(*parts, strict=True):
            normal = functional.instance_norm(part, weight=weight, bias=bias, eps=self.norm.eps)
            part.copy_(functional.leaky_relu_(normal, LEAK))
        return x


class ConvStack(nn.Module):
    """Several `ConvBlock`s in a row; the first may change width and resolution."""

    def __init__(self, count: int, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        first = ConvBlock(inputs, outputs, stride)
        self.convs = nn.Sequential(first, *(ConvBlock(outputs, outputs) for _ in range(count - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, ...] to [B, outputs, ... / stride]."""
        return self.convs(x)

    def joined(self, up: nn.Module, coarse: Tensor, features: list[Tensor]) -> Tensor:
        """Return `forward` of what `up` makes of `coarse`, joined to the last of `features`, which is removed.

        Where no gradient is recorded the two are convolved one after the other and added: the same result, as
        convolution is linear, without the memory of their concatenation.

        Args:
            up: The transposed convolution of this stage.
            coarse: Output of the stage below [B, C, ...].
            features: Outputs of the encoder, finest first; the last is removed.
        """
        if torch.is_grad_enabled():
            return self(torch.cat((up(coarse), features.pop()), dim=1))
        conv = self.first.conv
        width = conv.in_channels // 2
        x = functional.conv3d(features.pop(), conv.weight[:, width:], conv.bias, padding=1)
        x += functional.conv3d(up(coarse), conv.weight[:, :width], padding=1)
        x = self.first.finish(x)
        for block in self.blocks[1:]:
            x = block(x)
        return x

    @property
    def blocks(self) -> list[ConvBlock]:
        """The blocks in order."""
        return [cast("ConvBlock", block) for block in self.convs]

    @property
    def first(self) -> ConvBlock:
        """The block that reads the stack's input."""
        return self.blocks[0]


class Encoder(nn.Module):
    """Stages of rising width and falling resolution."""

    def __init__(self, inputs: int, widths: Sequence[int], strides: Sequence[int], convs: int) -> None:
        super().__init__()
        before = (inputs, *widths[:-1])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(ConvStack(convs, narrow, wide, stride))
                for narrow, wide, stride in zip(before, widths, strides, strict=True)
            )
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the output of every stage, finest first."""
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs


class Decoder(nn.Module):
    """Stages of rising resolution, each fed with the encoder's features of its resolution."""

    def __init__(self, widths: Sequence[int], strides: Sequence[int], convs: int) -> None:
        super().__init__()
        upward = list(reversed(list(zip(widths[1:], widths[:-1], strides[1:], strict=True))))
        self.stages = nn.ModuleList(ConvStack(convs, 2 * fine, fine) for _, fine, _ in upward)
        self.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(coarse, fine, kernel_size=stride, stride=stride) for coarse, fine, stride in upward
        )
        for name, parameter in self.transpconvs.named_parameters():
            if name.endswith("weight"):
                initialize(parameter)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: list[Tensor], keep: int) -> list[Tensor]:
        """Decode.

        Args:
            features: The encoder's outputs, finest first; emptied on the way, so that each is freed once it is used.
            keep: How many outputs are wanted.

        Returns:
            The outputs of the last `keep` stages, finest first.
        """
        x = features.pop()
        outputs: list[Tensor] = []
        stages = cast("Iterable[ConvStack]", self.stages)
        for index, (up, stage) in enumerate(zip(self.transpconvs, stages, strict=True)):
            x = stage.joined(up, x, features)
            if index >= len(self.stages) - keep:
                outputs.insert(0, x)
        return outputs


class UNet(nn.Module):
    """Encoder and decoder under the names of the published checkpoints."""

    def __init__(self, inputs: int, widths: Sequence[int], strides: Sequence[int], convs: int) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, widths, strides, convs)
        self.decoder = Decoder(widths, strides, convs)
