"""Benchmarks report what they say they measure; how fast the machine is, no test asks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from MedalSLib.cli import main
from MedalSLib.errors import InputError
from MedalSLib.evaluation.benchmarks import cpu_engine, measuring, memory, parallel_classes, scenes, sessions
from MedalSLib.evaluation.benchmarks.commands import BENCHMARKS, bench
from MedalSLib.evaluation.benchmarks.scenes import BenchOptions
from MedalSLib.network import MedalSConfig


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> BenchOptions:
    """Options of networks with next to no channels and patches of 32 voxels."""
    config = MedalSConfig.small((32, 32, 32), widths=(4, 4, 8), query_dim=16, layers=1)
    monkeypatch.setattr(BenchOptions, "config", lambda self: config)
    return BenchOptions(patch=32, classes=(1, 3), threads=1)


def test_names_and_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="no benchmark"):
        bench("speed")
    with pytest.raises(InputError, match="patch"):
        bench("parallel-classes", BenchOptions(patch=70))
    with pytest.raises(InputError, match="classes"):
        bench("memory", BenchOptions(classes=(0,)))


def test_the_command_prints_json_and_names_bad_arguments(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCHMARKS, "start-up", (lambda options: {"rows": [options.patch]}, ""))
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
    assert [row["stroke"] for row in report["rows"]] == ["near the border", "a third in"]
    assert all(row["identical"] for row in report["rows"])
    assert all(any("answers" in words for words in row["cached"]) for row in report["rows"])


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


def test_openvino_and_pytorch_answer_alike(tiny: BenchOptions) -> None:
    pytest.importorskip("openvino")
    options = BenchOptions(patch=64, threads=1)
    report = cpu_engine.cpu_engine(options)
    assert [row["form"] for row in report["rows"]] == ["PyTorch f32", "OpenVINO f32", "OpenVINO bf16"]
    assert report["rows"][1]["same_labels"] >= 0.9999
    assert report["rows"][2]["same_labels"] >= 0.95


def test_random_networks_are_the_same_each_time(tiny: BenchOptions) -> None:
    first, second = scenes.random_network(tiny), scenes.random_network(tiny)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
