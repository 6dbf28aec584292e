"""The starter's training: what it is taught, its batches, its trainer, and the model folder it ends in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from starter_inputs import BOXES, HOUNSFIELD, SPACING, TRUSTED, elements, hounsfield, packed_folder

from MedalSLib import vocabulary
from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError
from MedalSLib.training import starter_bundle, starter_train
from MedalSLib.training.starter_batches import Batch, BatchMaker, Plan
from MedalSLib.training.starter_labels import (
    BACKGROUND,
    ELEMENTS,
    NOT_MIRRORED,
    mirrored_elements,
    starter_classes,
)
from MedalSLib.training.starter_model import read_parts
from MedalSLib.training.starter_pack import resample, trusted_names
from MedalSLib.training.starter_prompts import prompts_for
from MedalSLib.training.starter_sources import SOURCES
from MedalSLib.training.starter_train import Trainer
from MedalSLib.training.starter_volumes import AIR_SHIFT, load_volumes
from MedalSLib.volume.windows import window_for

CPU = torch.device("cpu")
PLAN = Plan((32, 32, 48), (8.0, 9.0), prompted=False)
NAMES = [known.name for known in starter_classes()]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return packed_folder(tmp_path_factory.mktemp("starter") / "packed")


def maker(packed: Path, seed: int = 0, queries: int = 6) -> BatchMaker:
    return BatchMaker(load_volumes(packed, CPU), queries, seed)


# -- what is taught --------------------------------------------------------------------------------------------------


def test_structures_are_published_ones_in_the_window_that_inference_looks_at_them_in() -> None:
    for known in starter_classes():
        item = vocabulary.structure(f"{known.modality}_{known.name}")
        assert window_for(item).name == known.window, item.key
        assert known.elements
        assert not set(known.elements) & set(BACKGROUND)


def test_mirroring_twice_is_no_mirroring_and_sides_change_places() -> None:
    mirrored = mirrored_elements()
    assert mirrored[ELEMENTS["kidney_left"]] == ELEMENTS["kidney_right"]
    assert mirrored[ELEMENTS["liver"]] == ELEMENTS["liver"]
    middle_lobe = ELEMENTS["lung_middle_lobe_right"]
    assert [mirrored[mirrored[n]] for n in ELEMENTS.values() if n != middle_lobe] == [
        n for n in ELEMENTS.values() if n != middle_lobe
    ]
    classes = {(known.modality, known.name): set(known.elements) for known in starter_classes()}
    for (modality, name), parts in classes.items():
        if name.split()[0] in ("Left", "Right") and name not in NOT_MIRRORED:
            other = f"Left{name[5:]}" if name.startswith("Right") else f"Right{name[4:]}"
            twin = next(
                value for key, value in classes.items() if key[0] == modality and key[1].lower() == other.lower()
            )
            assert {mirrored[part] for part in parts} <= twin


def test_sources_give_known_elements_and_judge_known_structures() -> None:
    for source in SOURCES:
        assert all(name in ELEMENTS for overlay in source.overlays for name in overlay.ids.values())
        assert set(trusted_names(source)) <= set(NAMES)


def test_resampling_keeps_the_box_the_mean_of_an_image_and_the_numbers_of_labels() -> None:
    numbers = elements()
    coarse = resample(numbers, SPACING, (12.0, 8.0, 8.0), 0)
    assert coarse.shape == (20, 30, 40)
    assert set(np.unique(coarse)) <= set(np.unique(numbers))
    image = resample(hounsfield(numbers), SPACING, (12.0, 8.0, 8.0), 1)
    assert image.mean() == pytest.approx(hounsfield(numbers).mean(), abs=3)
    liver = tuple(slice(low // 2 + 1, high // 2 - 1) for low, high in BOXES["liver"])
    np.testing.assert_allclose(image[liver], HOUNSFIELD["liver"], atol=3)


# -- volumes and batches ---------------------------------------------------------------------------------------------


def test_a_packed_volume_is_read_back_with_means_and_places_of_its_organs(packed: Path, tmp_path: Path) -> None:
    (volume,) = load_volumes(packed, CPU)
    np.testing.assert_allclose(volume.image.numpy() - AIR_SHIFT, hounsfield(elements()), atol=8)
    np.testing.assert_array_equal(volume.elements.numpy(), elements())
    for name in BOXES:
        assert volume.mean[ELEMENTS[name]] == pytest.approx(HOUNSFIELD[name], abs=8)
    organs = {organ.number: organ for organ in volume.organs}
    assert set(organs) == {ELEMENTS[name] for name in BOXES if name != "soft"}
    liver = organs[ELEMENTS["liver"]]
    wanted = [(low + high) / 2 * size for (low, high), size in zip(BOXES["liver"], SPACING, strict=True)]
    assert liver.centre == pytest.approx(wanted)
    assert volume.trusted == set(TRUSTED)
    with pytest.raises(InputError, match="no packed volumes"):
        load_volumes(tmp_path, CPU)


def masks_of(batch: Batch, sample: int) -> dict[str, torch.Tensor]:
    """Masks (H, W, D) of the structures that are asked for and there, by name."""
    return {
        NAMES[int(row)]: mask
        for row, mask, real in zip(batch.classes[sample], batch.target[sample], batch.real[sample], strict=True)
        if real and mask.sum() > 30
    }


def test_left_lies_left_of_right_in_every_patch_though_some_are_mirrored(packed: Path) -> None:
    batches = maker(packed)
    judged = mirrored = 0
    for _ in range(24):
        batch = batches.make(PLAN, 2)
        assert batch.image.shape == (2, 1, 32, 48, 32)
        assert 0 <= batch.image.min() < batch.image.max() <= 255
        for sample in range(2):
            column = {
                name: float(torch.nonzero(mask)[:, 1].float().mean()) for name, mask in masks_of(batch, sample).items()
            }
            if {"Left kidney", "Right kidney"} <= column.keys():
                judged += 1
                assert column["Left kidney"] > column["Right kidney"]
            if {"Liver", "Spleen"} <= column.keys():
                mirrored += column["Liver"] > column["Spleen"]
    assert judged > 10
    assert 1 <= mirrored < 24


def test_the_image_shows_what_the_target_says(packed: Path) -> None:
    batches = maker(packed, seed=1)
    batches.real_share = 1.0
    differences = []
    for _ in range(12):
        batch = batches.make(PLAN, 1)
        image = batch.image[0, 0]
        for name, mask in masks_of(batch, 0).items():
            if name in TRUSTED and mask.sum() > 100:
                inside, outside = image[mask], image[~mask & (image > 0)]
                differences.append(abs(float(inside.mean() - outside.mean())) / (float(inside.std()) + 1.0))
    assert len(differences) > 8
    assert np.median(differences) > 0.5


def test_the_same_seed_gives_the_same_batches_and_a_restored_state_goes_on(packed: Path) -> None:
    plan = Plan(PLAN.shape, PLAN.spacing, prompted=True)
    first, second, other = maker(packed), maker(packed), maker(packed, seed=1)
    begun = first.make(plan, 1)
    assert torch.equal(begun.image, second.make(plan, 1).image)
    assert not torch.equal(begun.image, other.make(plan, 1).image)
    other.restore(first.state())
    a, b = first.make(plan, 1), other.make(plan, 1)
    for name in ("image", "target", "union", "prompts", "classes", "real"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_only_trusted_structures_are_asked_for(packed: Path) -> None:
    batch = maker(packed, queries=10).make(PLAN, 3)
    for sample in range(3):
        asked = {NAMES[int(row)] for row, real in zip(batch.classes[sample], batch.real[sample], strict=True) if real}
        assert asked <= set(TRUSTED)
        assert not batch.target[sample][~batch.real[sample]].any()
    taught = BatchMaker(load_volumes(packed, CPU), 4, 0, taught=frozenset({"Liver"})).make(PLAN, 1)
    assert [NAMES[int(row)] for row, real in zip(taught.classes[0], taught.real[0], strict=True) if real] == ["Liver"]


def test_prompts_are_mostly_near_their_structures_and_sometimes_withheld() -> None:
    target = torch.zeros((1, 3, 32, 32, 32), dtype=torch.bool)
    target[0, 0, 8:24, 8:24, 8:24] = target[0, 1, 4:10, 20:30, 20:30] = True
    host, rng = np.random.default_rng(0), torch.Generator().manual_seed(0)
    shares = []
    for _ in range(60):
        prompts = prompts_for(target, host, rng)
        assert prompts.shape == target.shape
        assert set(prompts.unique().tolist()) <= {0.0, 1.0}
        large = prompts[0, 0] > 0
        shares += [float((large & target[0, 0]).sum() / large.sum())] if large.any() else []
    assert 0.55 <= len(shares) / 60 <= 0.9
    assert np.median(shares) > 0.8


# -- training --------------------------------------------------------------------------------------------------------


def trainer(packed: Path, run: Path, out: Path | None = None, resume: Path | None = None, steps: int = 4) -> Trainer:
    arguments = ["--data", packed, "--run", run, "--recipe", "tiny", "--device", "cpu", "--steps", steps]
    arguments += ["--out", out] if out else []
    arguments += ["--resume", resume] if resume else []
    made = Trainer(starter_train.parser().parse_args([str(argument) for argument in arguments]))
    made.resume()
    return made


def everything(of: Trainer) -> dict[str, torch.Tensor]:
    weights = {f"model.{key}": value.clone() for key, value in of.model.state_dict().items()}
    return weights | {f"average.{key}": value.clone() for key, value in of.average.items()}


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """A run of four steps, and the folder of its small files."""
    root = tmp_path_factory.mktemp("run")
    run = trainer(packed, root / "run", root / "out")
    begun = everything(run)
    run.run()
    assert run.step == 4
    assert any(not torch.equal(begun[key], value) for key, value in everything(run).items())
    return run, root / "out"


def test_a_run_that_was_interrupted_ends_with_the_same_weights_to_the_bit(
    packed: Path, trained: tuple[Trainer, Path], tmp_path: Path
) -> None:
    first = trainer(packed, tmp_path / "run")
    for _ in range(2):
        first.train_step()
    first.save()
    second = trainer(packed, tmp_path / "run")
    assert second.step == 2
    second.run()
    assert second.step == 4
    expected, found = everything(trained[0]), everything(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_run_goes_on_from_the_small_files_alone(packed: Path, trained: tuple[Trainer, Path], tmp_path: Path) -> None:
    whole, out = trained
    again = trainer(packed, tmp_path / "elsewhere", resume=out, steps=5)
    assert again.step == whole.step
    for (name, expected), found in zip(whole.model.named_parameters(), again.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected.half().float(), msg=name)
    state = whole.optimizer.state
    pairs = [
        (state[expected]["exp_avg_sq"], again.optimizer.state[found]["exp_avg_sq"])
        for expected, found in zip(whole.model.parameters(), again.model.parameters(), strict=True)
        if expected in state
    ]
    assert len(pairs) > 50
    for expected, found in pairs:
        large = expected > 2.0**-60
        assert ((found[large] / expected[large]).log2().abs() <= 1 / 6 + 1e-3).all()
    again.run()
    assert again.step == 5
    assert all(torch.isfinite(value).all() for value in again.average.values())


def test_the_result_is_a_model_that_the_engine_opens_and_that_answers(
    trained: tuple[Trainer, Path], tmp_path: Path
) -> None:
    out, folder = trained[1], tmp_path / "model"
    assert starter_bundle.main(["--parts", str(out), "--output", str(folder), "--recipe", "cpu"]) == 0
    average = read_parts(out, "average")
    image = hounsfield(elements())
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    with open_engine(str(folder), "cpu") as engine, engine.open_session(image, affine, "CT") as session:
        assert "CT_Liver" in engine.info().classes
        network = engine.model.network("1")  # type: ignore[attr-defined]  # an engine in this process
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, average[f"network.{key}"].float(), msg=key)
        result = session.segment(["liver, lt kidney"])
    assert set(result.masks) == {"Liver", "Left kidney"}
    assert result.masks["Liver"].shape == image.shape
    with pytest.raises(InputError, match="no averaged weights"):
        starter_bundle.main(["--parts", str(tmp_path), "--output", str(folder)])
