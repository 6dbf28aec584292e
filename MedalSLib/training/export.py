"""From trained networks to a model folder that `--model` takes."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from MedalSLib import __version__
from MedalSLib.errors import OutputError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.network.compact_encoder import CompactTextEncoder
from MedalSLib.network.manifest import (
    MANIFEST_NAME,
    Manifest,
    StageManifest,
    TextEncoderManifest,
    file_sha256,
    verify_files,
    write_manifest,
)
from MedalSLib.network.medals import HEADS, MedalS
from MedalSLib.network.weights_file import save_weights
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.trainer import Trainer

_ENCODER_FILE = "text_encoder.safetensors"
_KNOWLEDGE_FILES = ("text_encoder.pth", "BioLORD-2023-C/config.json", "BioLORD-2023-C/tokenizer.json")


@dataclass(frozen=True)
class ModelFacts:
    """What a new model says about itself.

    Attributes:
        name: Name for `--model`.
        title: The model in words.
        classes: Structures, as "MODALITY_Name".
        training_data: What it was trained on.
        scores: Scores by structure.
        card: Model card, Markdown.
        licence: Licence of the weights.
        licence_url: Where it can be read.
        text_stages: As of `Manifest`.
        version: Version of the weights.
        windows: As of `Manifest`.
        by_modality: As of `StageManifest`, for every stage that is written.
    """

    name: str
    title: str
    classes: tuple[str, ...]
    training_data: str
    scores: dict[str, Any]
    card: str
    licence: str = "as the training data's owner says"
    licence_url: str = ""
    text_stages: str = "both"
    version: str = "1"
    windows: Mapping[str, str] = field(default_factory=dict)
    by_modality: Mapping[str, dict[str, Any]] = field(default_factory=dict)


def inference_network(network: MedalS) -> MedalS:
    """Return a copy without deep-supervision heads, on the CPU, in evaluation mode."""
    bare = MedalS(replace(network.config, deep_supervision=False))
    bare.load_state_dict({key: value for key, value in network.state_dict().items() if not key.startswith(HEADS)})
    return bare.eval()


def write_model(
    target: Path,
    facts: ModelFacts,
    networks: Mapping[str, tuple[MedalS, StageSpec]],
    encoder: CompactTextEncoder | None = None,
    encoder_folder: tuple[Path, TextEncoderManifest] | None = None,
    other_stages: Sequence[tuple[Path, StageManifest]] = (),
    half_precision: bool = False,
) -> Path:
    """Write a model folder; an older one there is replaced only once the new one is whole.

    Args:
        target: The folder.
        facts: What the model says about itself.
        networks: Trained networks by stage, with their grids; one network may serve several stages.
        encoder: A text encoder that was trained along, or
        encoder_folder: the folder and description of one that is taken over.
        other_stages: Stages that are taken over, with the folders they come from.
        half_precision: Whether new weights are stored in half precision.

    Raises:
        OutputError: The folder cannot be written, or holds something that is no model.
    """
    if target.exists() and not (target / MANIFEST_NAME).is_file() and any(target.iterdir()):
        raise OutputError(f"The folder {target} holds something that is no model.", "Choose another one.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".model-") as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        try:
            dtype = torch.float16 if half_precision else None
            stages = _write_stages(folder, networks, facts, dtype)
            for source, stage in other_stages:
                _copy(source / stage.weights, folder / stage.weights)
                stages.append(stage)
            described = _write_encoder(folder, facts, encoder, encoder_folder, dtype)
            manifest = Manifest(
                **{name: value for name, value in vars(facts).items() if name != "by_modality"},
                stages=tuple(sorted(stages, key=lambda entry: entry.stage)),
                text_encoder=described,
                source=f"trained with Medal S {__version__}",
            )
            manifest = manifest.with_checksums({path: file_sha256(folder / path) for path in manifest.checksums()})
            write_manifest(folder, manifest)
            verify_files(folder, manifest)
            if target.exists():
                shutil.rmtree(target)
            shutil.move(str(folder), str(target))
        except OSError as error:
            raise OutputError(
                f"The model cannot be written to {target} ({error.strerror or error}).", "Check the space that is left."
            ) from error
    return target


def export_run(target: Path, trainer: Trainer, prepared: PreparedFolder) -> Path:
    """Write the network of a training run, with its text encoder, as a model of one stage.

    Args:
        target: Folder of the model.
        trainer: The trainer, after its run.
        prepared: What it was trained on.
    """
    recipe, trained = trainer.recipe, trainer.trained
    cases = len(prepared.cases)
    data = f"{cases} cases of {', '.join(sorted(prepared.datasets))}"
    facts = ModelFacts(
        name=model_name(recipe.name),
        title=f"{recipe.name}, stage {recipe.stage}, {trainer.step} steps",
        classes=prepared.classes(),
        training_data=data,
        scores={},
        card=f"# {recipe.name}\n\nStage {recipe.stage}, trained for {trainer.step} steps on {data}. Not evaluated; "
        "research use, not a medical device.\n",
    )
    encoder = trained.encoder
    taken_over = None
    if encoder is None:
        taken_over = (Path(recipe.text.folder), TextEncoderManifest("knowledge", _KNOWLEDGE_FILES))
    networks: dict[str, tuple[MedalS, StageSpec]] = {recipe.stage: (trained.network, recipe.stage_spec())}
    return write_model(target, facts, networks, encoder, taken_over)


def model_name(text: str) -> str:
    """Return a text as a model's name: lower-case letters, digits, dots, dashes and underscores."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")
    return plain or "model"


def _write_stages(
    folder: Path, networks: Mapping[str, tuple[MedalS, StageSpec]], facts: ModelFacts, dtype: torch.dtype | None
) -> list[StageManifest]:
    files: dict[int, str] = {}
    stages = []
    for stage, (network, spec) in networks.items():
        bare = inference_network(network)
        if id(network) not in files:
            files[id(network)] = f"stage{stage}.safetensors"
            save_weights(
                folder / files[id(network)], bare, facts.classes, facts.training_data, facts.licence, dtype=dtype
            )
        config = bare.config.to_dict()
        stages.append(
            StageManifest(
                stage,
                spec.spacing_hwd,
                spec.patch_hwd,
                files[id(network)],
                config=config,
                resampling=spec.resampling,
                by_modality=dict(facts.by_modality),
            )
        )
    return stages


def _write_encoder(
    folder: Path,
    facts: ModelFacts,
    encoder: CompactTextEncoder | None,
    taken_over: tuple[Path, TextEncoderManifest] | None,
    dtype: torch.dtype | None,
) -> TextEncoderManifest:
    if encoder is not None:
        save_weights(folder / _ENCODER_FILE, encoder, facts.classes, facts.training_data, facts.licence, dtype=dtype)
        return TextEncoderManifest("compact", (_ENCODER_FILE,))
    if taken_over is None:
        raise ValueError("a model needs a text encoder")
    source, described = taken_over
    for file in described.files:
        _copy(source / file, folder / file)
    return replace(described, sha256={})


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
