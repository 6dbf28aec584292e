"""A tiny model with random weights, and an engine that has loaded it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.engine.local import LocalEngine

KNOWN = ("CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Right kidney", "CT_Left lung", "CT_Liver tumors", "MRI_Liver")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, classes=KNOWN, patch=(32, 32, 64), contrast=30.0)
    return folder


@pytest.fixture(scope="session")
def engine(tiny_model: Path) -> Iterator[LocalEngine]:
    torch.set_num_threads(1)
    with open_engine(str(tiny_model), device="cpu") as opened:
        assert isinstance(opened, LocalEngine)
        yield opened


@pytest.fixture
def image() -> np.ndarray:
    """Hounsfield-like intensities (K, J, I) with structure at several scales."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 150, (3, 4, 4)).repeat(9, 0).repeat(9, 1).repeat(9, 2)[:24, :30, :28]
    return (coarse + random.normal(0, 20, coarse.shape)).astype(np.int16)


@pytest.fixture
def affine() -> np.ndarray:
    """LPS-aligned axes of 1.2 x 1 x 1.5 mm, as a usual CT has them."""
    return np.array([[-1.2, 0, 0, 40], [0, -1.0, 0, 30], [0, 0, 1.5, -20], [0, 0, 0, 1]])
