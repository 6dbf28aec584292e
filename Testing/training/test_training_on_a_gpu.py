"""Training's way on a GPU, walked on a pretended one: everything is on the device that needs it, and weights change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import OnGpu, pretend_gpu
from starter_inputs import packed_folder, starter_recipe
from training_inputs import plain_folder, prepared_folder, toy_recipe

from MedalSLib.engine import open_engine
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.train import TrainOptions, train
from tools.starter.train import train_starter

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_a_recipe_is_trained_on_a_gpu_and_its_model_opens(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(toy_recipe()))
    prepared_folder(plain_folder(tmp_path / "cases"), tmp_path / "prepared", recipe, modality="CT")
    with pretend_gpu():
        report = train(TrainOptions(tmp_path / "prepared", tmp_path / "run", recipe, device="cuda:0"))
        assert OnGpu.traffic.calls["torch.nn.functional.conv3d"] > 0
    assert report["step"] == 20
    assert report["last_loss"] < report["first_loss"]
    image = np.arange(16 * 32 * 32, dtype=np.int16).reshape(16, 32, 32)
    with (
        open_engine(report["model"], device="cpu") as engine,
        engine.open_session(image, np.eye(4), "CT") as session,
    ):
        assert session.segment(["left kidney"]).names == ("Left kidney",)


def test_the_starter_is_trained_on_a_gpu(tmp_path: Path) -> None:
    packed = packed_folder(tmp_path / "packed")
    entries = starter_recipe(steps=3)
    entries["optimizer"]["ema_decay"] = None  # the pretended GPU's tensors cannot be copied as a whole
    entries["data"]["plans"][1] |= {"answered": 1.0, "share": 9.0}  # prompts made of the model's own answers
    recipe = Recipe.from_dict(entries)
    with pretend_gpu():
        trainer = train_starter(packed, tmp_path / "run", recipe, device="cuda:0")
        assert trainer.step == 3
        assert all(isinstance(value, OnGpu) for value in trainer.model.state_dict().values())
        assert all(bool(torch.isfinite(value).all()) for value in trainer.model.state_dict().values())
        assert OnGpu.traffic.calls["torch.nn.functional.conv3d"] > 0
