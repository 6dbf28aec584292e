"""What a run needs, and the steps to take when it does not fit: the memory ladder as data."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import TypeVar

import torch

from MedalSLib.errors import ResourceError
from MedalSLib.inference.blending import most_voxels
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.resampling_policy import ResamplingPlan, plan
from MedalSLib.inference.stage_specs import stage_specs
from MedalSLib.network.axes import hwd
from MedalSLib.network.bundle import Model

T = TypeVar("T")

_CHUNK = 8
_MIB = 2.0**20
_ACTIVATIONS = 6.0
"""Peak of a pass without gradients, in copies of the finest voxel features (measured at 96^3 and 128^3)."""
_PUBLISHED_WIDTH = 64
_PROMPTED = 8
"""Volumes of a patch that the boxes of all its prompts come to at most, roughly: organs lie side by side."""


@dataclass(frozen=True)
class Step:
    """One step down the ladder.

    Attributes:
        name: The step in words, for the report.
        apply: `(compute, classes) -> compute` of the run after this step, None if there is nothing left to gain.
        chunks: Whether it is about how many classes run together: the last such step is the one that holds.
    """

    name: str
    apply: Callable[[Compute, int], Compute | None]
    chunks: bool = False


def _sweeps(number: int) -> Callable[[Compute, int], Compute | None]:
    """Return what has all patches run `number` times, each time for as many classes."""

    def apply(compute: Compute, classes: int) -> Compute | None:
        chunk = ceil(classes / number)
        held = compute.class_chunk or classes
        return replace(compute, class_chunk=chunk) if _CHUNK <= chunk < held else None

    return apply


def _chunks(compute: Compute, classes: int) -> Compute | None:
    held = compute.class_chunk or classes
    return replace(compute, class_chunk=_CHUNK) if held > _CHUNK else None


def _host(compute: Compute, classes: int) -> Compute | None:
    return replace(compute, accumulator_device="cpu") if compute.blending_device.type != "cpu" else None


def _half(compute: Compute, classes: int) -> Compute | None:
    precision = compute.autocast
    if precision is None and compute.torch_device.type == "cuda":
        precision = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    halved = replace(compute, autocast=precision, accumulator_dtype=torch.float16)
    return halved if halved != compute else None


def _one_by_one(compute: Compute, classes: int) -> Compute | None:
    return replace(compute, batch_voxels=0) if compute.batch_voxels else None


def _cpu(compute: Compute, classes: int) -> Compute | None:
    if compute.torch_device.type == "cpu":
        return None
    return replace(compute, device="cpu", accumulator_device=None, autocast=None, batch_voxels=0)


LADDER: tuple[Step, ...] = (
    Step("classes in 2 sweeps", _sweeps(2), chunks=True),
    Step(f"classes in chunks of {_CHUNK}", _chunks, chunks=True),
    Step("accumulators in main memory", _host),
    Step("half precision", _half),
    Step("one pass at a time", _one_by_one),
    Step("on the CPU instead of the GPU, which is much slower", _cpu),
)
"""Steps in the order in which they are taken when memory runs out; each keeps those before it."""
PLANNED: tuple[Step, ...] = (
    *(Step(f"classes in {number} sweeps", _sweeps(number), chunks=True) for number in (2, 3, 4, 6)),
    *LADDER[1:],
)
"""Smaller steps, for plans by estimate: trying one costs nothing, while each sweep runs the networks again."""


def with_ladder(
    run: Callable[[Compute], T],
    compute: Compute,
    classes: int,
    on_step: Callable[[str], None] | None = None,
) -> tuple[T, tuple[str, ...]]:
    """Run, and each time memory runs out take the next step down and run again.

    Args:
        run: The run; must keep nothing of a failed attempt.
        compute: How it is tried first.
        classes: Number of classes of the run.
        on_step: Told the name of each step when it is taken.

    Returns:
        What `run` returned, and the names of the steps taken that hold.

    Raises:
        ResourceError: Memory ran out after the last step.
    """
    taken: list[Step] = []
    descent = _descent(compute, classes, LADDER)
    while True:
        try:
            return run(compute), _names(taken)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else "out of memory"
        # Outside the handler, so that the failed attempt's frames and their tensors are gone.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        following = next(descent, None)
        if following is None:
            raise ResourceError(
                f"There is not enough memory, even after every way to save some ({reason}).",
                "Choose a region or fewer structures, close other programs, or use a server.",
            )
        step, compute = following
        taken.append(step)
        if on_step is not None:
            on_step(step.name)


def _names(taken: Sequence[Step]) -> tuple[str, ...]:
    last = next((step for step in reversed(taken) if step.chunks), None)
    return tuple(step.name for step in taken if not step.chunks or step is last)


def _descent(compute: Compute, classes: int, steps: Sequence[Step]) -> Iterator[tuple[Step, Compute]]:
    """Yield each step of a ladder that changes something, and the run after it."""
    for step in steps:
        changed = step.apply(compute, classes)
        if changed is not None:
            compute = changed
            yield step, compute


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or in main memory."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        sign in words for sign in ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    )


def fitting(
    need: Callable[[Compute], float], compute: Compute, classes: int, limit_mb: float
) -> tuple[Compute, tuple[str, ...]]:
    """Walk down the ladder by estimate until a run fits, or the steps are used up.

    Args:
        need: Estimated MiB of a run.
        compute: How it would be run.
        classes: Number of classes of the run.
        limit_mb: MiB there are.

    Returns:
        How to run, and the names of the steps taken that hold.
    """
    taken: list[Step] = []
    for step, smaller in _descent(compute, classes, PLANNED):
        if need(compute) <= limit_mb:
            break
        compute = smaller
        taken.append(step)
    return compute, _names(taken)


@dataclass(frozen=True)
class RunEstimate:
    """What a run will need at most.

    Attributes:
        memory_mb: Peak of additional memory, device and host together, in MiB.
        patches: Runs of the networks over all stages.
        largest: MiB of the largest arrays by what they are, largest first.
    """

    memory_mb: float
    patches: int
    largest: Mapping[str, float]


def estimate_stage(
    grid_plan: ResamplingPlan, classes: int, compute: Compute | None = None, width: int = _PUBLISHED_WIDTH
) -> dict[str, float]:
    """Return the MiB a stage needs, by what needs it.

    Args:
        grid_plan: The stage's plan.
        classes: Number of classes.
        compute: How it will be run.
        width: Channels of the network's finest voxel features.
    """
    compute = compute or Compute()
    patch, grid, volume = prod(grid_plan.patch), prod(grid_plan.shape), prod(grid_plan.original_shape)
    held = min(compute.class_chunk or classes, classes)
    sums = 4 if compute.accumulator_dtype == torch.float32 else 2
    feature = 2 if compute.autocast is not None else 4
    passes = 2 if patch <= compute.batch_voxels else 1
    on_host = compute.blending_device.type == "cpu"
    region = (
        min(grid_plan.patch[0], grid_plan.shape[0]) * min(grid_plan.patch[1], grid_plan.shape[1]) * grid_plan.shape[2]
    )
    parts = {
        "network": patch * width * feature * _ACTIVATIONS * passes,
        "first pass of a patch": patch * feature * min(held, width),
        "prompts and weights of a patch": patch * (min(classes, _PROMPTED) + 3 * 4),
        "sums": most_voxels(grid_plan) * held * sums,
        "image on the network's grid": 0 if grid_plan.shape == grid_plan.original_shape and on_host else 4 * grid,
        "image on the GPU while it is resampled": 0 if on_host else 4 * volume,
        "masks, labels and largest probability": volume * (2 * classes / 8 + 3),
        "a class's region being interpolated": 3 * 4 * region,
    }
    return {name: size / _MIB for name, size in parts.items()}


def in_sweeps(compute: Compute, grid_plan: ResamplingPlan, classes: int, width: int, free_mb: float) -> Compute:
    """Have classes blended in as many sweeps as it takes for their sums to fit beside all else that a stage needs.

    Sums get a quarter of the memory in any case: where all else does not fit, more sweeps would not help.

    Args:
        compute: How the stage would be run; if it names a chunk of classes, that stays.
        grid_plan: The stage's plan.
        classes: Number of classes.
        width: Channels of the network's finest voxel features.
        free_mb: MiB there are where the sums live.
    """
    if compute.class_chunk is not None or compute.blending_device.type != compute.torch_device.type:
        return compute
    parts = estimate_stage(grid_plan, classes, compute, width)
    sums = parts["sums"]
    room = max(free_mb / 4, free_mb - sum(parts.values()) + sums)
    if sums <= room:
        return compute
    sweeps = ceil(classes / max(_CHUNK, int(classes * room / sums)))
    return replace(compute, class_chunk=ceil(classes / sweeps)) if sweeps > 1 else compute


def finest_width(network: object) -> int:
    """Return the channels of a network's finest voxel features; the published ones where it does not say."""
    return int(getattr(getattr(network, "config", None), "embedding_dim", _PUBLISHED_WIDTH))


def estimate_run(
    model: Model,
    shape_dhw: Sequence[int],
    spacing_dhw: Sequence[float],
    keys: Sequence[str],
    *,
    prompted: bool = False,
    first_stage_only: bool = False,
    compute: Compute | None = None,
) -> RunEstimate:
    """Estimate a run of `pipeline.segment_volume` before it starts.

    Stage 2's region is known only once stage 1 has run, so the whole volume is assumed: an upper bound.

    Args:
        model: The model.
        shape_dhw: The volume in voxels.
        spacing_dhw: Its spacing in mm.
        keys: What is asked for ("CT_Liver").
        prompted: Whether masks are given, so that stage 2's patches run twice even if stage 1 finds nothing.
        first_stage_only: Whether stage 2 is left out.
        compute: How it will be run.
    """
    specs = stage_specs(model, next(iter(keys), "").partition("_")[0])
    if first_stage_only and 1 in specs:
        specs = {1: specs[1]}
    patches, needs = 0, []
    for number, spec in specs.items():
        grid_plan = plan(hwd(shape_dhw), hwd(spacing_dhw), keys, spec, magnify_single=False)
        twice = 2 if (number == 2 and len(specs) == 2) or prompted else 1
        patches += twice * len(grid_plan.tiles)
        needs.append(estimate_stage(grid_plan, len(keys), compute, finest_width(model.network(str(number)))))
    most = max(needs, key=lambda parts: sum(parts.values()))
    largest = dict(sorted(most.items(), key=lambda part: -part[1]))
    return RunEstimate(memory_mb=sum(most.values()), patches=patches, largest=largest)
