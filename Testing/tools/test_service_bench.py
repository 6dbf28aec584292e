"""`medals bench service` measures a real server: what travels is what must, and every figure is there."""

from __future__ import annotations

import json

import numpy as np
import pytest

from MedalSLib.cli import main
from MedalSLib.errors import InputError, ServiceError
from tools.benchmarks.attack import attack_bench
from tools.benchmarks.fixed_engine import FixedEngine, ct_like, ripples
from tools.benchmarks.service import ServiceBenchOptions, service_bench

SHAPE = (20, 24, 28)


def test_the_fixed_engine_answers_always_the_same_with_masks_of_organ_size() -> None:
    assert np.array_equal(ct_like(SHAPE), ct_like(SHAPE)) and np.ptp(ct_like(SHAPE)) > 1000
    masks = [ripples((60, 80, 80), number) for number in range(24)]
    assert all(0.0005 < mask.mean() < 0.05 for mask in masks)
    assert len({mask.tobytes() for mask in masks}) == 24
    session = FixedEngine().open_session(ct_like(SHAPE), np.eye(4), "CT")
    result = session.segment(["a"], {"b": ripples(SHAPE, 0)})
    assert result.names == ("a", "b") and np.array_equal(result.masks["a"], ripples(SHAPE, 0))


@pytest.mark.slow
def test_the_bench_tells_bytes_seconds_requests_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--image", "48,40,32", "--masks", "3", "--clients", "2", "--runs", "21", "--seconds", "0.2"]
    assert main(["bench", "service", "--json", *small]) == 0
    report = json.loads(capsys.readouterr().out)
    first, again, back, both, one = report["wire"]["steps"]
    image = 48 * 40 * 32 * 2 / 2**10
    assert 0.2 * image < first["sent_kib"] < image, "sent once, compressed"
    assert again["sent_kib"] < 0.05 * image, "not sent twice"
    assert back["sent_kib"] < one["sent_kib"] < both["sent_kib"], "masks travel when they are prompts"
    assert 0 < back["received_kib"] < 3 * 48 * 40 * 32 / 2**10, "masks come packed and cropped"
    assert report["requests"]["clients"] == 2 and min(report["requests"]["per_second"].values()) > 0
    assert report["memory"]["runs"] == 21 and report["memory"]["mib_after_10"] > 1


def test_sizes_that_cannot_be_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="more than ten"):
        service_bench(ServiceBenchOptions(runs=10))
    assert main(["bench", "service", "--image", "10,10"]) == 3
    assert "not the size of a volume" in capsys.readouterr().err


@pytest.mark.slow
def test_the_attack_bench_tells_what_others_notice(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ServiceError, match="no such attack"):
        attack_bench(1.0, ("kindness",))
    assert main(["bench", "attack", "--json", "--seconds", "2", "--ways", "idle,wrong_keys"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["health"]["asked"] > 0 and report["health"]["failed"] == 0
    assert report["right_key"]["done"] > 0 and report["right_key"]["failed"] == 0
    assert report["memory"]["mib_at_most"] > 1
