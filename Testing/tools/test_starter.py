"""The starter's training: what it is taught, its batches, its trainer, and the model folder it ends in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from starter_inputs import BOXES, HOUNSFIELD, SPACING, TRUSTED, elements, hounsfield, packed_folder, starter_recipe

from MedalSLib import vocabulary
from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError, OutputError
from MedalSLib.network.manifest import read_manifest
from MedalSLib.training.distributed import World
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.sample_batch import Batch
from MedalSLib.training.trainer import Trainer
from MedalSLib.volume.windows import window_for
from tools.starter import bundle, public_sources, score
from tools.starter.bundle import averaged_weights
from tools.starter.card import patients
from tools.starter.data_source import SynthesisSettings, SynthesisSource
from tools.starter.held_out_cases import neck_cases
from tools.starter.labels import BACKGROUND, ELEMENTS, NOT_MIRRORED, mirrored_elements, starter_classes
from tools.starter.mask_prompts import corrected_answers, prompts_for
from tools.starter.model import channel_owners, new_starter
from tools.starter.pack import Packed, resample, trusted_names
from tools.starter.packages import SOURCES
from tools.starter.public_volumes import brain_names, head_elements, nuclei_elements, pack_necks
from tools.starter.train import starter_recipe as shipped_recipe
from tools.starter.train import train_starter
from tools.starter.volumes import AIR_SHIFT, load_volumes

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
ALONE = World(0, 1, CPU)
PLAN = {"shape": [32, 32, 48], "spacing": [8.0, 9.0], "prompted": False, "samples": 2}
NAMES = [known.name for known in starter_classes()]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return packed_folder(tmp_path_factory.mktemp("starter") / "packed")


def source(packed: Path, seed: int = 0, **data: Any) -> SynthesisSource:
    """A data source of patches of one kind that asks with published names alone."""
    settings = {"plans": [PLAN], "names_only": True} | data
    return SynthesisSource(packed, Recipe.from_dict(starter_recipe(**settings) | {"seed": seed}), CPU)


# -- what is taught --------------------------------------------------------------------------------------------------


def test_structures_are_published_ones_in_the_window_that_inference_looks_at_them_in() -> None:
    for known in starter_classes():
        item = vocabulary.describe(f"{known.modality}_{known.name}")
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
        text: mask
        for text, mask, real in zip(batch.texts[sample], batch.target[sample], batch.real[sample], strict=True)
        if real and mask.sum() > 30
    }


def asked_in(batch: Batch, sample: int) -> list[str]:
    """The names that are asked for in earnest."""
    return [text for text, real in zip(batch.texts[sample], batch.real[sample], strict=True) if real]


def test_left_lies_left_of_right_in_every_patch_though_some_are_mirrored(packed: Path) -> None:
    batches = source(packed)
    judged = mirrored = 0
    for number in range(24):
        batch = batches.batch(number)
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
    batches = source(packed, seed=1, real_share=1.0)
    differences = []
    for number in range(8):
        batch = batches.batch(number)
        for sample in range(2):
            image = batch.image[sample, 0]
            for name, mask in masks_of(batch, sample).items():
                if name in TRUSTED and mask.sum() > 100:
                    inside, outside = image[mask], image[~mask & (image > 0)]
                    differences.append(abs(float(inside.mean() - outside.mean())) / (float(inside.std()) + 1.0))
    assert len(differences) > 8
    assert np.median(differences) > 0.5


def test_a_batch_is_the_same_for_the_same_seed_and_number_whatever_came_before(packed: Path) -> None:
    prompted = PLAN | {"prompted": True, "samples": 1}
    first, second, other = (source(packed, seed, plans=[prompted], names_only=False) for seed in (0, 0, 1))
    first.batch(0)
    a, b = first.batch(3), second.batch(3)
    assert a.texts == b.texts and a.modalities == b.modalities
    for name in ("image", "target", "union", "prompts", "real"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert not torch.equal(a.image, other.batch(3).image)
    assert not torch.equal(a.image, first.batch(4).image)


def test_processes_get_the_batches_that_one_would_accumulate(packed: Path) -> None:
    batches = source(packed, plans=[PLAN | {"samples": 1}])
    numbers: list[int] = []
    batches.batch = numbers.append  # type: ignore[method-assign, assignment]
    for rank in (0, 1):
        list(batches.batches(1, 2, World(rank, 2, CPU)))
    assert numbers == [2, 4, 3, 5]


def test_only_trusted_structures_are_asked_for_and_only_drawn_volumes_are_used(packed: Path) -> None:
    batch = source(packed, queries=10).batch(0)
    for sample in range(2):
        assert set(asked_in(batch, sample)) <= set(TRUSTED)
        assert not batch.target[sample][batch.real[sample] == 0].any()
    taught = source(packed, queries=4, taught=["Liver"], real_share=1.0).batch(0)
    assert asked_in(taught, 0) == ["Liver"]
    assert source(packed, weights={"trunk": 2.0}).volumes[0].weight == 2.0
    with pytest.raises(InputError, match="no packed volumes"):
        source(packed, weights={"another": 1.0})
    with pytest.raises(InputError, match="colour"):
        source(packed, colour="red")


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


def test_corrected_answers_are_the_models_own_and_right_where_the_user_painted() -> None:
    target = torch.zeros((1, 2, 16, 32, 32), dtype=torch.bool)
    target[:, :, 4:12, 8:24, 8:24] = True
    answers = torch.roll(target, 5, dims=4).float()  # the model is 5 voxels off everywhere
    rng = torch.Generator().manual_seed(0)
    kept = painted = 0
    for seed in range(30):
        prompts = corrected_answers(answers, target, np.random.default_rng(seed), rng)
        assert prompts.shape == target.shape and set(prompts.unique().tolist()) <= {0.0, 1.0}
        drawn = prompts[0, 0] > 0
        assert not (drawn & ~(target[0, 0] | (answers[0, 0] > 0.5))).any()  # nothing that is in neither
        slices = [z for z in range(16) if drawn[z].any()]
        painted += sum(bool((drawn[z] & target[0, 0, z] & (answers[0, 0, z] < 0.5)).any()) for z in slices)
        kept += sum(bool((drawn[z] & ~target[0, 0, z]).any()) for z in slices)
    assert 10 < painted < kept  # some slices were corrected, most were not


def test_prompts_can_be_made_of_what_the_model_answers(packed: Path) -> None:
    plan = PLAN | {"prompted": True, "samples": 1, "answered": 1.0}
    batches, asked = source(packed, plans=[plan]), []

    def answers(batch: Batch) -> torch.Tensor:
        asked.append(batch.texts)
        return torch.zeros(batch.target.shape)

    batches.answers = answers
    batch = batches.batch(0)
    assert asked == [batch.texts]
    assert batch.prompts.shape == batch.target.shape
    assert torch.equal(batch.union, batch.prompts.amax(1, keepdim=True))


def test_volumes_are_named_by_patterns_and_a_plan_draws_its_own(packed: Path) -> None:
    assert source(packed, weights={"tr*": 2.0}).volumes[0].weight == 2.0
    with pytest.raises(InputError, match="lacks volumes"):
        source(packed, plans=[PLAN | {"volumes": ["head_*"]}])


def test_one_window_shows_every_ct_patch_in_it_and_a_modality_can_be_taught_names_of_its_own(packed: Path) -> None:
    batches = source(packed, window="soft tissue", as_mr=0.0, real_share=0.5, taught=["CT_Liver", "MRI_Spleen"])
    assert [(one.modality, one.name) for one in batches.settings.classes()] == [("CT", "Liver"), ("MRI", "Spleen")]
    assert {modality for number in range(8) for modality in batches.batch(number).modalities} == {"CT"}


# -- public volumes --------------------------------------------------------------------------------------------------


def test_a_label_map_without_an_image_is_painted_in_drawn_contrast(tmp_path: Path) -> None:
    ids = np.zeros((40, 40, 40), np.int64)
    ids[4:36, 4:36, 4:36] = 507
    ids[8:32, 8:32, 8:32] = 24
    ids[10:30, 10:30, 20:30] = 2
    ids[10:30, 10:30, 10:20] = 41
    ids[14:26, 14:26, 22:28] = 10
    elements = head_elements(ids)
    assert elements[20, 20, 25] == ELEMENTS["thalamus_left"] and elements[20, 20, 15] in (
        ELEMENTS["cerebral_white_matter_right"],
    )
    Packed(None, elements, (4.0, 4.0, 4.0), "MRI", brain_names()).save(tmp_path, "head_01")
    plan = PLAN | {"volumes": ["head_*"], "spacing": [4.0, 5.0], "samples": 1}
    made = source(tmp_path, plans=[plan], weights={"head_*": 1.0}, taught=["MRI_Brain", "MRI_Left thalamus"])
    images = [made.batch(number) for number in range(6)]
    assert {modality for batch in images for modality in batch.modalities} == {"MRI"}
    assert any("Left thalamus" in masks_of(batch, 0) for batch in images)
    assert len({round(float(batch.image.mean()), 3) for batch in images}) == 6
    assert all(batch.image.std() > 1 for batch in images)


def test_touching_nuclei_are_kept_apart() -> None:
    instances = np.zeros((12, 12, 12), np.int64)
    instances[2:10, 2:6, 2:10], instances[2:10, 6:10, 2:10] = 1, 2
    inside = nuclei_elements(instances) == ELEMENTS["nucleus"]
    assert ndimage.label(inside)[1] == 2
    assert inside[5, 2, 5], "the outer border stays"


def test_head_and_neck_scans_are_cut_where_cord_or_esophagus_were_no_longer_drawn(tmp_path: Path) -> None:
    import nibabel

    folder = tmp_path / "openkbp"
    folder.mkdir()
    labels = np.zeros((24, 24, 20), np.uint8)
    labels[10:14, 10:14, 6:] = 2
    image = np.where(np.indices(labels.shape)[:2].min(0) > 3, 40, -1000).astype(np.int16)
    entries = []
    for name, role in (("pt_1", "train"), ("pt_2", "held out")):
        nibabel.save(nibabel.Nifti1Image(image, np.diag([4.0, 4.0, 3.0, 1.0])), folder / f"{name}_ct.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, np.diag([4.0, 4.0, 3.0, 1.0])), folder / f"{name}_labels.nii.gz")
        entries.append({"name": name, "role": role, "contoured": ["SpinalCord"], "spacing_mm": [4, 4, 3], "slices": 20})
    numbers = {"Brainstem": 1, "SpinalCord": 2, "Esophagus": 7, **dict.fromkeys(("Mandible", "Larynx"), 5)}
    (folder / "index.json").write_text(json.dumps({"labels": numbers, "volumes": entries}))
    (packed,) = pack_necks(folder, tmp_path)
    with np.load(packed) as file:
        assert packed.stem == "neck_pt_1" and file["elements"].shape[0] == 14
        assert file["trusted"].tolist() == ["Spinal cord"]
        assert (file["elements"] == ELEMENTS["spinal_cord"]).any((1, 2)).all()
    (case,) = neck_cases(folder)
    assert case.name == "pt_2" and set(case.truths) == {"Spinal cord"}


def test_structures_have_channels_of_their_own_and_what_is_known_keeps_its_first() -> None:
    known, new = [f"old {n}" for n in range(5)], [f"new {n}" for n in range(3)]
    owners = channel_owners(known + new, 16, known)
    assert owners[:5] == known
    assert set(owners) == {*known, *new}
    assert channel_owners(new, 24)[:3] == new
    assert channel_owners(["alone"], 16).count("alone") == 2, "a structure alone leaves channels that say no"
    elsewhere = channel_owners([known[2], *new], 16, known)
    assert elsewhere[2] == known[2] and None not in elsewhere[:2]


# -- training --------------------------------------------------------------------------------------------------------

TINY = Recipe.from_dict(starter_recipe())


def weights(of: Trainer) -> dict[str, torch.Tensor]:
    """All weights, and the averaged ones."""
    trained = {f"average.{key}": value.clone() for key, value in of.trained.state_dict().items()}
    return trained | {key: value.clone() for key, value in of.model.state_dict().items()}


@pytest.fixture(scope="module")
def trained(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    """A run of the whole schedule, and its folder."""
    run = tmp_path_factory.mktemp("run") / "run"
    return train_starter(packed, run, TINY, device="cpu"), run


def test_a_run_changes_the_weights_but_the_queries_side_sleeps_at_first(
    packed: Path, trained: tuple[Trainer, Path], tmp_path: Path
) -> None:
    begun = new_starter(TINY, SynthesisSource(packed, TINY, CPU)).state_dict()
    first = train_starter(packed, tmp_path / "run", TINY, device="cpu", until=1).model.state_dict()
    moved = {key for key in begun if not torch.equal(begun[key], first[key])}
    assert moved and all(".backbone." in key or ".fusion_conv." in key for key in moved)
    last = trained[0].model.state_dict()
    assert any(key.startswith("encoder.") and not torch.equal(begun[key], last[key]) for key in begun)


def test_a_run_that_was_interrupted_ends_with_the_same_weights_to_the_bit(
    packed: Path, trained: tuple[Trainer, Path], tmp_path: Path
) -> None:
    first = train_starter(packed, tmp_path / "run", TINY, device="cpu", until=2)
    assert first.step == 2
    with pytest.raises(OutputError, match="resume"):
        train_starter(packed, tmp_path / "run", TINY, device="cpu")
    second = train_starter(packed, tmp_path / "run", TINY, device="cpu", resume=True)
    assert second.step == 4
    expected, found = weights(trained[0]), weights(second)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_a_run_stops_when_its_time_is_up_with_a_checkpoint_to_go_on_from(packed: Path, tmp_path: Path) -> None:
    stopped = train_starter(packed, tmp_path / "run", TINY, device="cpu", minutes=1e-9)
    assert stopped.step == 1
    state = RunFolder(tmp_path / "run").load()
    assert state is not None and state["step"] == 1


def test_an_older_starter_goes_on_as_what_it_was(packed: Path, trained: tuple[Trainer, Path], tmp_path: Path) -> None:
    base = bundle.write_starter(trained[1], tmp_path / "base")
    names = ["Liver", "Spleen", "Left kidney"]
    recipe = Recipe.from_dict(starter_recipe(taught=names, coded=names[:2]))
    grown = new_starter(recipe, SynthesisSource(packed, recipe, CPU), base)
    image = torch.rand(1, 1, 32, 32, 16) * 255
    older = trained[0].trained
    torch.testing.assert_close(
        grown.network.encode(image, image * 0).embedding,
        older.network.encode(image, image * 0).embedding,
        rtol=0.02,
        atol=0.02,
    )
    other = replace(recipe, network=recipe.network | {"ffn_dim": 24})
    with pytest.raises(InputError, match="another network"):
        new_starter(other, SynthesisSource(packed, other, CPU), base)


def test_structures_of_a_rare_plan_have_codes_too(tmp_path: Path) -> None:
    elements = np.full((24, 24, 24), ELEMENTS["rest_1"], np.uint8)
    elements[8:16, 8:16, 8:16] = ELEMENTS["nucleus"]
    Packed(elements * 2, elements, (2.0, 1.0, 1.0), "Microscopy", ["Nuclei"]).save(tmp_path, "nuclei_1")
    packed_folder(tmp_path / "ct")
    (tmp_path / "ct/trunk.npz").rename(tmp_path / "trunk.npz")
    plan = {"shape": [16, 32, 32], "spacing": [7.0, 9.0], "prompted": False}
    rare = plan | {"share": 1e-6, "volumes": ["nuclei_*"], "spacing": [1.0, 2.0]}
    kinds: dict[str, Any] = {"plans": [plan | {"volumes": ["trunk"]}, rare], "modalities": ["CT", "Microscopy"]}
    recipe = Recipe.from_dict(
        starter_recipe(weights={"trunk": 1.0, "nuclei_*": 1.0}, taught=["Liver", "Nuclei"], **kinds)
    )
    made = SynthesisSource(tmp_path, recipe, CPU)
    model = new_starter(recipe, made)
    image = made.batch(0, 1).image[:1]
    with torch.no_grad():
        features = model.network.encode(image, torch.zeros_like(image))
        (code,) = model.network.mask_embeddings(features, model.queries([["Nuclei"]], ["Microscopy"], CPU))[0]
    own = torch.tensor([owner == "Nuclei" for owner in channel_owners(["Nuclei"], len(code))])
    assert code[own].min() > 0.5 and code[~own].max() < 0


def test_structures_can_be_told_apart_before_training(packed: Path) -> None:
    model = new_starter(TINY, SynthesisSource(packed, TINY, CPU))
    classes = SynthesisSettings.of(TINY).classes()[:8]
    image = torch.rand(1, 1, 32, 32, 16) * 255
    with torch.no_grad():
        features = model.network.encode(image, torch.zeros_like(image))
        queries = model.queries([[one.name for one in classes]], [classes[0].modality], CPU)
        embeddings = model.network.mask_embeddings(features, queries)[0]
    assert len({int(row.argmax()) for row in embeddings}) > 4


@pytest.mark.parametrize("name", ["cpu", "gpu", "trunk"])
def test_shipped_recipes_of_the_starter_are_complete(name: str) -> None:
    recipe = shipped_recipe(name)
    assert recipe.optimizer.ema_decay
    assert recipe.loss.balance(0.0) == 1.0
    settings = SynthesisSettings.of(recipe)
    assert settings.classes()
    assert all(size % recipe.network_config().total_stride == 0 for plan in settings.plans for size in plan.shape)


def test_the_bundled_model_is_of_a_recipe_that_is_kept() -> None:
    from MedalSLib.network.registry import find_folder

    (stage,) = read_manifest(find_folder("starter")).stages
    network = {key: value for key, value in stage.config.items() if key not in ("image_size", "deep_supervision")}
    made = (stage.spacing_hwd, stage.resampling, dict(stage.by_modality), network)
    recipes = [shipped_recipe(name) for name in ("trunk", "cpu", "gpu")]
    assert made in [
        (
            recipe.spacing_hwd,
            recipe.resampling,
            SynthesisSettings.of(recipe).by_modality,
            {key: value for key, value in recipe.network_config().to_dict().items() if key in network},
        )
        for recipe in recipes
    ]


def test_the_result_is_a_model_that_the_engine_opens_and_that_answers(
    trained: tuple[Trainer, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, folder = trained[1], tmp_path / "model"
    assert bundle.main(["--run", str(run), "--output", str(folder), "--stages", "2"]) == 0
    state = RunFolder(run).load()
    assert state is not None
    average = averaged_weights(state)
    image = hounsfield(elements())
    affine = np.diag([-SPACING[2], -SPACING[1], SPACING[0], 1.0])
    with open_engine(str(folder), "cpu") as engine, engine.open_session(image, affine, "CT") as session:
        assert "CT_Liver" in engine.info().classes
        for stage in ("1", "2"):
            network = engine.model.network(stage)  # type: ignore[attr-defined]  # an engine in this process
            for key, value in network.state_dict().items():
                torch.testing.assert_close(value, average[f"network.{key}"].half().float(), msg=key)
        result = session.segment(["liver, lt kidney"])
    larger = bundle.write_starter(run, tmp_path / "larger", bundle.Bundling(patch=(64, 64, 32)))
    assert read_manifest(larger).stages[0].patch_hwd == (64, 64, 32)
    assert set(result.masks) == {"Liver", "Left kidney"}
    assert result.masks["Liver"].shape == image.shape
    assert len(list(folder.glob("stage*.safetensors"))) == 1, "both stages share their weights"
    assert bundle.main(["--run", str(tmp_path), "--output", str(folder)]) == InputError.exit_code
    assert "no checkpoint" in capsys.readouterr().err


# -- the model card --------------------------------------------------------------------------------------------------


def test_volumes_are_counted_in_which_a_structure_can_be_learned(packed: Path) -> None:
    counts = patients(packed)
    assert counts == dict.fromkeys((f"CT_{name}" for name in TRUSTED), 1)
    assert patients(packed, ("head_*",)) == {}, "what the recipe does not draw was not learned from"


def test_sparse_files_of_the_head_and_neck_set_become_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nibabel

    monkeypatch.setattr(public_sources, "TRAINED", (7,))
    monkeypatch.setattr(public_sources, "HELD_OUT", ())
    folder = tmp_path / "open-kbp/provided-data/train-pats/pt_7"
    folder.mkdir(parents=True)
    row, column, below = np.meshgrid(np.arange(128), np.arange(128), np.arange(40, 60), indexing="ij")
    indices = (row * 128 + column) * 128 + below
    (folder / "ct.csv").write_text(",data\n" + "".join(f"{index},1064.0\n" for index in indices.ravel()))
    (folder / "possible_dose_mask.csv").write_text(",data\n")
    (folder / "Mandible.csv").write_text(f",data\n{(20 * 128 + 30) * 128 + 50},\n")
    (folder / "voxel_dimensions.csv").write_text("4.0\n4.0\n3.0\n")
    assert list(public_sources.convert_necks(tmp_path / "open-kbp", tmp_path / "out")) == ["pt_7"]
    image, labels = (nibabel.load(tmp_path / f"out/pt_7_{kind}.nii.gz") for kind in ("ct", "labels"))
    assert image.shape == (128, 128, 20) and np.asarray(image.dataobj).max() == 40
    assert np.argwhere(np.asarray(labels.dataobj) == 5).tolist() == [[127 - 30, 127 - 20, 77 - 68]]
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert index["volumes"][0]["contoured"] == ["Mandible"]
    with pytest.raises(InputError, match="lacks the patient"):
        list(public_sources.convert_necks(tmp_path, tmp_path / "out"))
    (folder / "Mandible.csv").write_text(",data\n99999999,\n")
    with pytest.raises(InputError, match="damaged"):
        list(public_sources.convert_necks(tmp_path / "open-kbp", tmp_path / "out"))


def test_any_checkpoint_is_scored_on_every_public_case_that_is_held_out(
    trained: tuple[Trainer, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel

    rng = np.random.default_rng(0)
    for folder in ("openkbp", "t1_head", "nuclei"):
        (tmp_path / folder).mkdir()
    affine = np.diag([4.0, 4.0, 4.0, 1.0])

    def save(name: str, array: np.ndarray) -> None:
        nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")

    labels = np.zeros((32, 32, 24), np.uint8)
    labels[12:20, 12:20, 4:20] = 2
    save("openkbp/pt_9_ct", rng.integers(-100, 100, labels.shape).astype(np.int16))
    save("openkbp/pt_9_labels", labels)
    entry = {"name": "pt_9", "role": "held out", "contoured": ["SpinalCord"]}
    (tmp_path / "openkbp/index.json").write_text(json.dumps({"labels": {"SpinalCord": 2}, "volumes": [entry]}))
    save("t1_head/t1", rng.integers(0, 200, labels.shape).astype(np.int16))
    save("t1_head/labels", np.where(labels, 10, 2).astype(np.int16))
    nuclei = rng.integers(0, 200, (24, 24, 24)).astype(np.uint8)
    np.savez(tmp_path / "nuclei/1137.npz", imgs=nuclei, gts=labels[:24, :24], spacing_um_zyx=np.array([0.2, 0.1, 0.1]))
    command = ["--run", str(trained[1]), "--volumes", str(tmp_path), "--only", "pt_9", "T1 head", "Nuclei 1137"]
    assert score.main([*command, "--device", "cpu", "-o", str(tmp_path / "out")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "out/scores.json").read_text())
    assert set(report["cases"]) == {"pt_9", "T1 head", "Nuclei 1137"}
    assert set(report["cases"]["pt_9"]["dice"]) == {"Spinal cord"} == set(report["cases"]["pt_9"]["surface dice"])
    assert {"Brain", "Left thalamus"} <= set(report["cases"]["T1 head"]["dice"])
    assert report["mean"]["CT_Spinal cord"]["cases"] == 1
    assert score.main(["--run", str(tmp_path), "--volumes", str(tmp_path), "--only", "nothing"]) == InputError.exit_code
