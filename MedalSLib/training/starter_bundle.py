"""From a training run's small files to the model folder that `--model` takes.

`python -m MedalSLib.training.starter_bundle --parts OUT --output Resources/Models/starter`
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from MedalSLib.errors import InputError
from MedalSLib.network.manifest import Manifest, StageManifest, TextEncoderManifest, write_manifest
from MedalSLib.network.weights_file import save_weights
from MedalSLib.training.starter_labels import starter_classes
from MedalSLib.training.starter_model import PATCH_HWD, WIDTHS, StarterModel, build, read_parts
from MedalSLib.training.starter_sources import SOURCES

NETWORK_FILE, ENCODER_FILE = "network.safetensors", "text_encoder.safetensors"
STAGE_1_MM, STAGE_2_MM = 4.0, 2.0
STAGE_2_PATCH_HWD = (96, 96, 96)


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


def training_data() -> str:
    """Return what the starter was trained on, in words."""
    packages = sorted({(source.package, source.licence) for source in SOURCES})
    listed = ", ".join(f"{package} ({licence})" for package, licence in packages)
    return (
        f"{len(SOURCES)} volumes that ship inside these packages: {listed}; images also synthesized from their labels."
    )


def write_model(
    model: StarterModel, folder: Path, classes: Sequence[str], version: str, scores: dict[str, Any], card: str
) -> Manifest:
    """Write a model folder: both weight files in half precision, and the manifest.

    Args:
        model: The trained model.
        folder: Where to; made if needed.
        classes: What the model may claim to know, as "CT_Liver".
        version: Of the weights.
        scores: Held-out scores.
        card: Model card, Markdown.
    """
    known = tuple(classes)
    facts: dict[str, Any] = {"classes": known, "training_data": training_data(), "licence": "Apache-2.0"}
    network_sum = save_weights(folder / NETWORK_FILE, model.network, dtype=torch.float16, **facts)
    encoder_sum = save_weights(folder / ENCODER_FILE, model.encoder, dtype=torch.float16, **facts)
    first = StageManifest("1", (STAGE_1_MM,) * 3, PATCH_HWD, NETWORK_FILE, network_sum, model.network.config.to_dict())
    manifest = Manifest(
        name="starter",
        version=version,
        title="Starter: a small Medal S that ships with this software",
        licence="Apache-2.0",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        classes=known,
        stages=(
            first,
            replace(first, stage="2", spacing_hwd=(STAGE_2_MM,) * 3, patch_hwd=STAGE_2_PATCH_HWD),
        ),
        text_encoder=TextEncoderManifest("compact", (ENCODER_FILE,), {ENCODER_FILE: encoder_sum}),
        training_data=training_data(),
        scores=scores,
        card=card,
        source="trained with MedalSLib.training.starter_train",
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
    options = parser.parse_args(arguments)
    tensors = read_parts(options.parts, "average")
    if not tensors:
        raise InputError(
            f"{options.parts} holds no averaged weights.", "Give the folder that training wrote with --out."
        )
    taught = [f"{known.modality}_{known.name}" for known in starter_classes()]
    classes = json.loads(options.classes.read_text(encoding="utf-8")) if options.classes else taught
    scores = json.loads(options.scores.read_text(encoding="utf-8")) if options.scores else {}
    card = options.card.read_text(encoding="utf-8") if options.card else ""
    widths, query_dim = _sizes(tensors)
    write_model(model_from(tensors, widths, query_dim), options.output, classes, options.version, scores, card)
    return 0


def _sizes(tensors: dict[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """Read the widths off the weights, so that a run with another recipe can be looked at too."""
    query_dim = tensors["network.transformer_decoder.norm.weight"].shape[0]
    stage = "network.backbone.encoder.stages.{}.0.convs.0.conv.weight"
    widths = tuple(tensors[stage.format(n)].shape[0] for n in range(len(WIDTHS)))
    return widths, query_dim


if __name__ == "__main__":
    raise SystemExit(main())
