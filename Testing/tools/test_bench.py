"""Benchmarks report what they say they measure; how fast the machine is, no test asks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicerio
import torch
from tiny_models import small_config, write_tiny_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from MedalSLib.cli import main
from MedalSLib.errors import InputError, ResourceError
from MedalSLib.network.gpu_network import GpuNetwork
from MedalSLib.network.manifest import write_manifest
from tools.benchmarks import (
    cpu_engine,
    gpu,
    measuring,
    memory,
    parallel_classes,
    scenes,
    sessions,
    start_up,
    whole_run,
)
from tools.benchmarks.commands import BENCHMARKS, bench, benchmark
from tools.benchmarks.operations import operations
from tools.benchmarks.scenes import BenchOptions

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> BenchOptions:
    """Options of networks with next to no channels and patches of 32 voxels."""
    config = small_config((32, 32, 32), widths=(4, 4, 8), query_dim=16, layers=1)
    monkeypatch.setattr(BenchOptions, "config", lambda self: config)
    return BenchOptions("published", patch=32, classes=(1, 3), threads=1)


def test_every_name_leads_to_a_benchmark() -> None:
    assert all(callable(benchmark(name)) for name in BENCHMARKS)


def test_names_and_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="no benchmark") as refused:
        bench("speed")
    assert {*BENCHMARKS, "service"} <= set(refused.value.remedy.rstrip(".").replace(",", "").split())
    with pytest.raises(InputError, match="patch"):
        bench("parallel-classes", BenchOptions(patch=70))
    with pytest.raises(InputError, match="classes"):
        bench("memory", BenchOptions(classes=(0,)))


def test_the_command_prints_json_and_names_bad_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_up, "start_up", lambda options: {"rows": [options.patch]})
    assert main(["bench", "start-up", "--patch", "96", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["benchmark"] == "start-up"
    assert report["rows"] == [96]
    assert report["settings"]["patch"] == 96
    assert main(["bench", "start-up", "--classes", "many"]) == InputError.exit_code


def test_many_classes_are_compared_with_as_many_single_runs(tiny: BenchOptions) -> None:
    report = parallel_classes.parallel_classes(tiny)
    assert [row["classes"] for row in report["rows"]] == [1, 3]
    single = report["single_run"]["cpu_s"]
    assert report["rows"][1]["one_by_one"]["cpu_s"] == pytest.approx(3 * single, abs=0.01)


def test_a_further_name_is_the_answer_of_a_fresh_run_and_comes_from_the_cache(tiny: BenchOptions) -> None:
    report = sessions.new_name(tiny)
    assert all(row["identical"] for row in report["rows"])
    assert all(any("voxel features" in words for words in row["cached"]) for row in report["rows"])


def test_a_correction_is_the_answer_of_a_full_run_and_comes_from_the_cache(tiny: BenchOptions) -> None:
    report = sessions.correction(tiny)
    assert {row["stroke"] for row in report["rows"]} == {"near a corner", "a third in"}
    assert {row["way"] for row in report["rows"]} == {"refine", "hybrid"}
    assert all(row["identical"] for row in report["rows"])
    again = [row for row in report["rows"] if row["way"] == "hybrid"]
    assert all(any("answers" in words for words in row["cached"]) for row in again)


def test_sessions_are_measured_with_the_bundled_model_on_a_phantom_or_on_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny model stands for the bundled one: one stage on a grid of 6 mm."""
    manifest = write_tiny_model(tmp_path, classes=("CT_Left lung", "CT_Right lung", "CT_Liver"), contrast=100.0)
    write_manifest(tmp_path, replace(manifest, stages=(replace(manifest.stages[0], spacing_hwd=(6.0, 6.0, 6.0)),)))
    monkeypatch.setattr("MedalSLib.network.registry.find_folder", lambda name: tmp_path)
    report = sessions.new_name(BenchOptions(shape=72, threads=1))
    (row,) = report["rows"]
    assert report["image"] == [72, 72, 72]
    assert row["identical"]
    assert any("voxel features" in words for words in row["cached"])
    assert row["voxels_found"] > 0
    scan = Path(slicerio.__file__).parent / "data" / "CTChest4.nrrd"
    report = sessions.correction(BenchOptions(scan=str(scan), threads=1))
    assert report["structures"]["Right lung"] > 0
    assert all(row["identical"] for row in report["rows"])


def test_memory_is_measured_on_a_run_that_finds_every_class() -> None:
    report = memory.memory(BenchOptions(classes=(3,), shape=64))
    (row,) = report["rows"]
    assert row["found"] == 3
    assert row["runs"] >= 3


def test_memory_seen_is_the_highest_in_between() -> None:
    with measuring.watched_memory() as peak:
        block: Any = np.ones(64 * 2**20, dtype=np.uint8)
        del block
    assert peak.highest_mb >= peak.before_mb


def test_openvino_and_pytorch_answer_alike(tiny: BenchOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(cpu_engine, "_PRODUCT", 64)
    report = cpu_engine.cpu_engine(tiny)
    for words in ("prompted", "without prompts"):
        rows = {row["form"]: row for row in report["rows"] if row["pass"] == words}
        assert list(rows) == ["PyTorch f32", "OpenVINO f32", "OpenVINO bf16"]
        assert rows["OpenVINO f32"]["same_labels"] >= 0.9999
        assert rows["OpenVINO bf16"]["same_labels"] >= 0.95
        assert rows["OpenVINO f32"]["seconds_by_kind"]["Convolution"] > 0


def test_starting_is_measured_in_fresh_processes_up_to_the_starters_first_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(start_up.subprocess, "run", lambda command, **options: ran.append(command))
    report = start_up.start_up(BenchOptions())
    assert [row["command"] for row in report["rows"]][-1] == "first mask of the starter"
    assert len(ran) >= 3 * len(report["rows"])
    assert all(command[0] == sys.executable for command in ran)


def test_operations_are_counted_as_they_are_done_and_the_gpus_form_runs(tiny: BenchOptions) -> None:
    network = scenes.random_network(tiny)
    generator = torch.Generator().manual_seed(0)
    image, masks = (torch.rand(1, count, 32, 32, 32, generator=generator) for count in (1, 9))
    queries = torch.rand(1, 9, 16, generator=generator)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(queries, image, image, masks)
    patch = (32, 32, 32)
    assert operations(network, patch, 9) == counter.get_total_flops()
    assert 0 < operations(network, patch, 9, prompted=False) < operations(network, patch, 9)
    form = GpuNetwork(network, torch.float32)
    with torch.inference_mode():
        gpu._pass(form, queries, image, (image > 0.5).float(), masks > 0.5)


def test_a_whole_run_finds_every_class_and_counts_what_the_networks_did(tiny: BenchOptions) -> None:
    patches = {1: (32, 32, 16), 2: (32, 32, 32)}
    rows = whole_run.whole_runs(tiny, 0.1, device="cpu", shape_dhw=(40, 48, 44), patches=patches, count=3)
    assert [(row["memory_limit_gb"], row["run"]) for row in rows][:2] == [(None, "first"), (None, "again")]
    assert {row["memory_limit_gb"] for row in rows} == {None, 8, 6}
    for row in rows:
        assert row["found"] == 3
        assert row["network_runs"] > 1
        assert row["gflop"] * 1e9 >= 0.99 * operations(scenes.random_network(tiny), (32, 32, 32), 3)
        assert set(row["seconds_by_stage"]) == {"stage 1", "stage 2", "finishing"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_its_benchmark_says_so() -> None:
    with pytest.raises(ResourceError, match="CUDA"):
        bench("gpu")


def test_random_networks_are_the_same_each_time(tiny: BenchOptions) -> None:
    first, second = scenes.random_network(tiny), scenes.random_network(tiny)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
