"""A real model answers to the bit the same in this process, on a server and in a child process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from service_support import AFFINE, running_server

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.run import RunOptions, RunResult
from MedalSLib.service.child import open_isolated_engine

torch = pytest.importorskip("torch", reason="needs the engine's packages")
from tiny_models import write_tiny_model  # noqa: E402 - needs torch

KNOWN = ("CT_Liver", "CT_Spleen", "CT_Left kidney", "CT_Right kidney", "CT_Liver tumors")
SHAPE = (24, 30, 28)


def image() -> np.ndarray:
    """Hounsfield-like intensities (K, J, I) with structure at several scales."""
    random = np.random.default_rng(0)
    coarse = random.normal(0, 150, (3, 4, 4)).repeat(9, 0).repeat(9, 1).repeat(9, 2)[:24, :30, :28]
    return (coarse + random.normal(0, 20, SHAPE)).astype(np.int16)


def requests() -> list[dict[str, Any]]:
    """Runs of one session, in this order, as a user makes them: names, then a corrected mask, then a region."""
    painted = np.zeros(SHAPE, bool)
    painted[6:18, 8:20, 5:21] = True
    locked = np.zeros(SHAPE, bool)
    locked[8:11, 10:14, :] = True
    return [
        {"prompts": ["liver, kidneys"], "options": RunOptions(seed=1)},
        {
            "prompts": ["spleen"],
            "masks": {"liver": painted},
            "locked": {"liver": locked},
            "options": RunOptions(mode="hybrid", seed=1),
        },
        {
            "masks": {"liver": painted, "Liver tumors": painted & locked},
            "roi": ((3, 25), (4, 26), (2, 20)),
            "options": RunOptions(seed=2, instances=("*",)),
        },
        {"prompts": ["liver", "spleen"], "options": RunOptions(policy="published", seed=3)},
    ]


def answers(engine: Engine) -> list[RunResult]:
    with engine.open_session(image(), AFFINE, "CT") as session:
        return [session.segment(**request) for request in requests()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_model(folder, classes=KNOWN, patch=(32, 32, 64), contrast=30.0)
    return str(folder)


@pytest.fixture(scope="module")
def local(model: str) -> list[RunResult]:
    torch.set_num_threads(1)
    with open_engine(model, "cpu") as engine:
        found = answers(engine)
    painted, locked = (requests()[1][kind]["liver"] for kind in ("masks", "locked"))
    assert np.array_equal(found[1].masks["liver"][locked], painted[locked])
    assert any(mask.any() and not mask.all() for result in found for mask in result.masks.values())
    assert not found[2].masks["liver"][:2].any()
    return found


@contextmanager
def on_a_server(model: str) -> Iterator[Engine]:
    with open_engine(model, "cpu") as behind, running_server(behind) as running, running.connect() as engine:
        yield engine


@contextmanager
def in_a_child(model: str) -> Iterator[Engine]:
    with open_isolated_engine(model, "cpu", threads=1) as engine:
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("place", [on_a_server, in_a_child])
def test_masks_labels_and_reports_are_the_local_engine_s_to_the_bit(
    place: Any, model: str, local: list[RunResult]
) -> None:
    with place(model) as engine:
        assert Path(model).name in engine.info().model
        remote = answers(engine)
    for far, near in zip(remote, local, strict=True):
        assert far.masks.keys() == near.masks.keys() and far.names == near.names
        for name, mask in near.masks.items():
            assert far.masks[name].dtype == mask.dtype == bool
            assert np.array_equal(far.masks[name], mask), name
        assert far.labelmap.dtype == near.labelmap.dtype and np.array_equal(far.labelmap, near.labelmap)
        assert far.instances.keys() == near.instances.keys()
        assert far.instances == near.instances
        assert far.report.structures == near.report.structures
        for field in ("model", "device", "modality", "seed", "understood", "warnings", "cached"):
            assert getattr(far.report, field) == getattr(near.report, field), field
