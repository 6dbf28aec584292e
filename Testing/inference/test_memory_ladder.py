"""What happens when memory runs out, and what is estimated before it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from MedalSLib.errors import ResourceError
from MedalSLib.inference.blending import BlendedPatches, batches, most_voxels
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.memory import (
    LADDER,
    PLANNED,
    estimate_run,
    estimate_stage,
    fitting,
    in_sweeps,
    out_of_memory,
    with_ladder,
)
from MedalSLib.inference.pipeline import segment_volume
from MedalSLib.inference.resampling_policy import StageSpec, plan

GPU = Compute(device="cuda", batch_voxels=1 << 20)


def fails(times: int, error: Exception, seen: list[Compute]) -> Callable[[Compute], str]:
    def run(compute: Compute) -> str:
        seen.append(compute)
        if len(seen) <= times:
            raise error
        return "done"

    return run


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried"), torch.cuda.OutOfMemoryError("x"),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")],
)  # fmt: skip
def test_one_step_is_taken_and_named(error: Exception) -> None:
    seen: list[Compute] = []
    told: list[str] = []
    assert with_ladder(fails(1, error, seen), Compute(), 24, on_step=told.append) == ("done", (LADDER[0].name,))
    assert told == [LADDER[0].name]
    assert seen == [Compute(), Compute(class_chunk=12)]


def test_steps_add_up_in_order_and_end_on_the_cpu() -> None:
    seen: list[Compute] = []
    _, steps = with_ladder(fails(6, MemoryError(), seen), GPU, 24)
    assert steps == tuple(step.name for step in LADDER[1:])
    assert [compute.device for compute in seen] == ["cuda"] * 6 + ["cpu"]
    assert [compute.class_chunk for compute in seen] == [None, 12, 8, 8, 8, 8, 8]
    assert seen[3].accumulator_device == "cpu"
    assert seen[4].autocast is not None
    assert not seen[5].batch_voxels


def test_steps_that_gain_nothing_are_skipped() -> None:
    _, steps = with_ladder(fails(1, MemoryError(), []), Compute(), 3)
    assert steps == ("half precision",)


def test_the_end_of_the_ladder_is_a_clear_error() -> None:
    with pytest.raises(ResourceError, match="not enough memory"):
        with_ladder(fails(99, MemoryError(), []), Compute(), 3)


def test_other_errors_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        with_ladder(fails(1, RuntimeError("shapes do not fit"), []), Compute(), 3)
    assert not out_of_memory(ValueError("out of memory"))


def test_steps_are_taken_beforehand_until_the_estimate_fits() -> None:
    made = plan((400, 400, 400), (1, 1, 1), ["CT_Liver", "CT_Spleen"], 2)

    def need(compute: Compute) -> float:
        return sum(estimate_stage(made, 100, compute).values())

    compute, steps = fitting(need, Compute(), 100, need(Compute()) - 1)
    assert steps == (PLANNED[0].name,)
    assert compute.class_chunk == 50
    assert need(compute) < need(Compute())
    assert fitting(need, Compute(), 100, 1e9) == (Compute(), ())
    assert fitting(need, Compute(), 100, 1)[1] == ("classes in chunks of 8", "half precision")


def test_sums_that_do_not_fit_are_made_in_sweeps_of_as_many_classes_each() -> None:
    made = plan((365, 365, 365), (1, 1, 1), ["CT_Liver", "CT_Spleen"], 2)
    whole = sum(estimate_stage(made, 117, Compute(), 2).values())
    assert in_sweeps(Compute(), made, 117, 2, whole) == Compute()
    assert in_sweeps(Compute(), made, 117, 2, whole - 1) == Compute(class_chunk=59)
    few = in_sweeps(Compute(), made, 117, 2, 6144)
    assert few.class_chunk is not None
    assert sum(estimate_stage(made, 117, few, 2).values()) <= 6144
    assert in_sweeps(Compute(), made, 117, 2, 1) == Compute(class_chunk=8)
    assert in_sweeps(Compute(class_chunk=100), made, 117, 2, 1) == Compute(class_chunk=100)


def test_a_run_with_little_memory_says_in_how_many_sweeps_it_went(band_model: Callable[..., Any], wanted: Any) -> None:
    image = np.random.default_rng(0).random((20, 24, 24)).astype(np.float32) * 255
    items = [wanted(f"CT_{number}") for number in range(20)]
    queries = torch.tensor([[10.0 * number, 20.0] for number in range(20)])
    roomy, tight = (
        segment_volume(
            band_model(stages="1"), image, (1.0, 1.0, 1.0), items, queries, compute=Compute(free_memory_mb=free)
        )
        for free in (1e6, 0.01)
    )
    assert roomy.steps == ()
    assert tight.steps == ("classes in 3 sweeps",)
    assert np.array_equal(roomy.labelmap, tight.labelmap)


def test_the_estimate_of_the_sums_is_what_blending_holds() -> None:
    for shape, patch in (((40, 36, 20), (16, 16, 16)), ((16, 50, 16), (16, 16, 16)), ((16, 16, 16), (16, 16, 16))):
        made = plan(shape, (1, 1, 1), ["CT_Liver", "CT_Spleen"], StageSpec(2, (1.0, 1.0, 1.0), patch))
        sums = BlendedPatches(3, made, torch.float32, torch.device("cpu"))
        held = []
        for batch in batches(made):
            for tile in batch.tiles:
                sums.add(tile, [(0, 16, torch.ones(3, *patch))])
            held.append(sum(cell[0].numel() for cell in sums._sums.values()))
            sums.forget(batch.final)
        assert max(held) == most_voxels(made)
        assert not sums._sums


def test_estimates_grow_with_what_is_asked_for(band_model: Callable[..., Any]) -> None:
    model = band_model()
    few = ["CT_Liver"]
    many = [f"CT_{number}" for number in range(40)]
    shape, spacing = (40, 60, 60), (1.0, 1.0, 1.0)
    base = estimate_run(model, shape, spacing, few)
    assert estimate_run(model, shape, spacing, many).memory_mb > base.memory_mb
    assert estimate_run(model, (80, 60, 60), spacing, few).patches > base.patches
    first = estimate_run(model, shape, spacing, few, first_stage_only=True)
    assert 0 < first.patches < base.patches
    assert list(base.largest.values()) == sorted(base.largest.values(), reverse=True)
