"""Medal S on a CPU through OpenVINO: the convolutions compiled for the processor, once, and kept on disk.

OpenVINO (the extra `openvino`) was chosen because it fuses normalization and activation into 3-D convolutions, lays
channels out in the vector width of the processor, uses its bf16 units, and writes what it compiled to a folder.  The
query side stays in PyTorch: it is small.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedalSLib.network.medals import MedalS, VoxelFeatures
from MedalSLib.network.unet import LEAK, ConvStack

_LAST, _FIRST = (0, 2, 3, 4, 1), (0, 4, 1, 2, 3)
_log = logging.getLogger(__name__)
_Run = Callable[..., list[Tensor]]
"""A compiled part of a network: takes and returns tensors."""


def available() -> bool:
    """Return whether OpenVINO is installed."""
    return find_spec("openvino") is not None


def cache_folder() -> Path:
    """Return the user's folder of compiled networks."""
    from platformdirs import user_cache_path

    return user_cache_path("medals", appauthor=False) / "openvino"


class OpenVinoNetwork:
    """The parts of a `MedalS` that inference calls, its convolutions compiled for one shape of patch.

    Each part is compiled when it is needed first.  Where OpenVINO cannot, the network itself does that part, and the
    log says why.  Voxel features lie channels last in memory, as the compiled convolutions have them, so that nothing
    is turned between one part and the next.

    Args:
        network: The network, in evaluation mode, on the CPU; it must live as long as this.
        patch: Patch (H, W, D).
        dtype: float32, or bfloat16 where the processor has units for it (about 99.5 % of labels are the same then).
        folder: Where compiled networks are kept.
    """

    def __init__(
        self,
        network: MedalS,
        patch: Sequence[int],
        dtype: torch.dtype = torch.float32,
        folder: Path | None = None,
    ) -> None:
        self.config = network.config
        self._network = weakref.proxy(network)
        self._patch = tuple(int(size) for size in patch)
        self._dtype = dtype
        self._folder = folder or cache_folder()
        self._digest = _digest(network)
        self._parts: dict[type[_Part], _Run | None] = {}
        self._lock = threading.Lock()

    def encode(self, image: Tensor, union_prompt: Tensor) -> VoxelFeatures:
        """Run the U-Net (see `MedalS.encode`), one image of a batch after the other."""
        run = self._part(_Backbone, image)
        if run is None:
            return cast("VoxelFeatures", self._network.encode(image, union_prompt))
        pairs = zip(image, union_prompt, strict=True)
        return self._features([run(one[None].float(), union[None].float()) for one, union in pairs])

    def plain(self, image: Tensor) -> VoxelFeatures:
        """Run a patch without prompts (see `MedalS.plain`): one graph, without what reads prompts."""
        run = self._part(_Plain, image)
        if run is None:
            return cast("VoxelFeatures", self._network.plain(image))
        return self._features([run(one[None].float()) for one in image])

    def mask_embeddings(self, features: VoxelFeatures, queries: Tensor) -> Tensor:
        """See `MedalS.mask_embeddings`."""
        return cast("Tensor", self._network.mask_embeddings(features, queries))

    def mix_prompts(self, embeddings: Tensor, class_prompts: Tensor, total: Tensor | None = None) -> Tensor:
        """Add up prompt x mask embedding over classes, [B, C, H, W, D].

        `MedalS` folds the embeddings into the kernel of the convolution that follows; here that convolution is
        compiled, so its kernel stays as it is and reads the sum, as published.

        Args:
            embeddings: Mask embeddings [B, N, C].
            class_prompts: Masks [B, N, H, W, D].
            total: Sum over earlier chunks of classes, overwritten; None for the first chunk.
        """
        masks = class_prompts.to(embeddings.dtype).flatten(2)
        part = torch.bmm(masks.transpose(1, 2), embeddings).unflatten(1, class_prompts.shape[2:]).permute(_FIRST)
        return part if total is None else total.add_(part)

    def fuse(self, features: VoxelFeatures, mixed: Tensor | None = None) -> Tensor:
        """Mix `mix_prompts` over all classes into the voxel embedding (see `MedalS.fuse`)."""
        mixed = torch.zeros_like(features.embedding) if mixed is None else mixed
        run = self._part(_Fusion, features.embedding)
        if run is None:
            return cast("Tensor", self._network.fusion_conv(torch.cat((features.embedding, mixed), dim=1)))
        pairs = zip(features.embedding.permute(_LAST), mixed.permute(_LAST), strict=True)
        return _joined([run(one[None].float(), add[None].float())[0] for one, add in pairs]).permute(_FIRST)

    def project(self, voxels: Tensor, embeddings: Tensor) -> Tensor:
        """See `MedalS.project`."""
        return MedalS.project(voxels, embeddings.to(voxels.dtype))

    def _features(self, outputs: Sequence[Sequence[Tensor]]) -> VoxelFeatures:
        embedding, pooled = (_joined([output[index] for output in outputs]) for index in range(2))
        grid = cast("tuple[int, int, int]", tuple(size // self.config.total_stride for size in self._patch))
        return VoxelFeatures(self._network.projection_layer(pooled), grid, embedding.permute(_FIRST))

    def _part(self, kind: type[_Part], volume: Tensor) -> _Run | None:
        """Return a compiled part of the network, None for a patch of another size or where it cannot be compiled."""
        if tuple(volume.shape[2:]) != self._patch:
            return None
        with self._lock:
            if kind not in self._parts:
                try:
                    self._parts[kind] = self._compile(kind)
                except (RuntimeError, OSError, ImportError) as error:
                    _log.warning("OpenVINO cannot run this network, PyTorch does instead: %s", error)
                    self._parts[kind] = None
            return self._parts[kind]

    def _compile(self, kind: type[_Part]) -> _Run:
        small = (2 * self.config.total_stride,) * 3  # the graph is read off at a small patch; its shape is set later
        examples = tuple(torch.zeros(shape) for shape in self._inputs(kind, small))
        name = f"{self._digest}-{kind.__name__.strip('_').lower()}"
        shapes = self._inputs(kind, self._patch)
        module = kind(cast("MedalS", self._network))
        return _compiled(module, examples, shapes, self._dtype, self._folder, name)

    def _inputs(self, kind: type[_Part], patch: Sequence[int]) -> list[tuple[int, ...]]:
        """Return the shapes of what a part takes for a patch (H, W, D)."""
        if kind is _Fusion:  # embedding and mixed prompts
            return [(1, *patch, self.config.embedding_dim)] * 2
        return [(1, 1, *patch)] * (2 if kind is _Backbone else 1)  # image, and union of the prompts


class _Backbone(nn.Module):
    """U-Net and pooled features."""

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.backbone = network.backbone
        self.stride = network.config.total_stride
        self.strides = network.config.strides

    def forward(self, image: Tensor, union: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embedding [B, H, W, D, C] and the pooled features [B, T, sum of widths]."""
        x, pooled = self.run(torch.cat((image, union), dim=1))
        return x.permute(_LAST), pooled

    def run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run on image and union, or on the image alone; returns the embedding [B, C, H, W, D] and pooled features."""
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


class _Plain(nn.Module):
    """U-Net and mixing block without prompts."""

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.backbone = _Backbone(network)
        self.fusion = network.fusion_conv

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixed embedding [B, H, W, D, C] and the pooled features [B, T, sum of widths]."""
        x, pooled = self.backbone.run(image)
        return _stack(self.fusion, x).permute(_LAST), pooled


class _Fusion(nn.Module):
    """The mixing block."""

    def __init__(self, network: MedalS) -> None:
        super().__init__()
        self.stack = network.fusion_conv

    def forward(self, embedding: Tensor, mixed: Tensor) -> Tensor:
        """Take and return [B, H, W, D, C]."""
        return _stack(self.stack, torch.cat((embedding, mixed), dim=-1).permute(_FIRST)).permute(_LAST)


_Part = _Backbone | _Plain | _Fusion
"""Parts of a network in operations that OpenVINO reads as they are."""


def _stack(stack: nn.Module, x: Tensor) -> Tensor:
    """Run convolutions; where fewer channels come in than the first has kernels for, the others are zero."""
    for block in cast("ConvStack", stack).blocks:
        conv = block.conv
        weight = conv.weight[:, : int(x.shape[1])]
        x = functional.conv3d(x, weight, conv.bias, stride=conv.stride, padding=conv.padding)
        x = functional.leaky_relu(block.norm(x), LEAK)
    return x


def _joined(outputs: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(outputs)) if len(outputs) > 1 else outputs[0]


def _compiled(
    module: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Sequence[tuple[int, ...]],
    dtype: torch.dtype,
    folder: Path,
    name: str,
) -> _Run:
    """Return a module compiled for shapes, from the folder if it was compiled before; tensors are not copied."""
    import openvino

    core, settings = openvino.Core(), cpu_settings(dtype)
    if _usable(folder):
        settings["CACHE_DIR"] = str(folder)
    file = folder / f"{name}.xml"
    if file.is_file() and file.with_suffix(".bin").is_file():
        graph = core.read_model(file)
    else:
        with torch.enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about shapes that are the same for every patch
            traced = torch.jit.trace(module.eval(), example, check_trace=False)  # checking runs it three times more
            graph = openvino.convert_model(traced, example_input=example)
        if _usable(folder):
            openvino.save_model(graph, file, compress_to_fp16=False)
    graph.reshape(dict(enumerate(shapes)))
    compiled = core.compile_model(graph, "CPU", settings)

    def run(*inputs: Tensor) -> list[Tensor]:
        outputs = [torch.empty(tuple(output.shape)) for output in compiled.outputs]
        request = compiled.create_infer_request()
        for index, output in enumerate(outputs):
            request.set_output_tensor(index, openvino.Tensor(output.numpy(), shared_memory=True))
        arrays = [tensor.contiguous().numpy() for tensor in inputs]
        request.infer(arrays, share_inputs=True, share_outputs=True)
        return outputs

    return run


def cpu_settings(dtype: torch.dtype) -> dict[str, Any]:
    """Return how OpenVINO compiles for this processor at a precision."""
    return {
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # pinned threads wait for whatever else runs on their core
    }


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
