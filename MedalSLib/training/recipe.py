"""One typed file says all of a training run: grid, network, text, sampling, prompts, augmentation, optimiser."""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from MedalSLib.errors import InputError, MedalSError
from MedalSLib.inference.resampling_policy import StageSpec
from MedalSLib.network.config import MedalSConfig
from MedalSLib.resources import resource
from MedalSLib.training.augmentation import AugmentationSettings
from MedalSLib.training.prompt_simulation import PromptSimulation
from MedalSLib.training.sampling import SamplingSettings
from MedalSLib.training.schedule import CosineRestarts, Cycle

_Record = TypeVar("_Record")


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
    """AdamW and what goes with it.

    Attributes:
        betas: Decay of the first and second moments.
        eps: AdamW's epsilon.
        weight_decay: Decoupled weight decay.
        accumulate: Batches whose gradients make one step.
        clip_norm: Largest norm of the gradient; None for no limit.
        precision: Autocast type; "auto" is bfloat16 where the device computes it natively, else float32.
        ema_decay: Decay a step of the averaged weights, which are then the ones evaluated and exported; None for none.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    accumulate: int = 1
    clip_norm: float | None = 12.0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    ema_decay: float | None = None


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
        optimizer: Optimisation.
        log: Logging and checkpoints.
        seed: Seed of every draw: the same seed, data and recipe give the same run.
        workers: Processes that prepare samples; 0 for none.
    """

    name: str
    stage: Literal["1", "2"]
    spacing_hwd: tuple[float, float, float]
    patch_hwd: tuple[int, int, int]
    schedule: tuple[Cycle, ...]
    resampling: Literal["published", "plain"] = "published"
    network: dict[str, Any] = field(default_factory=dict)
    text: TextSettings = field(default_factory=TextSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    prompts: PromptSimulation = field(default_factory=PromptSimulation)
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
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
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read what `to_dict` wrote, or a file with some entries left out.

        Raises:
            InputError: An entry is unknown, missing or of the wrong type; the message names it.
        """
        return _record(cls, values, "the recipe")


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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The recipe {path} cannot be read ({error.strerror}).", "Check its path.") from error
    except ValueError as error:
        raise InputError(f"The recipe {path} is not valid JSON ({error}).", "Correct the file.") from error
    try:
        return Recipe.from_dict(values)
    except MedalSError as error:
        raise InputError(f"{path.name}: {error.cause}", error.remedy) from error


def _record(kind: type[_Record], values: Any, where: str) -> _Record:
    """Build a dataclass from a mapping, checking names and types all the way down."""
    if not isinstance(values, Mapping):
        raise InputError(f"{where} is not a table of entries.", "Correct the recipe.")
    hints = get_type_hints(kind)
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]  # every kind passed here is a dataclass
    if unknown := sorted(set(values) - known):
        raise InputError(f"{where} has the unknown entry {unknown[0]}.", f"Known are: {', '.join(sorted(known))}.")
    read = {key: _value(hints[key], value, f"{where}, {key}") for key, value in values.items()}
    try:
        return kind(**read)
    except TypeError as error:
        raise InputError(f"{where} is not complete ({error}).", "Add what is missing.") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    wrong = InputError(f"{where} is {value!r}, which is not what belongs there.", "Correct the recipe.")
    if is_dataclass(hint) and isinstance(hint, type):
        return _record(hint, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(kind for kind in arguments if kind is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where} is {value!r}.", f"It is one of: {', '.join(map(str, arguments))}.")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise wrong
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_value(arguments[0], entry, where) for entry in value)
        if len(value) != len(arguments):
            raise wrong
        return tuple(_value(kind, entry, where) for kind, entry in zip(arguments, value, strict=True))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise wrong
        return dict(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise wrong
    return value
