"""Which precision and form of the networks a device gets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from MedalSLib.engine import computing
from MedalSLib.engine.computing import choose_compute, has_matrix_units


@pytest.mark.parametrize(
    ("engine", "matrix_units", "fast", "precision"),
    [
        ("", False, True, None),
        ("", True, True, torch.bfloat16),
        ("openvino", True, True, None),
        ("openvino-bf16", False, True, torch.bfloat16),
        ("torch", True, False, None),
    ],
)
def test_a_cpu_computes_in_bf16_where_it_has_units_for_it_or_is_told_to(
    monkeypatch: pytest.MonkeyPatch, engine: str, matrix_units: bool, fast: bool, precision: torch.dtype | None
) -> None:
    monkeypatch.setenv("MEDALS_CPU_ENGINE", engine)
    monkeypatch.setattr(computing, "has_matrix_units", lambda: matrix_units)
    compute = choose_compute("cpu")
    assert (compute.fast, compute.autocast) == (fast, precision)


def test_a_gpu_computes_in_half_precision_and_joins_the_passes_of_small_patches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for supported, precision in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda supported=supported: supported)
        compute = choose_compute("cuda:0")
        assert compute.autocast is precision
        assert 64 * 64 * 32 <= compute.batch_voxels < 192**3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags : fpu avx512f amx_bf16 amx_tile\n", True),
        ("processor : 0\nflags : fpu avx512_bf16\n", False),
        ("no such line", False),
        (None, False),
    ],
)
def test_matrix_units_are_looked_for_where_linux_tells_of_them(
    tmp_path: Path, text: str | None, expected: bool
) -> None:
    info = tmp_path / "cpuinfo"
    if text is not None:
        info.write_text(text)
    has_matrix_units.cache_clear()
    assert has_matrix_units(info) is expected
    has_matrix_units.cache_clear()
