"""A MONAI bundle of a model: MONAI alone reads and runs it, and finds what the engine finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from tiny_models import write_tiny_model

from MedalSLib.engine import open_engine
from MedalSLib.errors import InputError, OutputError, PromptError
from MedalSLib.network.bundle import open_model
from MedalSLib.network.monai_bundle import export_monai
from MedalSLib.run import RunOptions
from MedalSLib.volume import apply_window
from MedalSLib.volume.windows import PERCENTILE

bundle = pytest.importorskip("monai.bundle")
properties = pytest.importorskip("monai.bundle.properties")
pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's and torch's about their own futures
CLASSES = ("CT_Left lung", "CT_Liver", "CT_Left kidney", "MRI_Liver")
AFFINE = np.array([[0, 1.5, 0, -20], [-1.5, 0, 0, 30], [0, 0, 3, 5], [0, 0, 0, 1]])  # I to the front, J to the right
IJK = (32, 32, 64)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_tiny_model(folder, classes=CLASSES, patch=(32, 32, 64), contrast=30.0)
    return folder


@pytest.fixture(scope="module")
def exported(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "bundle"
    export_monai(open_model(tiny), folder)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "scan.nii.gz"
    random = np.random.default_rng(0)
    coarse = random.normal(0, 250, (4, 4, 8)).repeat(8, 0).repeat(8, 1).repeat(8, 2)
    nibabel.save(nibabel.Nifti1Image((coarse + random.normal(0, 20, IJK)).astype(np.int16), AFFINE), path)
    return path


def parsed(folder: Path, **changes: object) -> Any:
    parser = bundle.ConfigParser()
    parser.read_config(folder / "configs/inference.json")
    parser.read_meta(folder / "configs/metadata.json")
    parser.update({"bundle_root": str(folder), "device": "$torch.device('cpu')"} | changes)
    return parser


def names(folder: Path) -> dict[int, str]:
    data = json.loads((folder / "configs/metadata.json").read_text())["network_data_format"]
    return {int(number): name for number, name in data["outputs"]["pred"]["channel_def"].items()}


def test_a_bundle_has_the_standard_layout_and_says_what_is_in_it(tiny: Path, exported: Path) -> None:
    files = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert files == {
        "LICENSE", "configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.ts",
    }  # fmt: skip
    assert names(exported) == {0: "background", 1: "Left lung", 2: "Liver", 3: "Left kidney"}
    facts = json.loads((exported / "configs/metadata.json").read_text())
    channels = facts["network_data_format"]["inputs"]["image"]["channel_def"]
    assert channels == {"0": "lung L-160 W1500", "1": "soft tissue L40 W400"}
    assert (facts["spacing"], facts["copyright"]) == ([1.5, 1.5, 3.0], "CC0-1.0")
    parser = parsed(exported)
    needed = {**properties.InferProperties, **properties.MetaProperties}.values()
    assert all(one["id"] in parser for one in needed if one["required"])
    with pytest.raises(OutputError):
        export_monai(open_model(tiny), exported)


@pytest.mark.slow
def test_the_network_gives_the_probabilities_of_the_engines_own_on_any_device(tiny: Path, exported: Path) -> None:
    model = open_model(tiny)
    network = parsed(exported).get_parsed_content("network_def")
    assert "cpu" not in str(network.inlined_graph), "a tensor stays on the CPU when the network is moved"
    patch = torch.rand(1, 2, 32, 32, 64) * 255
    nothing = torch.zeros(1, 1, 32, 32, 64)
    expected = []
    for channel, some in enumerate([["Left lung"], ["Liver", "Left kidney"]]):
        queries = model.encode([(name, "CT") for name in some])[None]
        prompts = torch.zeros(1, len(some), 32, 32, 64)
        with torch.no_grad():
            expected.append(model.network("1")(queries, patch[:, channel : channel + 1], nothing, prompts)[0].sigmoid())
    with torch.no_grad():
        found = network(patch)
    assert (found[:, 0] == 0.5).all()
    torch.testing.assert_close(found[:, 1:], torch.cat(expected, dim=1), atol=1e-4, rtol=0)
    bundle.verify_net_in_out("network_def", str(exported / "configs/metadata.json"),
                             str(exported / "configs/inference.json"), bundle_root=str(exported))  # fmt: skip


def engine_masks(tiny: Path, image: Path) -> dict[str, np.ndarray]:
    stored = nibabel.load(image)
    with (
        open_engine(str(tiny), "cpu") as engine,
        engine.open_session(np.asarray(stored.dataobj).T, stored.affine, "CT") as session,
    ):
        result = session.segment(
            ["left lung", "liver", "left kidney"], options=RunOptions(stages="first", policy="published")
        )
        return {name: np.asarray(mask).T for name, mask in result.masks.items()}


def assert_labels_are_the_engines(labelmap: Path, masks: dict[str, np.ndarray], folder: Path) -> None:
    written = nibabel.load(labelmap)
    labels = np.asarray(written.dataobj)
    np.testing.assert_allclose(written.affine, AFFINE, atol=1e-4)
    np.testing.assert_array_equal(labels > 0, np.any(list(masks.values()), axis=0))
    for number, name in names(folder).items():
        if number:  # the engine's structures may overlap where they are seen in different windows
            assert 0 < np.count_nonzero(labels == number) == np.count_nonzero((labels == number) & masks[name])


@pytest.mark.slow
def test_monai_alone_finds_in_a_file_what_the_engine_finds(
    tiny: Path, exported: Path, image: Path, tmp_path: Path
) -> None:
    parser = parsed(exported, dataset_dir=str(image.parent), output_dir=str(tmp_path))
    (case,) = parser.get_parsed_content("dataset")
    network = parser.get_parsed_content("network_def")
    with torch.no_grad():
        case["pred"] = parser.get_parsed_content("inferer")(case["image"][None], network)[0]
    parser.get_parsed_content("postprocessing")(case)
    (labelmap,) = tmp_path.rglob("*.nii.gz")
    assert_labels_are_the_engines(labelmap, engine_masks(tiny, image), exported)


@pytest.mark.slow
def test_monai_runs_the_bundle(tiny: Path, exported: Path, image: Path, tmp_path: Path) -> None:
    pytest.importorskip("ignite")
    bundle.run(
        config_file=str(exported / "configs/inference.json"), meta_file=str(exported / "configs/metadata.json"),
        bundle_root=str(exported), dataset_dir=str(image.parent), output_dir=str(tmp_path),
        device="$torch.device('cpu')",
    )  # fmt: skip
    (labelmap,) = tmp_path.rglob("*.nii.gz")
    assert_labels_are_the_engines(labelmap, engine_masks(tiny, image), exported)


def test_other_modalities_are_scaled_by_the_percentiles_of_their_own_voxels(tiny: Path, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(500, 100, (8, 9, 10)).astype(np.float32)
    array[:4] = 0
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "scan.nii.gz")
    export_monai(open_model(tiny), tmp_path / "mri", modality="MR", text="the liver", stage="2")
    assert names(tmp_path / "mri") == {0: "background", 1: "Liver"}
    parser = parsed(tmp_path / "mri")
    steps = parser.get_parsed_content("preprocessing").transforms[:3]
    case: Any = {"image": str(tmp_path / "scan.nii.gz")}
    for step in steps:
        case = step(case)
    expected = apply_window(array, PERCENTILE)
    np.testing.assert_allclose(np.asarray(case["image"][0]), expected, atol=1e-2)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"text": "spleen"}, PromptError, "does not know 'spleen' in CT"),
        ({"text": ","}, PromptError, "names no structure"),
        ({"modality": "PET"}, PromptError, "no structure in PET"),
    ],
)
def test_what_the_model_does_not_know_is_said(
    tiny: Path, tmp_path: Path, asked: dict[str, str], error: type[InputError], said: str
) -> None:
    with pytest.raises(error, match=said):
        export_monai(open_model(tiny), tmp_path / "bundle", **asked)
    assert not (tmp_path / "bundle").exists()
