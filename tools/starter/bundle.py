"""From a finished run to the model folder that `--model` takes.

`python -m tools.starter.bundle --run RUN --output Resources/Models/starter`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch

from MedalSLib.errors import InputError, MedalSError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.network.medals import MedalS
from MedalSLib.records import read_json
from MedalSLib.training.building import new_model
from MedalSLib.training.export import ModelFacts, write_model
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from tools.starter.data_source import SynthesisSettings
from tools.starter.packages import SOURCES, Source
from tools.starter.public_sources import PUBLIC_SOURCES, PublicSource

_NAME, _TITLE = "starter", "Starter: a small Medal S that ships with this software"
_LICENCE, _LICENCE_URL = "Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"


def averaged_weights(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint that are evaluated and exported: the averaged ones if there are any."""
    if "average" not in state:
        return state["model"]
    inner = "module."  # as `AveragedModel` names them, beside a counter of its own
    return {key.removeprefix(inner): value for key, value in state["average"].items() if key.startswith(inner)}


def trained_model(run: Path) -> tuple[PromptedModel, Recipe]:
    """Return the averaged weights of a run's last checkpoint, and its recipe.

    Raises:
        InputError: The folder holds no run, or a damaged one.
    """
    state = RunFolder(run).load()
    if state is None:
        raise InputError(f"{run} holds no checkpoint.", "Give the folder that tools.starter.train wrote.")
    recipe = Recipe.from_dict(state["recipe"])
    model = new_model(recipe)
    model.load_state_dict(averaged_weights(state))
    return model, recipe


def used_sources(settings: SynthesisSettings) -> tuple[list[Source], list[PublicSource]]:
    """Return the packages' volumes and the public repositories that a recipe trains on."""
    patterns = tuple(settings.weights or ("*",))
    packages = [source for source in SOURCES if any(fnmatch(source.name, pattern) for pattern in patterns)]
    public = [
        source for source in PUBLIC_SOURCES if source.packed and any(one.startswith(source.packed) for one in patterns)
    ]
    return packages, public


def training_data(settings: SynthesisSettings) -> str:
    """Return what a recipe trains on, in words."""
    used, public = used_sources(settings)
    packages = sorted({(source.package, source.licence) for source in used})
    listed = ", ".join(f"{package} ({licence})" for package, licence in packages)
    told = f"{len(used)} volumes that ship inside these packages: {listed}"
    if public:
        told += "; of public repositories: " + ", ".join(
            f"{one.what} ({one.repository}, {one.licence})" for one in public
        )
    return f"{told}; images also synthesized from their labels."


@dataclass(frozen=True)
class Bundling:
    """What a model folder says besides its weights.

    Attributes:
        classes: JSON list of what the model may claim; None for everything taught.
        scores: JSON of held-out scores.
        card: Model card.
        version: Version.
        stages: How many stages to keep, coarse first.
        text_stages: See the manifest's format.
        patch: Patch (H, W, D) where it is not the recipe's, which modalities with a grid of their own keep.
    """

    classes: Path | None = None
    scores: Path | None = None
    card: Path | None = None
    version: str = "0.1.0"
    stages: int = 1
    text_stages: str = "both"
    patch: tuple[int, int, int] | None = None


def model_facts(recipe: Recipe, options: Bundling) -> ModelFacts:
    """Return what the model says about itself."""
    settings = SynthesisSettings.of(recipe)
    own = {"patch_hwd": list(recipe.patch_hwd)} if options.patch else {}
    taught = tuple(f"{known.modality}_{known.name}" for known in settings.classes())
    scores: dict[str, Any] = read_json(options.scores, "file of scores") if options.scores else {}
    return ModelFacts(
        name=_NAME,
        version=options.version,
        title=_TITLE,
        classes=tuple(read_json(options.classes, "list of classes")) if options.classes else taught,
        training_data=training_data(settings),
        scores=scores,
        card=options.card.read_text(encoding="utf-8") if options.card else "",
        licence=_LICENCE,
        licence_url=_LICENCE_URL,
        text_stages=options.text_stages,
        windows={"CT": settings.window} if settings.window else {},
        by_modality={modality: own | grid for modality, grid in settings.by_modality.items()},
    )


def stage_grids(recipe: Recipe, count: int) -> dict[str, StageSpec]:
    """Return the grids of the model's stages: the recipe's, and the finer one on which the same weights run again.

    Raises:
        InputError: Two stages are wanted, and the recipe has no second one.
    """
    grids = {"1": recipe.stage_spec()}
    fine = SynthesisSettings.of(recipe).fine
    if count == 2:
        if fine is None:
            raise InputError(f'The recipe "{recipe.name}" has no second stage.', "Use --stages 1.")
        grids["2"] = StageSpec(2, fine.spacing_hwd, fine.patch_hwd, recipe.resampling)
    return grids


def write_starter(run: Path, output: Path, options: Bundling | None = None) -> Path:
    """Write the model folder: weights in half precision, and the manifest.

    Args:
        run: Folder of a run of `tools.starter.train`.
        output: Model folder.
        options: What it says; None for everything taught, in one stage.

    Raises:
        InputError: The run or one of the files cannot be read.
        OutputError: The folder cannot be written.
    """
    options = options or Bundling()
    model, recipe = trained_model(run)
    facts = model_facts(recipe, options)
    if options.patch:
        recipe = replace(recipe, patch_hwd=options.patch)
    networks: dict[str, tuple[MedalS, StageSpec]] = {
        stage: (model.network, spec) for stage, spec in stage_grids(recipe, options.stages).items()
    }
    return write_model(output, facts, networks, encoder=model.encoder, half_precision=True)


def main(arguments: list[str] | None = None) -> int:
    """Assemble a model folder; returns the exit code."""
    parser = argparse.ArgumentParser(description="Assemble the starter's model folder from a run.")
    parser.add_argument("--run", type=Path, required=True, help="folder that tools.starter.train wrote")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--classes", type=Path, help="JSON list of what the model may claim; default everything taught")
    parser.add_argument("--scores", type=Path, help="JSON of held-out scores for the manifest")
    parser.add_argument("--card", type=Path, help="model card, Markdown")
    parser.add_argument("--version", default="0.1.0")
    parser.add_argument("--stages", type=int, choices=(1, 2), default=1, help="how many stages to keep, coarse first")
    parser.add_argument("--text-stages", choices=("both", "first"), default="both", help="see the manifest's format")
    parser.add_argument("--patch", type=int, nargs=3, metavar="N", help="patch H W D (default: the recipe's)")
    options = parser.parse_args(arguments)
    try:
        asked = vars(options)
        run, output = asked.pop("run"), asked.pop("output")
        asked["patch"] = tuple(options.patch) if options.patch else None
        folder = write_starter(run, output, Bundling(**asked))
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps({"model": str(folder)}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
