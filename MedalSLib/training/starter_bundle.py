"""From a training run's small files to the model folder that `--model` takes.

`python -m MedalSLib.training.starter_bundle --parts OUT --output Resources/Models/starter`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from MedalSLib.errors import InputError
from MedalSLib.network.manifest import Manifest, StageManifest, TextEncoderManifest, write_manifest
from MedalSLib.network.weights_file import save_weights
from MedalSLib.training.starter_labels import starter_classes
from MedalSLib.training.starter_model import StarterModel, build, read_parts
from MedalSLib.training.starter_recipes import RECIPES
from MedalSLib.training.starter_sources import SOURCES

NETWORK_FILE, ENCODER_FILE = "network.safetensors", "text_encoder.safetensors"
Hwd = tuple[int, int, int]
HwdMm = tuple[float, float, float]


@dataclass(frozen=True)
class StageSizes:
    """Spacing and patch of a stage.

    Attributes:
        spacing_hwd: In mm.
        patch_hwd: In voxels.
    """

    spacing_hwd: HwdMm
    patch_hwd: Hwd


SIZES: dict[str, tuple[StageSizes, ...]] = {
    "gpu": (StageSizes((4.0, 4.0, 4.0), (128, 128, 96)), StageSizes((2.0, 2.0, 2.0), (96, 96, 96))),
    "cpu": (StageSizes((6.0, 6.0, 8.0), (64, 64, 32)), StageSizes((4.2, 4.2, 5.6), (64, 64, 32))),
}
"""Sizes of the stages by the recipe of `starter_train`: the middle of what each kind of batch was trained on."""


def model_from(tensors: dict[str, Tensor], widths: tuple[int, ...], query_dim: int) -> StarterModel:
    """Return the model of averaged weights, without the heads that only training needs.

    Raises:
        InputError: The weights are of another size.
    """
    model = build(False, widths, query_dim)
    wanted = model.state_dict()
    if missing := sorted(set(wanted) - set(tensors)):
        raise InputError(f"The trained weights lack {missing[0]} and {len(missing) - 1} more.", "Check the folder.")
    model.load_state_dict({key: tensors[key].float() for key in wanted})
    return model.eval()


def training_data(recipe: str) -> str:
    """Return what a recipe of `starter_train` trains on, in words."""
    drawn = RECIPES[recipe].weights
    used = [source for source in SOURCES if drawn is None or source.name in drawn]
    packages = sorted({(source.package, source.licence) for source in used})
    listed = ", ".join(f"{package} ({licence})" for package, licence in packages)
    return f"{len(used)} volumes that ship inside these packages: {listed}; images also synthesized from their labels."


def write_model(
    model: StarterModel,
    folder: Path,
    classes: Sequence[str],
    version: str,
    scores: dict[str, Any],
    card: str,
    recipe: str,
    stages: int = 2,
    text_stages: str = "both",
) -> Manifest:
    """Write a model folder: both weight files in half precision, and the manifest.

    Args:
        model: The trained model.
        folder: Where to; made if needed.
        classes: What the model may claim to know, as "CT_Liver".
        version: Of the weights.
        scores: Held-out scores.
        card: Model card, Markdown.
        recipe: Of `starter_train`; says the training data, and the spacing and patch of each stage.
        stages: How many stages to keep, coarse first.
        text_stages: As of `Manifest`.
    """
    known = tuple(classes)
    data = training_data(recipe)
    facts: dict[str, Any] = {"classes": known, "training_data": data, "licence": "Apache-2.0"}
    network_sum = save_weights(folder / NETWORK_FILE, model.network, dtype=torch.float16, **facts)
    encoder_sum = save_weights(folder / ENCODER_FILE, model.encoder, dtype=torch.float16, **facts)
    config = model.network.config.to_dict()
    manifest = Manifest(
        name="starter",
        version=version,
        title="Starter: a small Medal S that ships with this software",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        classes=known,
        stages=tuple(
            StageManifest(
                str(number), size.spacing_hwd, size.patch_hwd, NETWORK_FILE, network_sum, config, resampling="plain"
            )
            for number, size in enumerate(SIZES[recipe][:stages], start=1)
        ),
        text_encoder=TextEncoderManifest("compact", (ENCODER_FILE,), {ENCODER_FILE: encoder_sum}),
        training_data=data,
        scores=scores,
        card=card,
        source="trained with MedalSLib.training.starter_train",
        text_stages=text_stages,
    )
    write_manifest(folder, manifest)
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Assemble a model folder; returns the exit code."""
    parser = argparse.ArgumentParser(description="Assemble the starter's model folder from a training run's files.")
    parser.add_argument("--parts", type=Path, required=True, help="folder with average.*.safetensors")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--classes", type=Path, help="JSON list of what the model may claim; default everything taught")
    parser.add_argument("--scores", type=Path, help="JSON of held-out scores for the manifest")
    parser.add_argument("--card", type=Path, help="model card, Markdown")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--stages", type=int, choices=(1, 2), default=2, help="how many stages to keep, coarse first")
    parser.add_argument("--text-stages", choices=("both", "first"), default="both", help="see the manifest's format")
    parser.add_argument("--recipe", choices=sorted(SIZES), default="gpu", help="what starter_train trained")
    options = parser.parse_args(arguments)
    tensors = read_parts(options.parts, "average")
    if not tensors:
        raise InputError(
            f"{options.parts} holds no averaged weights.", "Give the folder that training wrote with --out."
        )
    names = RECIPES[options.recipe].taught
    taught = [f"{known.modality}_{known.name}" for known in starter_classes() if names is None or known.name in names]
    classes = json.loads(options.classes.read_text(encoding="utf-8")) if options.classes else taught
    scores = json.loads(options.scores.read_text(encoding="utf-8")) if options.scores else {}
    card = options.card.read_text(encoding="utf-8") if options.card else ""
    widths, query_dim = _sizes(tensors)
    write_model(
        model_from(tensors, widths, query_dim),
        options.output,
        classes,
        options.version,
        scores,
        card,
        options.recipe,
        options.stages,
        options.text_stages,
    )
    return 0


def _sizes(tensors: dict[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """Read the widths off the weights, so that a run with another recipe can be looked at too."""
    query_dim = tensors["network.transformer_decoder.norm.weight"].shape[0]
    stage = "network.backbone.encoder.stages.{}.0.convs.0.conv.weight"
    widths = tuple(tensors[key].shape[0] for n in range(len(tensors)) if (key := stage.format(n)) in tensors)
    return widths, query_dim


if __name__ == "__main__":
    raise SystemExit(main())
