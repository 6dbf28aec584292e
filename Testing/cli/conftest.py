"""A tiny model, a small CT on disk, and a way to run the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from tiny_models import write_tiny_model

from MedalSLib.cli import main

KNOWN = ("CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Right kidney", "CT_Liver tumors")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, classes=KNOWN, patch=(32, 32, 64), contrast=30.0)
    return folder


def small_ct() -> np.ndarray:
    """Hounsfield units (K, J, I)."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 150, (3, 4, 4)).repeat(9, 0).repeat(9, 1).repeat(9, 2)[:24, :30, :28]
    array = (coarse + random.normal(0, 20, coarse.shape)).astype(np.int16)
    array[0], array[1] = -1000, 1200
    return array


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    path = tmp_path / "ct.nii.gz"
    nibabel.save(nibabel.Nifti1Image(small_ct().T, np.diag([-1.2, -1.0, 1.5, 1.0])), path)
    return path


Medals = Callable[..., tuple[int, str, str]]


@pytest.fixture
def medals(capsys: pytest.CaptureFixture[str]) -> Medals:
    """Run `medals ...`; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
