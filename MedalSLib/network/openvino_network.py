"""Medal S on a CPU through OpenVINO: the convolutions compiled for the processor, once, and kept on disk.

OpenVINO (the extra `openvino`) was chosen because it fuses normalization and activation into 3-D convolutions, lays
channels out in the vector width of the processor, uses its bf16 units, and writes what it compiled to a folder.  The
query side stays in PyTorch: it is small.
"""

from __future__ import annotations

import hashlib
import warnings
import weakref
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedalSLib.network.medals import MedalS, VoxelFeatures
from MedalSLib.network.unet import LEAK, ConvBlock, ConvStack

_TRACED = 64
"""Edge of the patch the graph is read off at; OpenVINO is told the real one afterwards."""


def available() -> bool:
    """Say whether OpenVINO is installed."""
    return find_spec("openvino") is not None


@lru_cache(maxsize=1)
def cache_folder() -> Path:
    """Return the user's folder of compiled networks."""
    from platformdirs import user_cache_path

    return user_cache_path("medals", appauthor=False) / "openvino"


class OpenVinoNetwork:
    """The parts of a `MedalS` that inference calls, its convolutions compiled for one shape of patch.

    Args:
        network: The network, in evaluation mode, on the CPU; it must live as long as this.
        patch: Patch (H, W, D).
        dtype: float32, or bfloat16 where the processor has units for it (about 99.5 % of labels are the same then).
        folder: Where compiled networks are kept.
    """

    def __init__(
        self, network: MedalS, patch: Sequence[int], dtype: torch.dtype = torch.float32, folder: Path | None = None
    ) -> None:
        self.config = network.config
        self._network = weakref.proxy(network)
        self._patch = tuple(int(size) for size in patch)
        folder = folder or cache_folder()
        edge = max(_TRACED, 2 * self.config.total_stride)
        width = self.config.embedding_dim
        image = torch.zeros(1, 1, edge, edge, edge)
        voxels = torch.zeros(1, width, edge, edge, edge)
        digest = _digest(network)
        full = (1, width, *self._patch)
        self._encode = _compiled(
            _Backbone(network), (image, image), [(1, 1, *self._patch)] * 2, dtype, folder, f"{digest}-encode"
        )
        self._fuse = _compiled(_Fusion(network), (voxels, voxels), [full] * 2, dtype, folder, f"{digest}-mix")

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """Run the U-Net (see `MedalS.encode`), one image of a batch after the other."""
        if tuple(image.shape[2:]) != self._patch:
            return cast("VoxelFeatures", self._network.encode(image, union_prompt))
        outputs = [
            self._encode(one[None].float(), union[None].float()) for one, union in zip(image, union_prompt, strict=True)
        ]
        embedding = torch.cat([output[0] for output in outputs]) if len(outputs) > 1 else outputs[0][0]
        pooled = torch.cat([output[1] for output in outputs]) if len(outputs) > 1 else outputs[0][1]
        grid = cast("tuple[int, int, int]", tuple(size // self.config.total_stride for size in self._patch))
        return VoxelFeatures(self._network.projection_layer(pooled), grid, embedding)

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """See `MedalS.mask_embeddings`."""
        return cast("Tensor", self._network.mask_embeddings(features, queries))

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """Add up prompt x mask embedding over classes, [B, C, H, W, D].

        `MedalS` folds the embeddings into the kernel of the convolution that follows; here that convolution is
        compiled, so its kernel stays as it is and reads the sum, as published.
        """
        masks = class_prompts.to(embeddings.dtype).flatten(2)
        part = torch.bmm(embeddings.transpose(1, 2), masks).unflatten(2, class_prompts.shape[2:])
        return part if total is None else total.add_(part)

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """Mix `mix_prompts` over all classes into the voxel embedding (see `MedalS.fuse`)."""
        mixed = torch.zeros_like(features.embedding) if mixed is None else mixed
        if tuple(features.embedding.shape[2:]) != self._patch:
            return cast("Tensor", self._network.fusion_conv(torch.cat((features.embedding, mixed), dim=1)))
        pairs = zip(features.embedding, mixed, strict=True)
        outputs = [self._fuse(one[None].float(), add[None].float())[0] for one, add in pairs]
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        """See `MedalS.project`."""
        return MedalS.project(voxels, embeddings.to(voxels.dtype))


class _Backbone(nn.Module):
    """U-Net and pooled features in operations that OpenVINO reads as they are."""

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.stride = network.config.total_stride
        self.strides = network.config.strides

    def forward(self, image: Tensor, union: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding [B, C, H, W, D] and the pooled features [B, T, sum of widths]."""
        x = torch.cat((image, union), dim=1)
        features, pooled, cell = [], [], self.stride
        for stage, stride in zip(
            cast("Iterable[nn.Sequential]", self.backbone.encoder.stages), self.strides, strict=True
        ):
            x = _stack(stage[0], x)
            cell //= stride
            features.append(x)
            pooled.append((functional.avg_pool3d(x, cell) if cell > 1 else x).flatten(2))
        x = features.pop()
        decoder = self.backbone.decoder
        for up, joined in zip(decoder.transpconvs, decoder.stages, strict=True):
            x = _stack(joined, torch.cat((up(x), features.pop()), dim=1))
        return x, torch.cat(pooled, dim=1).transpose(1, 2)


class _Fusion(nn.Module):
    """The mixing block."""

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.stack = network.fusion_conv

    def forward(self, embedding: Tensor, mixed: Tensor) -> Tensor:
        """Return [B, C, H, W, D]."""
        return _stack(self.stack, torch.cat((embedding, mixed), dim=1))


def _stack(stack: nn.Module, x: Tensor) -> Tensor:
    for block in cast("Iterable[ConvBlock]", cast("ConvStack", stack).convs):
        x = functional.leaky_relu(block.norm(block.conv(x)), LEAK)
    return x


class _Compiled:
    """A compiled graph that takes and returns tensors without copying them."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._outputs = len(compiled.outputs)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        request = self._compiled.create_infer_request()
        results = request.infer(arrays, share_inputs=True, share_outputs=False)
        return [torch.from_numpy(results[index]) for index in range(self._outputs)]


def _compiled(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    folder: Path,
    name: str,
) -> _Compiled:
    """Return a module compiled for shapes, from the folder if it was compiled before."""
    import openvino

    core = openvino.Core()
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # pinned threads wait for whatever else runs on their core
    }
    if _usable(folder):
        settings["CACHE_DIR"] = str(folder)
    file = folder / f"{name}.xml"
    if file.is_file() and file.with_suffix(".bin").is_file():
        graph = core.read_model(file)
    else:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about shapes that are the same for every patch
            graph = openvino.convert_model(module.eval(), example_input=example)
        if _usable(folder):
            openvino.save_model(graph, file, compress_to_fp16=False)
    graph.reshape(dict(enumerate(shapes)))
    return _Compiled(core.compile_model(graph, "CPU", settings))


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return True


def _digest(network: MedalS) -> str:
    """Return a name for the weights and the architecture."""
    digest = hashlib.blake2b(repr(network.config).encode(), digest_size=12)
    for name, parameter in network.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
