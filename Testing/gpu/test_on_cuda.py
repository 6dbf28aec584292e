"""What only a real GPU can show: CUDA's kernels give the CPU's answers, also with little memory, and training learns.

`tools.starter.gpu_run` runs these where there is a GPU; everywhere else a pretended one is walked on instead
(`Testing/engine/test_on_a_gpu.py`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from starter_inputs import elements, hounsfield, packed_folder, starter_recipe
from tiny_models import blocky_image, small_config, write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.network.gpu_network import GpuNetwork
from MedalSLib.network.medals import MedalS
from MedalSLib.run import RunOptions
from MedalSLib.training.recipe import Recipe
from tools.starter.bundle import write_starter
from tools.starter.train import train_starter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

NAMES = ["liver", "spleen", "left kidney"]


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that are sure of what they say, so that structures are found."""
    folder = tmp_path_factory.mktemp("models") / "sure"
    known = ("CT_Liver", "CT_Spleen", "CT_Left kidney")
    write_tiny_model(folder, classes=known, patch=(16, 16, 32), contrast=300.0, widths=(4, 4, 8, 8))
    return folder


@pytest.fixture
def image() -> np.ndarray:
    """Intensities (K, J, I) of several patches in each stage."""
    return blocky_image(1, (4, 7, 7), (5, 4, 4))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_both_forms_of_the_network_give_the_cpus_logits(dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False
    network = MedalS(small_config((32, 32, 32), widths=(8, 8, 16, 16), query_dim=32)).eval()
    image, queries = torch.rand(1, 1, 32, 32, 32) * 255, torch.randn(1, 5, 32)
    prompts = (torch.rand(1, 5, 32, 32, 32) > 0.7).float()
    union = prompts.amax(1, keepdim=True)
    with torch.inference_mode():
        expected = network(queries, image, union, prompts)[0]
        there = network.cuda()
        for form in (there, GpuNetwork(there, dtype)):
            with torch.autocast("cuda", dtype=dtype, enabled=dtype is not torch.float32):
                features = form.encode(image.cuda(), union.cuda())
                embeddings = form.mask_embeddings(features, queries.cuda())
                fused = form.fuse(features, form.mix_prompts(embeddings, prompts.cuda()))
                found = form.project(fused, embeddings).float().cpu()
            assert (found - expected).abs().max() < tolerance * float(expected.std()) * 10


@pytest.mark.parametrize("way", ["text", "mask", "refine"])
@pytest.mark.parametrize("limit", [None, 64.0])
def test_masks_are_nearly_those_of_the_cpu(tiny_model: Path, image: np.ndarray, way: str, limit: float | None) -> None:
    drawn = np.zeros(image.shape, dtype=bool)
    drawn[6:13, 7:18, 8:21] = True
    masks = {} if way == "text" else {"liver": drawn}
    options = RunOptions(mode="refine") if way == "refine" else RunOptions()
    results = []
    for device, limit_mb in (("cpu", None), ("cuda", limit)):
        with (
            open_engine(str(tiny_model), device, memory_limit_mb=limit_mb) as engine,
            engine.open_session(image, np.eye(4), "CT") as session,
        ):
            results.append(session.segment(NAMES, masks=masks, options=options).masks)
    for name in results[0]:
        here, there = results[0][name], results[1][name]
        assert (here & there).sum() >= 0.8 * (here | there).sum(), name


def test_the_starter_is_trained_and_its_model_answers_on_the_cpu(tmp_path: Path) -> None:
    packed = packed_folder(tmp_path / "packed")
    recipe = Recipe.from_dict(starter_recipe(steps=30))
    train_starter(packed, tmp_path / "run", recipe, device="cuda", until=15)
    trainer = train_starter(packed, tmp_path / "run", recipe, device="cuda", resume=True)
    assert trainer.step == 30
    assert all(torch.isfinite(value).all() for value in trainer.trained.state_dict().values())
    folder = write_starter(tmp_path / "run", tmp_path / "model")
    with (
        open_engine(str(folder), "cpu") as engine,
        engine.open_session(hounsfield(elements()), np.diag([-4.0, -4.0, 6.0, 1.0]), "CT") as session,
    ):
        assert set(session.segment(["liver"]).masks) == {"Liver"}
