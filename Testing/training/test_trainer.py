"""The trainer learns, resumes exactly, and gives the same result in one process and in two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import RoundedConvolutions
from training_inputs import challenge_folder, toy_recipe

from MedalSLib.errors import CancelledError, InputError, OutputError
from MedalSLib.training import precision
from MedalSLib.training.building import freeze, new_model
from MedalSLib.training.distributed import World
from MedalSLib.training.prepare import PrepareOptions, prepare_cases
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.recipe import Recipe, load_recipe
from MedalSLib.training.run_folder import RunFolder, load_checkpoint
from MedalSLib.training.samples import SampleStream, collate
from MedalSLib.training.sources import find_sources
from MedalSLib.training.steps import Hooks
from MedalSLib.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedFolder:
    root = tmp_path_factory.mktemp("training")
    spec = Recipe.from_dict(toy_recipe()).stage_spec()
    return prepare_cases(
        find_sources(challenge_folder(root / "npz")), root / "prepared", PrepareOptions(spec, workers=0)
    )


def trainer(
    data: PreparedFolder, root: Path, recipe: Recipe, resume: bool = False, hooks: Hooks | None = None
) -> Trainer:
    folder = RunFolder(root)
    folder.start(recipe, {}, resume)
    return Trainer(new_model(recipe), SampleStream(data, recipe), recipe, ALONE, folder, hooks or Hooks())


def weights(of: Trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in of.trained.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.slow
def test_the_loss_goes_down(data: PreparedFolder, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(toy_recipe())
    run = trainer(data, tmp_path / "run", recipe)
    losses = run.run().losses
    assert len(losses) == 20
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    entries = RunFolder(tmp_path / "run").entries()
    assert [entry["step"] for entry in entries] == list(range(1, 21))
    assert entries[4]["learning_rate"] == pytest.approx(recipe.learning_rate()(5))
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    provenance = json.loads((tmp_path / "run" / "provenance.json").read_text())
    assert provenance["packages"]["torch"]


@pytest.mark.slow
def test_a_resumed_run_has_the_losses_and_weights_of_one_that_was_never_interrupted(
    data: PreparedFolder, tmp_path: Path
) -> None:
    settings = toy_recipe(optimizer={"ema_decay": 0.9, "clip_norm": 1.0})
    recipe = Recipe.from_dict(settings | {"schedule": [{"steps": 9, "peak": 5e-3, "warmup": 2}]})
    whole = trainer(data, tmp_path / "whole", recipe)
    expected = whole.run().losses
    first = trainer(data, tmp_path / "parts", recipe)
    begun = first.run(until=4).losses
    second = trainer(data, tmp_path / "parts", recipe, resume=True)
    assert second.resume()
    rest = second.run().losses
    assert begun + rest == expected
    assert same(weights(whole), weights(second))
    assert [entry["step"] for entry in RunFolder(tmp_path / "parts").entries()] == list(range(1, 10))


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_first_checkpoint_logs_each_step_once(
    data: PreparedFolder, tmp_path: Path
) -> None:
    recipe = Recipe.from_dict(toy_recipe(log={"every": 1, "checkpoint_every": 100}))
    killed = trainer(data, tmp_path / "run", recipe)
    killed.folder.log({"step": 0, "held_out_dice": 0.5})
    batches = iter(killed.source.batches(1, 3, killed.world))
    for _ in range(3):
        killed.folder.log(killed.advance(batches).to_log())
    again = trainer(data, tmp_path / "run", recipe, resume=True)
    assert not again.resume()
    again.run(until=4)
    assert [entry["step"] for entry in RunFolder(tmp_path / "run").entries()] == [1, 2, 3, 4]


@pytest.mark.slow
def test_the_losses_of_each_data_set_are_logged(data: PreparedFolder, tmp_path: Path) -> None:
    run = trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe(log={"every": 2})))
    run.run(until=2)
    last = RunFolder(tmp_path / "run").entries()[-1]
    (name,) = data.datasets
    assert last[f"dice_loss/{name}"] > 0 and last[f"bce_loss/{name}"] > 0


def test_a_cancelled_run_leaves_a_checkpoint_to_go_on_from(data: PreparedFolder, tmp_path: Path) -> None:
    recipe, stop = Recipe.from_dict(toy_recipe()), threading.Event()
    run = trainer(
        data, tmp_path / "run", recipe, hooks=Hooks(on_step=lambda r: stop.set() if r.step == 3 else None, cancel=stop)
    )
    with pytest.raises(CancelledError):
        run.run()
    again = trainer(data, tmp_path / "run", recipe, resume=True)
    assert again.resume()
    assert again.step == 3


def test_checkpoints_are_plain_tensors_and_a_damaged_one_is_refused(data: PreparedFolder, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(toy_recipe())
    run = trainer(data, tmp_path / "run", recipe)
    run.run(until=1)
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    assert torch.load(path, weights_only=True)["step"] == 1
    assert not list(path.parent.glob(".*"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(path)


def test_a_folder_with_a_run_is_neither_overwritten_nor_resumed_with_another_recipe(
    data: PreparedFolder, tmp_path: Path
) -> None:
    trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe()))
    with pytest.raises(OutputError, match="resume"):
        trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe()))
    with pytest.raises(InputError, match="another recipe"):
        trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe(seed=1)), resume=True)
    trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe(log={"every": 3})), resume=True)
    path = tmp_path / "run" / "recipe.json"
    older = json.loads(path.read_text())
    del older["loss"], older["data"], older["optimizer"]["skip_norm"]  # as a version wrote it that lacked them
    path.write_text(json.dumps(older))
    trainer(data, tmp_path / "run", Recipe.from_dict(toy_recipe()), resume=True)


def test_samples_depend_on_their_number_alone_and_worker_processes_change_nothing(data: PreparedFolder) -> None:
    recipe = Recipe.from_dict(toy_recipe())
    stream, again = SampleStream(data, recipe), SampleStream(data, recipe)
    again[0]
    for name in ("image", "target", "union", "prompts"):
        assert torch.equal(getattr(stream[7], name), getattr(again[7], name))
    assert stream[7].texts == again[7].texts
    batch = collate([stream[0], stream[1]])
    assert batch.target.shape[:2] == batch.real.shape
    assert batch.real.sum(1).tolist() == [len(texts) for texts in batch.texts]


def test_every_step_has_new_samples_and_processes_share_out_what_one_would_accumulate(data: PreparedFolder) -> None:
    def numbers(accumulate: int, rank: int, processes: int, first: int = 1) -> list[list[int]]:
        recipe = Recipe.from_dict(toy_recipe(optimizer={"accumulate": accumulate}))
        world = World(rank, processes, torch.device("cpu"))
        return list(SampleStream(data, recipe).batches(first, 3, world).batch_sampler)

    alone = numbers(2, 0, 1)
    flat = [number for batch in alone for number in batch]
    assert len(flat) == len(set(flat)) == 3 * 2 * 2
    assert [numbers(1, 0, 2)[step] + numbers(1, 1, 2)[step] for step in range(3)] == [
        alone[2 * step] + alone[2 * step + 1] for step in range(3)
    ]
    assert numbers(2, 0, 1, first=2) == alone[2:]


@pytest.mark.parametrize(("mirror", "always"), [("swap_sides", True), ("published", False)])
def test_the_left_organ_of_a_sample_lies_left_of_the_right_one_unless_published(
    data: PreparedFolder, mirror: str, always: bool
) -> None:
    recipe = Recipe.from_dict(toy_recipe(augmentation={"mirror": mirror, "rotation_share": 0.0}))
    stream = SampleStream(data, recipe)
    orders = []
    for number in range(40):
        sample = stream[number]
        columns: dict[str, float] = {}
        for text, mask in zip(sample.texts[0], sample.target[0], strict=True):
            if mask.any():
                columns[text.split()[0]] = float(torch.nonzero(mask)[:, 1].float().mean())
        if len(columns) == 2:
            orders.append(columns["Left"] > columns["Right"])
    assert len(orders) > 5
    assert all(orders) == always


@pytest.mark.parametrize("setting", ["auto", "bfloat16", "float16", "float32"])
def test_a_processor_computes_in_half_precision_only_where_it_has_it(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native in (False, True):
        monkeypatch.setattr(precision, "processor_has_bfloat16", lambda native=native: native)
        half = precision.autocast_type(setting, torch.device("cpu"))
        assert half == (torch.bfloat16 if native and setting != "float32" else None)


def test_mixed_precision_trains(data: PreparedFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "processor_has_bfloat16", lambda: True)
    recipe = Recipe.from_dict(toy_recipe(optimizer={"precision": "bfloat16"}))
    with RoundedConvolutions():
        assert np.isfinite(trainer(data, tmp_path / "run", recipe).run(until=2).losses).all()


def test_a_step_with_a_wild_gradient_changes_nothing_where_the_recipe_says_so(
    data: PreparedFolder, tmp_path: Path
) -> None:
    for skip, kept in ((1e-9, True), (1e9, False)):
        recipe = Recipe.from_dict(toy_recipe(optimizer={"clip_norm": 1.0, "skip_norm": skip}))
        run = trainer(data, tmp_path / str(skip), recipe)
        before = weights(run)
        run.run(until=2)
        assert same(before, weights(run)) == kept


def test_frozen_parts_keep_their_weights(data: PreparedFolder, tmp_path: Path) -> None:
    recipe = Recipe.from_dict(toy_recipe())
    folder = RunFolder(tmp_path / "run")
    folder.start(recipe, {}, False)
    model = new_model(recipe)
    freeze(model, "backbone")
    assert any(parameter.requires_grad for parameter in model.parameters())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    Trainer(model, SampleStream(data, recipe), recipe, ALONE, folder).run(until=2)
    after = model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before if ".backbone." in key)
    assert not all(torch.equal(before[key], after[key]) for key in before if "mask_embed" in key)


@pytest.mark.slow
def test_two_processes_do_what_one_does_that_accumulates_twice_as_many_batches(
    data: PreparedFolder, tmp_path: Path
) -> None:
    settings = toy_recipe(schedule=[{"steps": 4, "peak": 5e-3, "warmup": 1}])
    alone = Recipe.from_dict(settings | {"optimizer": {"accumulate": 2}})
    run = trainer(data, tmp_path / "alone", alone)
    expected = run.run().losses
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from MedalSLib.training.train import TrainOptions, train\n"
        "report = train(TrainOptions(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], device='cpu'))\n"
    )
    (tmp_path / "go.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(tmp_path / "go.py"),
         str(data.root), str(tmp_path / "two"), str(tmp_path / "recipe.json")],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [entry["loss"] for entry in RunFolder(tmp_path / "two").entries() if "loss" in entry]
    np.testing.assert_allclose(losses, expected, rtol=2e-4)
    state = load_checkpoint(tmp_path / "two" / "checkpoints" / "last.pt")["model"]
    for key, value in weights(run).items():
        torch.testing.assert_close(state[key], value, rtol=5e-3, atol=2e-4)


@pytest.mark.parametrize("name", ["published_stage1", "published_stage2", "small_stage1", "small_stage2"])
def test_shipped_recipes_are_complete_and_read_back(name: str) -> None:
    recipe = load_recipe(name)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    if name.startswith("published"):
        assert recipe.learning_rate().total_steps == 102_000
        assert recipe.network_config().widths == (64, 64, 128, 256, 512, 768)
        assert recipe.augmentation.mirror == "published"
    else:
        assert recipe.augmentation.mirror == "swap_sides"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"sampling": {"batch": 2}}, "batch"),
        ({"patch_hwd": [32, 32]}, "patch_hwd"),
        ({"stage": "3"}, "stage"),
        ({"seed": "one"}, "seed"),
        ({"optimizer": {"precision": "half"}}, "precision"),
        ({"sampling": {"batch_size": 0}}, "batch_size"),
    ],
)
def test_a_wrong_recipe_is_refused_with_the_name_of_the_entry(change: dict[str, object], named: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe.from_dict(toy_recipe(**change))
    assert named in str(caught.value)
