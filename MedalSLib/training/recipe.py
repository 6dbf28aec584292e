"""One typed file says all of a training run: grid, network, text, sampling, prompts, augmentation, optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from MedalSLib.errors import InputError, MedalSError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.manifest import Resampling
from MedalSLib.records import from_json, read_json, to_json
from MedalSLib.resources import resource
from MedalSLib.training.augmentation import AugmentationSettings
from MedalSLib.training.losses import LossSettings
from MedalSLib.training.prompt_simulation import PromptSimulation
from MedalSLib.training.sampling import SamplingSettings
from MedalSLib.training.schedule import CosineRestarts, Cycle

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TextSettings:
    """Which text encoder turns names into queries.

    Attributes:
        encoder: "compact" is trained jointly with the network; "knowledge" is the published one, frozen; "base" is that
            of the model a fine-tuning starts from, frozen, because the model's other stage relies on it.
        folder: Folder of the published encoder, needed for "knowledge".
        sentences: Whether texts are drawn from the sentences of a structure too, not from its names alone.
        hidden: Hidden width of the compact encoder.
    """

    encoder: Literal["compact", "knowledge", "base"] = "compact"
    folder: str = ""
    sentences: bool = True
    hidden: int = 128


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and what goes with it; the defaults are the published ones.

    Attributes:
        betas: Decay of the first and second moments.
        eps: AdamW's epsilon.
        weight_decay: Decoupled weight decay.
        accumulate: Batches whose gradients make one step.
        clip_norm: Largest norm of the gradient; None for no limit.
        skip_norm: A step whose gradient norm reaches this changes nothing; None to take every step.
        query_rate: Learning rate of all but the U-Net (text encoder, query decoder, heads), as a share of the U-Net's.
        query_begins: Share of the schedule before which these parts stand still.
        precision: Autocast type; "auto" is bfloat16 where the device computes it natively, else float32.  On a CPU all
            settings but "float32" mean "auto".
        channels_last: Whether volumes lie in memory with their channels last.
        ema_decay: Decay a step of the averaged weights, which are then the ones evaluated and exported; None for none.
        ema_warm_up: Whether the decay begins small, (1 + n) / (10 + n) in step n, so that the random weights of the
            beginning are soon forgotten.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    accumulate: int = 1
    clip_norm: float | None = None
    skip_norm: float | None = None
    query_rate: float = 1.0
    query_begins: float = 0.0
    precision: Precision = "float16"
    channels_last: bool = False
    ema_decay: float | None = None
    ema_warm_up: bool = False


@dataclass(frozen=True)
class LogSettings:
    """How often things are written.

    Attributes:
        every: Steps between two lines of the log and of TensorBoard.
        checkpoint_every: Steps between two checkpoints from which a run can go on.
        keep_every: Steps between two checkpoints that are kept for good; 0 keeps the last one only.
    """

    every: int = 10
    checkpoint_every: int = 100
    keep_every: int = 0


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        name: Short name.
        stage: "1" for the coarse network, "2" for the fine one.
        spacing_hwd: Spacing of the training grid in mm.
        patch_hwd: Patch in voxels.
        resampling: As of `StageSpec`; what it was trained with, a model is used with.
        network: Entries of `MedalSConfig`; those left out are the published ones.
        schedule: Learning-rate cycles.
        text: Text encoder.
        sampling: Batches, patches, queries and texts.
        prompts: Simulation of spatial prompts.
        augmentation: Augmentation.
        loss: Loss.
        optimizer: Optimisation.
        data: Settings of a data source other than a prepared folder, which reads them itself.
        log: Logging and checkpoints.
        seed: Seed of every draw: the same seed, data and recipe give the same run.
        workers: Processes that prepare samples; 0 for none.
    """

    name: str
    stage: Literal["1", "2"]
    spacing_hwd: tuple[float, float, float]
    patch_hwd: tuple[int, int, int]
    schedule: tuple[Cycle, ...]
    resampling: Resampling = "published"
    network: dict[str, Any] = field(default_factory=dict)
    text: TextSettings = field(default_factory=TextSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    prompts: PromptSimulation = field(default_factory=PromptSimulation)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    data: dict[str, Any] = field(default_factory=dict)
    log: LogSettings = field(default_factory=LogSettings)
    seed: int = 0
    workers: int = 4

    def __post_init__(self) -> None:
        positive = (
            *self.spacing_hwd,
            self.optimizer.accumulate,
            self.sampling.batch_size,
            self.sampling.max_queries,
            self.log.every,
            self.log.checkpoint_every,
        )
        if any(not value > 0 for value in positive) or self.workers < 0:
            raise InputError(
                f'The recipe "{self.name}" has a size or count that is not positive.',
                "Check spacing_hwd, accumulate, batch_size, max_queries, every and checkpoint_every.",
            )
        self.network_config()
        self.learning_rate()

    def network_config(self) -> MedalSConfig:
        """Return the architecture, with deep-supervision heads."""
        return MedalSConfig.from_dict({"image_size": list(self.patch_hwd), "deep_supervision": True} | self.network)

    def learning_rate(self) -> CosineRestarts:
        """Return the learning rate by step."""
        return CosineRestarts(self.schedule)

    def stage_spec(self) -> StageSpec:
        """Return what the resampling policy needs to know."""
        return StageSpec(int(self.stage), self.spacing_hwd, self.patch_hwd, self.resampling)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values that `from_dict` reads back."""
        return to_json(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote, or a file with some entries left out.

        Raises:
            InputError: An entry is unknown, missing or of the wrong type; the message names it.
        """
        return from_json(cls, values, "the recipe")


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of one that ships with Medal S, or from a JSON file.

    Raises:
        InputError: There is no such recipe, or it is not valid.
    """
    path = Path(name_or_path)
    if path.suffix != ".json":
        shipped = {entry.stem: entry for entry in sorted(resource("Recipes").glob("*.json"))}
        if str(name_or_path) not in shipped:
            raise InputError(
                f'There is no recipe "{name_or_path}".', f"Choose {', '.join(shipped)}, or give a .json file."
            )
        path = shipped[str(name_or_path)]
    values = read_json(path, "recipe")
    try:
        return Recipe.from_dict(values)
    except MedalSError as error:
        raise InputError(f"{path.name}: {error.cause}", error.remedy) from error
