"""What a run would take, measured instead of guessed: memory, steps per second, and the time to the end."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import repeat
from math import prod
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import psutil
import torch

from MedalSLib.errors import CancelledError
from MedalSLib.network.medals import MedalS
from MedalSLib.training.distributed import World, choose_device
from MedalSLib.training.precision import autocast_type
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.sample_batch import Batch
from MedalSLib.training.steps import OnProgress
from MedalSLib.training.trainer import Trainer

_CPU_VOXELS = 64 * 64 * 32
_STEPS = 2
_LONG_SECONDS = 20.0
_MEBIBYTE = 1 << 20


def dry_run(
    recipe: Recipe, device: str = "auto", on_progress: OnProgress | None = None, cancel: threading.Event | None = None
) -> dict[str, Any]:
    """Measure training steps on random data of the recipe's size.

    On a CPU a patch larger than 64 x 64 x 32 voxels is measured at a smaller one and scaled by its voxels, because
    activations and convolutions, which are nearly all of the cost, grow with them; the report says so.

    Args:
        recipe: The recipe.
        device: Where it would run.
        on_progress: Progress.
        cancel: Set it to stop after the step that runs.

    Returns:
        Parameters, memory in MiB and what there is of it, steps per second, hours to the end, the patch that was
        measured, and all of it in words.

    Raises:
        ResourceError: Even one step does not fit into memory.
        CancelledError: `cancel` was set.
    """
    chosen = choose_device(device)
    patch = recipe.patch_hwd if chosen.type != "cpu" else _shrunk(recipe)
    factor = prod(recipe.patch_hwd) / prod(patch)
    if on_progress:
        on_progress("making the network", 0, _STEPS + 1, "")
    trainer = _trainer(recipe, patch, chosen)
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    seconds, activations = _measure(trainer, on_progress, cancel)
    steps, dtype = recipe.learning_rate().total_steps, autocast_type(recipe.optimizer.precision, chosen)
    # Weights, their gradients and AdamW's two moments; the averaged weights if there are any.
    fixed = parameters * 4 * (5 if recipe.optimizer.ema_decay is not None else 4) / _MEBIBYTE
    a_step = seconds * factor
    report = {
        "device": str(chosen) if chosen.type != "cuda" else f"{chosen} {torch.cuda.get_device_name(chosen)}",
        "precision": str(dtype or torch.float32).removeprefix("torch."),
        "parameters": parameters,
        "patch_hwd": list(recipe.patch_hwd),
        "measured_patch_hwd": list(patch),
        "extrapolated": factor != 1,
        "batch_size": recipe.sampling.batch_size,
        "queries": recipe.sampling.max_queries,
        "memory_mb": round(activations * factor + fixed),
        "memory_available_mb": round(_available(chosen)),
        "steps_per_second": float(f"{1 / a_step:.3g}"),
        "measured_steps_per_second": float(f"{1 / seconds:.3g}"),
        "total_steps": steps,
        "hours": float(f"{a_step * steps / 3600:.3g}"),
    }
    return report | {"summary": _summary(recipe, report, factor)}


def typical_step_seconds(trainer: Trainer, steps: int = 5) -> float:
    """Return how long a step takes: the median of some without the first, which also allocates, unless that is long.

    Args:
        trainer: A trainer that is not used afterwards: its model changes, nothing is written.
        steps: Steps to take.
    """
    batches = iter(trainer.source.batches(1, steps, trainer.world))
    seconds = [trainer.advance(batches).seconds]
    while len(seconds) < steps and seconds[0] < _LONG_SECONDS:
        seconds.append(trainer.advance(batches).seconds)
    return median(seconds[1:] or seconds)


def _summary(recipe: Recipe, report: dict[str, Any], factor: float) -> str:
    needed, there = report["memory_mb"] / 1024, report["memory_available_mb"] / 1024
    text = (
        f"{recipe.name} on {report['device']}: {needed:.1f} GiB of memory ({there:.1f} GiB are free), "
        f"{report['steps_per_second']:g} steps a second, {report['hours']:g} hours for {report['total_steps']} steps."
    )
    if factor != 1:
        measured, whole = (" x ".join(map(str, report[key])) for key in ("measured_patch_hwd", "patch_hwd"))
        text += (
            f" Measured on patches of {measured} voxels and multiplied by {factor:.3g}: a step on {whole} takes too "
            "long to be tried on a CPU."
        )
    return text if needed <= there else text + " That does not fit: use a GPU, or smaller patches, batches or widths."


def _available(device: torch.device) -> float:
    """Return the memory that can still be had on a device, in MiB."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
        return free / _MEBIBYTE
    return psutil.virtual_memory().available / _MEBIBYTE


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


def _trainer(recipe: Recipe, patch: tuple[int, int, int], device: torch.device) -> Trainer:
    """Return a trainer of one batch again and again; it writes nothing as long as only `advance` is called."""
    optimizer = replace(recipe.optimizer, ema_decay=None)
    prompts = replace(recipe.prompts, withhold_class_prompts=0.0)
    measured = replace(recipe, patch_hwd=patch, optimizer=optimizer, prompts=prompts)
    batch = _random_batch(measured)
    config = measured.network_config()
    model = PromptedModel(MedalS(config), None, lambda texts, _: torch.zeros(len(texts), config.query_dim))
    source: Any = SimpleNamespace(batches=lambda *_: repeat(batch))
    return Trainer(model, source, measured, World(0, 1, device), RunFolder(Path()))


def _random_batch(recipe: Recipe) -> Batch:
    samples, queries = recipe.sampling.batch_size, recipe.sampling.max_queries
    generator = torch.Generator().manual_seed(0)

    def random(channels: int) -> torch.Tensor:
        return torch.rand(samples, channels, *recipe.patch_hwd, generator=generator)

    target = (random(queries) > 0.5).to(torch.uint8)
    union = (random(1) > 0.5).to(torch.uint8)
    texts, real = (("structure",) * queries,) * samples, torch.ones(samples, queries)
    names = ("",) * samples
    return Batch(random(1) * 255, target, union, target, real, texts, names, names)


def _measure(trainer: Trainer, on_progress: OnProgress | None, cancel: threading.Event | None) -> tuple[float, float]:
    """Return seconds a step, and MiB of what a forward pass keeps for its backward pass.

    That is nearly all of the memory that depends on the patch.  Counted tensor by tensor, since what the process takes
    also holds what the allocator had left over.
    """
    weights = {parameter.untyped_storage().data_ptr() for parameter in trainer.model.parameters()}
    sizes: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    batches = iter(trainer.source.batches(1, _STEPS + 1, trainer.world))

    def step(number: int) -> float:
        if cancel is not None and cancel.is_set():
            raise CancelledError("The measurement was cancelled.")
        seconds = trainer.advance(batches).seconds
        if on_progress:
            on_progress("measuring steps", number, _STEPS + 1, "")
        return seconds

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        seconds = step(1)
    if seconds < _LONG_SECONDS:  # a first step also allocates; where a step is long, that no longer counts
        seconds = sum(step(number + 2) for number in range(_STEPS)) / _STEPS
    largest = sorted(sizes.values())[-2:]  # whose gradients are there at the same time
    return seconds, (sum(sizes.values()) + sum(largest)) / _MEBIBYTE
