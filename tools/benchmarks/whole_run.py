"""A published two-stage run of a CT from end to end, as a share of what the device can do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tools.benchmarks.operations import operations
from tools.benchmarks.scenes import BenchOptions, BenchStructure, numbered_image, random_network, write_logits
from tools.benchmarks.stub_network import two_stage_model

SHAPE_DHW = (300, 512, 512)
SPACING_DHW = (1.0, 0.7, 0.7)
CLASSES = 24
_LIMITS_GB = (None, 8, 6)
PATCHES = {1: (224, 224, 128), 2: (192, 192, 192)}


def whole_runs(
    options: BenchOptions,
    peak_tflops: float,
    *,
    device: str = "cuda",
    shape_dhw: tuple[int, int, int] = SHAPE_DHW,
    patches: dict[int, tuple[int, int, int]] | None = None,
    count: int = CLASSES,
) -> list[dict[str, Any]]:
    """Run both stages on a CT of 300 x 512 x 512 voxels with 24 classes, freely and with memory limits.

    The networks compute all they would; what they then answer is put right by the image, as random weights find nothing
    that looks like an organ.  Reading, windowing and writing of files are left out.

    Args:
        options: Width of the networks.
        peak_tflops: What the device manages, for the share.
        device: Torch device name.
        shape_dhw: Voxels of the CT.
        patches: Patch (H, W, D) of each stage; None for the published ones.
        count: Number of classes.
    """
    import torch

    from MedalSLib.engine.computing import choose_compute
    from MedalSLib.errors import ResourceError
    from MedalSLib.inference.pipeline import WindowedImage, segment_volume
    from MedalSLib.network.gpu_network import GpuNetwork

    patches = patches or PATCHES
    compute = choose_compute(device)
    network = random_network(replace(options, patch=max(patches[2]))).to(device)
    counted = _CountedNetwork(network, GpuNetwork(network, compute.autocast or torch.float32), count)
    model = two_stage_model(patches, counted)
    image = numbered_image(shape_dhw, count)
    seen = WindowedImage(image.shape, lambda window: image)
    items: Any = [BenchStructure(f"CT_Bench {number}") for number in range(count)]
    queries = torch.zeros(count, network.config.query_dim)
    queries[:, 0] = torch.arange(1, count + 1)
    rows = []
    for limit in _LIMITS_GB:
        for attempt in ("first", "again"):
            counted.operations = 0.0
            row: dict[str, Any] = {"memory_limit_gb": limit, "run": attempt}
            way = replace(compute, memory_limit_mb=None if limit is None else limit * 1000.0)
            with _limited(device, limit):
                begun = time.perf_counter()
                try:
                    found = segment_volume(model, seen, SPACING_DHW, items, queries, compute=way)
                except (ResourceError, RuntimeError) as error:  # the ladder's last step leaves the GPU; this does not
                    rows.append(row | {"error": str(error)})
                    break
                seconds = time.perf_counter() - begun
                network_s = sum(spent for stage, spent in found.seconds.items() if stage.startswith("stage"))
                tflop = counted.operations / 1e12
                rows.append(
                    row
                    | {
                        "seconds": round(seconds, 3),
                        "seconds_by_stage": {stage: round(spent, 3) for stage, spent in found.seconds.items()},
                        "gflop": round(1000 * tflop, 3),
                        "share_of_largest_product": round(tflop / seconds / peak_tflops, 4),
                        "share_of_largest_product_in_stages": round(tflop / network_s / peak_tflops, 4),
                        "peak_memory_gib": _peak_memory(device),
                        "network_runs": found.runs,
                        "found": sum(item.found for item in found.structures.values()),
                        "steps": list(found.steps),
                    }
                )
    return rows


@contextmanager
def _limited(device: str, limit_gb: int | None) -> Iterator[None]:
    """Keep PyTorch within a part of the GPU's memory."""
    import torch

    if not device.startswith("cuda"):
        yield
        return
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(1.0 if limit_gb is None else min(1.0, limit_gb * 1e9 / total))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def _peak_memory(device: str) -> float | None:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.startswith("cuda") else None


class _CountedNetwork:
    """A network that computes, and then answers with the structure whose number is the image's intensity.

    Args:
        network: The network, for counting.
        form: The form of it that runs.
        count: Number of classes of a run.
    """

    def __init__(self, network: Any, form: Any, count: int) -> None:
        self.config = network.config
        self.operations = 0.0
        self._network = network
        self._form = form
        self._count = count
        self._image: Any = None
        self._counted: dict[tuple[Any, ...], float] = {}

    def encode(self, image: Any, union_prompt: Any) -> Any:
        self._add(image, True)
        self._image = image
        return self._form.encode(image, union_prompt)

    def plain(self, image: Any) -> Any:
        self._add(image, False)
        features = self._form.plain(image)
        return replace(features, embedding=_with_image(features.embedding, image))

    def mask_embeddings(self, features: Any, queries: Any) -> Any:
        embeddings = self._form.mask_embeddings(features, queries)
        embeddings[..., 0] = queries[..., 0]
        return embeddings

    def mix_prompts(self, embeddings: Any, class_prompts: Any, total: Any = None) -> Any:
        return self._form.mix_prompts(embeddings, class_prompts, total)

    def fuse(self, features: Any, mixed: Any = None) -> Any:
        return _with_image(self._form.fuse(features, mixed), self._image)

    def project(self, voxels: Any, embeddings: Any) -> Any:
        logits = self._form.project(voxels, embeddings)
        for batch, (intensities, numbers) in enumerate(zip(voxels[:, 0], embeddings[..., 0], strict=True)):
            for index, number in enumerate(numbers):
                write_logits(intensities, number, logits[batch, index])
        return logits

    def _add(self, image: Any, prompted: bool) -> None:
        key = (tuple(image.shape[2:]), prompted)
        if key not in self._counted:
            self._counted[key] = operations(self._network, image.shape[2:], self._count, prompted)
        self.operations += len(image) * self._counted[key]


def _with_image(voxels: Any, image: Any) -> Any:
    """Put the image into the first channel, where `_CountedNetwork.project` looks for it."""
    voxels[:, 0] = image[:, 0].to(voxels.dtype)
    return voxels
