"""What a run would take, measured instead of guessed: memory, steps per second, and the time to the end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from math import prod
from typing import Any

import psutil
import torch

from MedalSLib.errors import ResourceError
from MedalSLib.network import MedalS
from MedalSLib.training.distributed import choose_device
from MedalSLib.training.losses import segmentation_loss
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.trainer import autocast, autocast_type

_CPU_VOXELS = 64 * 64 * 32
_STEPS = 2
_LONG_SECONDS = 20.0
_MEBIBYTE = 1 << 20


class _PeakMemory:
    """The largest memory a device took while this was open, in MiB, above what it took before."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stop = threading.Event()
        self._process = psutil.Process()
        self.mebibytes = 0.0

    def __enter__(self) -> _PeakMemory:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._before = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.mebibytes = torch.cuda.max_memory_allocated(self._device) / _MEBIBYTE
            return
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.mebibytes = max(self.mebibytes, (self._process.memory_info().rss - self._before) / _MEBIBYTE)


def dry_run(recipe: Recipe, device: str = "auto") -> dict[str, Any]:
    """Measure training steps on random data of the recipe's size.

    On a CPU a patch larger than 64 x 64 x 32 voxels is measured at a smaller one and scaled by its voxels, because
    activations and convolutions, which are nearly all of the cost, grow with them; the report says so.

    Args:
        recipe: The recipe.
        device: Where it would run.

    Returns:
        Parameters, memory in MiB, steps per second, hours to the end, and from which patch they were extrapolated.

    Raises:
        ResourceError: Even one step does not fit into memory.
    """
    chosen = choose_device(device)
    patch = recipe.patch_hwd if chosen.type != "cpu" else _shrunk(recipe)
    factor = prod(recipe.patch_hwd) / prod(patch)
    config = replace(recipe.network_config(), image_size=patch)
    network = MedalS(config).to(chosen).train()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    seconds, activations = _measure(network, recipe, patch, chosen)
    accumulate, steps = recipe.optimizer.accumulate, recipe.learning_rate().total_steps
    fixed = parameters * 4 * (5 if recipe.optimizer.ema_decay is not None else 4) / _MEBIBYTE
    a_step = seconds * factor * accumulate
    return {
        "device": str(chosen) if chosen.type == "cpu" else f"{chosen} {torch.cuda.get_device_name(chosen)}",
        "parameters": parameters,
        "patch_hwd": list(recipe.patch_hwd),
        "measured_patch_hwd": list(patch),
        "extrapolated": factor != 1,
        "batch_size": recipe.sampling.batch_size,
        "queries": recipe.sampling.max_queries,
        "memory_mb": round(max(activations - fixed, 0.0) * factor + fixed),
        "steps_per_second": float(f"{1 / a_step:.3g}"),
        "measured_steps_per_second": float(f"{1 / (seconds * accumulate):.3g}"),
        "total_steps": steps,
        "hours": float(f"{a_step * steps / 3600:.3g}"),
    }


def _shrunk(recipe: Recipe) -> tuple[int, int, int]:
    """Return the recipe's patch, its longest axes halved until it has at most 64 x 64 x 32 voxels."""
    stride = recipe.network_config().total_stride
    sizes = list(recipe.patch_hwd)
    while prod(sizes) > _CPU_VOXELS:
        longest = sizes.index(max(sizes))
        smaller = -(-sizes[longest] // 2 // stride) * stride  # the next multiple of the stride
        if smaller == sizes[longest]:
            break
        sizes[longest] = smaller
    height, width, depth = sizes
    return height, width, depth


def _measure(network: MedalS, recipe: Recipe, patch: tuple[int, int, int], device: torch.device) -> tuple[float, float]:
    batch, queries = recipe.sampling.batch_size, recipe.sampling.max_queries
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    image, union = random(batch, 1, *patch) * 255, (random(batch, 1, *patch) > 0.5).float()
    target = (random(batch, queries, *patch) > 0.5).to(torch.uint8)
    query = random(batch, queries, network.config.query_dim)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)
    # Half precision is for GPUs; a CPU is measured in the type it would train in.
    precision = recipe.optimizer.precision if device.type == "cuda" else "auto"
    dtype = autocast_type(precision, device)

    def step() -> None:
        with autocast(device, dtype):
            outputs = network(query, image, union, target.float())
        segmentation_loss(outputs, target).total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    try:
        with _PeakMemory(device) as memory:
            begun = time.perf_counter()
            step()
            seconds = time.perf_counter() - begun
            if seconds < _LONG_SECONDS:  # a first step also allocates; where a step is long, that no longer counts
                begun = time.perf_counter()
                for _ in range(_STEPS):
                    step()
                seconds = (time.perf_counter() - begun) / _STEPS
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"One step of the recipe does not fit into the memory of {device}.",
            "Make batch_size, max_queries or patch_hwd smaller.",
        ) from error
    return seconds, memory.mebibytes
