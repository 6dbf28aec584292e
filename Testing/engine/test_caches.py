"""Caches of a session: what was kept gives the answer of a fresh run, within a budget, and goes with the session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import blocky_image, write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.engine.caches import CacheSettings, TensorStore
from MedalSLib.engine.local import LocalEngine
from MedalSLib.inference import pipeline
from MedalSLib.run import RunOptions, RunResult

pytestmark = pytest.mark.slow

MIB = 2**20
KNOWN = ("CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Right kidney")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches so small that an image of few voxels has several."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, classes=KNOWN, patch=(16, 16, 32), contrast=30.0, widths=(4, 4, 8, 8))
    return folder


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[LocalEngine]:
    with open_engine(str(tiny_model), device="cpu") as opened:
        assert isinstance(opened, LocalEngine)
        yield opened


@pytest.fixture(scope="module")
def forgetful(tiny_model: Path) -> Iterator[LocalEngine]:
    """An engine whose sessions keep nothing."""
    with open_engine(str(tiny_model), device="cpu", caches=CacheSettings.off()) as opened:
        assert isinstance(opened, LocalEngine)
        yield opened


@pytest.fixture
def wide_image() -> np.ndarray:
    """An image of several patches along each axis but one."""
    return blocky_image(1, (4, 8, 8), (4, 5, 5))


def same(first: RunResult, second: RunResult) -> bool:
    assert first.names == second.names
    equal = all(np.array_equal(first.masks[name], second.masks[name]) for name in first.names)
    return equal and np.array_equal(first.labelmap, second.labelmap)


def brush(shape: tuple[int, ...], center: tuple[int, int, int], radius: int = 2) -> np.ndarray:
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum((axis - middle) ** 2 for axis, middle in zip(grid, center, strict=True)) <= radius**2  # type: ignore[return-value]  # numpy's sum


def test_a_further_name_takes_its_voxel_features_from_the_session(
    engine: LocalEngine, forgetful: LocalEngine, wide_image: np.ndarray, affine: np.ndarray
) -> None:
    options = RunOptions(stages="first", policy="published")
    with engine.open_session(wide_image, affine, "CT") as session:
        first = session.segment(["liver", "right kidney"], options=options)
        second = session.segment(["spleen", "left kidney"], options=options)
    with forgetful.open_session(wide_image, affine, "CT") as session:
        fresh = session.segment(["spleen", "left kidney"], options=options)
    assert not first.report.cached
    assert any("voxel features" in words for words in second.report.cached)
    assert any(mask.any() for mask in second.masks.values())
    assert not fresh.report.cached
    assert same(second, fresh)


def test_a_correction_runs_only_the_patches_it_touches_and_gives_the_answer_of_a_full_run(
    engine: LocalEngine, forgetful: LocalEngine, wide_image: np.ndarray, affine: np.ndarray
) -> None:
    shape = wide_image.shape
    before = np.zeros(shape, dtype=bool)
    before[2:14, 2:38, 2:38] = True  # fixes the region, so that the patches stay where they are
    stroke = brush(shape, (5, 6, 6))
    after = before & ~stroke
    names = ["liver", "spleen"]
    with engine.open_session(wide_image, affine, "CT") as session:
        session.segment(names, masks={"liver": before})
        corrected = session.segment(names, masks={"liver": after}, locked={"liver": stroke})
    with forgetful.open_session(wide_image, affine, "CT") as session:
        full = session.segment(names, masks={"liver": after}, locked={"liver": stroke})
    assert any("answers" in words for words in corrected.report.cached)
    assert same(corrected, full)


def test_another_seed_is_another_answer(engine: LocalEngine, wide_image: np.ndarray, affine: np.ndarray) -> None:
    mask = np.zeros(wide_image.shape, dtype=bool)
    mask[2:14, 2:38, 2:38] = True
    with engine.open_session(wide_image, affine, "CT") as session:
        session.segment(["liver"], masks={"liver": mask}, options=RunOptions(seed=1))
        other = session.segment(["liver"], masks={"liver": mask}, options=RunOptions(seed=2))
        again = session.segment(["liver"], masks={"liver": mask}, options=RunOptions(seed=2))
    assert not any("answers" in words for words in other.report.cached)
    assert any("answers" in words for words in again.report.cached)
    assert same(other, again)


def test_memory_that_runs_out_takes_what_the_session_kept(
    engine: LocalEngine, wide_image: np.ndarray, affine: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = pipeline.run_product
    kept: list[int] = []

    def once_too_much(*arguments: Any) -> Any:
        kept.append(session._caches.store.used("host"))
        if len(kept) == 1:
            raise MemoryError
        return really(*arguments)

    options = RunOptions(stages="first")
    with engine.open_session(wide_image, affine, "CT") as session:
        session.segment(["liver"], options=options)
        monkeypatch.setattr(pipeline, "run_product", once_too_much)
        second = session.segment(["spleen"], options=options)
    assert kept[0] > 0
    assert kept[1] == 0
    assert second.report.steps
    assert not second.report.cached


def test_a_store_keeps_to_its_budget_and_spills_to_files(tmp_path: Path) -> None:
    store = TensorStore({"device": 0, "host": 2 * MIB, "disk": 2 * MIB}, tmp_path)
    tensors = [torch.full((MIB // 4,), float(number)) for number in range(5)]
    assert [store.put(number, (tensor,)) for number, tensor in enumerate(tensors)] == [True] * 4 + [False]
    assert (store.used("host"), store.used("disk")) == (2 * MIB, 2 * MIB)
    for number in range(4):
        kept = store.get(number)
        assert kept is not None
        assert torch.equal(kept[0], tensors[number])
    assert store.get(4) is None
    store.clear()
    assert not list(tmp_path.iterdir())


def test_a_new_run_pushes_out_what_older_ones_left_but_nothing_of_its_own(tmp_path: Path) -> None:
    store = TensorStore({"device": 0, "host": 2 * MIB, "disk": 0}, tmp_path)
    one = torch.zeros(MIB // 4)
    store.begin_run()
    assert store.put("a", (one,))
    assert store.put("b", (one,))
    store.begin_run()
    assert store.get("b") is not None
    assert store.put("c", (one,))
    assert "a" not in store
    assert not store.put("d", (one,))
    assert "b" in store
    assert "c" in store


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_tensors_of_every_type_come_back_from_files_as_they_were(tmp_path: Path, dtype: torch.dtype) -> None:
    store = TensorStore({"device": 0, "host": 0, "disk": MIB}, tmp_path)
    values = (torch.arange(24).reshape(2, 3, 4).to(dtype) / 1).to(dtype).permute(2, 0, 1)
    assert store.put("x", (values,))
    kept = store.get("x")
    assert kept is not None
    assert kept[0].dtype == dtype
    assert torch.equal(kept[0], values)


def test_a_full_disk_is_a_smaller_cache_and_no_error(tmp_path: Path) -> None:
    store = TensorStore({"device": 0, "host": 0, "disk": MIB}, tmp_path / "gone")
    assert not store.put("x", (torch.zeros(10),))
    assert store.get("x") is None
