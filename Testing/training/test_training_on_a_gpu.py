"""Training's way on a GPU, walked on a pretended one: everything is on the device that needs it, and weights change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import OnGpu, pretend_gpu
from starter_inputs import packed_folder
from training_inputs import plain_folder, toy_recipe

from MedalSLib.engine import open_engine
from MedalSLib.training import starter_train
from MedalSLib.training.commands import prepare, train
from MedalSLib.training.starter_train import Trainer


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_a_recipe_is_trained_on_a_gpu_and_its_model_opens(tmp_path: Path) -> None:
    recipe = tmp_path / "toy.json"
    recipe.write_text(json.dumps(toy_recipe()))
    prepare(plain_folder(tmp_path / "cases"), tmp_path / "prepared", recipe, modality="CT")
    with pretend_gpu():
        report = train(tmp_path / "prepared", tmp_path / "run", recipe, device="cuda:0")
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
    arguments = ["--data", packed, "--run", tmp_path / "run", "--recipe", "tiny", "--device", "cuda:0", "--steps", 3]
    with pretend_gpu():
        trainer = Trainer(starter_train.parser().parse_args([str(argument) for argument in arguments]))
        begun = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        losses = [trainer.train_step()[1] for _ in range(3)]
        assert all(isinstance(loss, OnGpu) and bool(torch.isfinite(loss)) for loss in losses)
        changed = [not torch.equal(begun[name], value) for name, value in trainer.model.state_dict().items()]
    assert sum(changed) > len(changed) / 2
