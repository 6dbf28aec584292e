"""What a run would take is measured without data, and scaled up where a whole patch would take too long."""

from __future__ import annotations

import json
import threading
from math import prod
from pathlib import Path

import pytest
from training_inputs import toy_recipe

from MedalSLib.cli import main
from MedalSLib.errors import CancelledError
from MedalSLib.training.dry_run import dry_run
from MedalSLib.training.recipe import Recipe

pytestmark = pytest.mark.slow

SMALL: dict[str, object] = {"sampling": {"batch_size": 1, "max_queries": 2}}
LIMIT = (32, 32, 16)


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patches larger than this are scaled."""
    monkeypatch.setattr("MedalSLib.training.dry_run._CPU_VOXELS", prod(LIMIT))


def test_a_dry_run_measures_without_data_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(toy_recipe(**SMALL)))
    command = ["train", tmp_path / "nothing", tmp_path / "run", "--recipe", path, "--device", "cpu", "--dry-run"]
    assert main([str(word) for word in command]) == 0
    report = json.loads(capsys.readouterr().out)
    assert not report["extrapolated"]
    assert report["measured_patch_hwd"] == report["patch_hwd"]
    assert report["total_steps"] == 20
    assert report["hours"] == pytest.approx(20 / report["steps_per_second"] / 3600, rel=0.02)
    assert f"{report['total_steps']} steps" in report["summary"]
    assert "Measured on" not in report["summary"]
    assert not (tmp_path / "run").exists()


def test_a_patch_too_large_for_a_cpu_is_measured_smaller_and_scaled_by_its_voxels_and_says_so() -> None:
    def report(*patch: int) -> dict:  # type: ignore[type-arg]  # JSON
        return dry_run(Recipe.from_dict(toy_recipe(patch_hwd=list(patch), **SMALL)), "cpu")

    small, large = report(*LIMIT), report(64, 64, 32)
    assert small["measured_patch_hwd"] == list(LIMIT)
    assert large["extrapolated"]
    assert prod(large["measured_patch_hwd"]) == prod(LIMIT)
    assert large["steps_per_second"] == pytest.approx(large["measured_steps_per_second"] / 8, rel=0.02)
    fixed = small["parameters"] * 4 * 4 / 2**20
    assert large["memory_mb"] - fixed == pytest.approx(8 * (small["memory_mb"] - fixed), rel=0.05)
    assert "64 x 64 x 32" in large["summary"]
    assert "multiplied by 8" in large["summary"]


def test_memory_counts_at_least_what_each_convolution_gives_its_successor() -> None:
    recipe = Recipe.from_dict(toy_recipe(patch_hwd=list(LIMIT), **SMALL))
    full_resolution = prod(LIMIT) * 8 * 4 / 2**20  # eight channels of float32
    report = dry_run(recipe, "cpu")
    fixed = report["parameters"] * 4 * 4 / 2**20
    assert 8 * full_resolution < report["memory_mb"] - fixed < 40 * full_resolution
    averaged = Recipe.from_dict(toy_recipe(patch_hwd=list(LIMIT), optimizer={"ema_decay": 0.9}, **SMALL))
    more = dry_run(averaged, "cpu")["memory_mb"] - report["memory_mb"]
    assert more == pytest.approx(report["parameters"] * 4 / 2**20, abs=1)


def test_what_does_not_fit_into_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("MedalSLib.training.dry_run._available", lambda device: 1.0)
    report = dry_run(Recipe.from_dict(toy_recipe(**SMALL)), "cpu")
    assert report["memory_available_mb"] == 1
    assert "does not fit" in report["summary"]


def test_a_measurement_can_be_cancelled() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(CancelledError):
        dry_run(Recipe.from_dict(toy_recipe(**SMALL)), "cpu", cancel=stop)
