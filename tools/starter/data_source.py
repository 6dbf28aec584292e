"""The starter's data source for the trainer: batches synthesized from packed volumes on the training device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from MedalSLib.errors import InputError
from MedalSLib.records import from_json
from MedalSLib.training.distributed import World
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.sample_batch import Batch, batch_numbers
from tools.starter.appearance import COUNT
from tools.starter.labels import NOT_MIRRORED, StarterClass, mirrored_elements, starter_classes
from tools.starter.mask_prompts import corrected_answers, prompts_for
from tools.starter.patch_appearance import CtShares, Draws, new_appearance
from tools.starter.patch_geometry import Plan, place_patch
from tools.starter.synthesis import positions, sample
from tools.starter.volumes import Volume, load_volumes
from tools.starter.wording import draw_text

_OFTEN_ASKED = frozenset(
    {"Liver", "Spleen", "Left kidney", "Right kidney", "Left lung", "Right lung", "Aorta", "Heart", "Stomach", "Brain",
     "Pancreas", "Gallbladder", "Inferior vena cava", "Urinary bladder", "Esophagus", "Duodenum",
     "Left adrenal gland", "Right adrenal gland", "Colon", "Small bowel", "Spinal cord", "Trachea"}
)  # fmt: skip
_WINDOW_GAIN = 3.0
_ABSENT_LOSS = 2.5
_MIN_VOXELS = 8
_FORBIDDEN = -1e4
_TO_NETWORK = (0, 1, 3, 4, 2)
"""From (B, N, D, H, W), in which patches are made, to the network's (B, N, H, W, D)."""
_FROM_NETWORK = (0, 1, 4, 2, 3)

Answers = Callable[[Batch], Tensor]
"""Probabilities (B, N, H, W, D) that the model in training gives for a batch by its names alone."""


@dataclass(frozen=True)
class FineStage:
    """A second stage with the same weights on a finer grid.

    Attributes:
        spacing_hwd: In mm.
        patch_hwd: In voxels.
    """

    spacing_hwd: tuple[float, float, float]
    patch_hwd: tuple[int, int, int]


@dataclass(frozen=True)
class SynthesisSettings:
    """The entry "data" of a starter's recipe.

    Attributes:
        plans: Kinds of batches.
        queries: Structures asked for in each sample.
        names_only: Ask with the published names alone, which is what inference asks with, instead of any wording.
        modalities: Modalities of the volumes that are trained on.
        taught: Names of the structures that are taught ("Liver", or "CT_Liver" in one modality alone), None for all of
            `starter_classes`.
        coded: Names that the weights which the run begins with know already, in the order of their codes.
        real_share: Share of CT patches that keep the patient's own intensities (more or less); the others are
            synthesized.
        as_mr: Share of the synthesized patches of a CT that look like MR.
        weights: How often each volume is drawn, by name ("neck_*": all that begin so); volumes that are not named are
            held out.  None for all, as often as they were packed to be.
        window: Window of every CT patch; "" for one of those that the structures are looked at in.
        by_modality: Grid of the model folder where it is not the recipe's, as of `StageManifest`.
        fine: Second stage of the model folder; None for a model of one stage.
    """

    plans: tuple[Plan, ...]
    queries: int = 24
    names_only: bool = False
    modalities: tuple[str, ...] = ("CT", "MRI")
    taught: tuple[str, ...] | None = None
    coded: tuple[str, ...] = ()
    real_share: float = 0.58
    as_mr: float = 0.57
    weights: dict[str, float] | None = None
    window: str = ""
    by_modality: dict[str, dict[str, Any]] = field(default_factory=dict)
    fine: FineStage | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> SynthesisSettings:
        """Read the settings of a recipe.

        Raises:
            InputError: They are not valid.
        """
        return from_json(cls, recipe.data, f'"data" of the recipe "{recipe.name}"')

    def classes(self) -> tuple[StarterClass, ...]:
        """Return the structures that are taught."""
        return tuple(
            known
            for known in starter_classes()
            if known.modality in self.modalities
            and (self.taught is None or not {known.name, f"{known.modality}_{known.name}"}.isdisjoint(self.taught))
        )


class SynthesisSource:
    """Synthesized batches; see `MedalSLib.training.sample_batch.DataSource`.

    Args:
        folder: Packed volumes.
        recipe: The recipe, whose entry "data" holds `SynthesisSettings`.
        device: Training device, on which batches are made.

    Raises:
        InputError: The folder holds no volume to train on, or the settings are not valid.
    """

    def __init__(self, folder: Path, recipe: Recipe, device: torch.device) -> None:
        self.settings = settings = SynthesisSettings.of(recipe)
        self.volumes = _drawn(load_volumes(folder, device, tuple(settings.weights or ("*",))), settings)
        self._by_plan = [_matching(self.volumes, plan.volumes) for plan in settings.plans]
        if not all(self._by_plan):
            raise InputError(f"{folder} lacks volumes of the recipe.", "Pack them with tools.starter.pack.")
        self.answers: Answers | None = None
        self._recipe, self._device = recipe, device
        self._classes = settings.classes()
        members = torch.zeros((len(self._classes), COUNT))
        for row, known in enumerate(self._classes):
            members[row, list(known.elements)] = 1.0
        self._members = members.to(device)
        self._log_weight = torch.tensor([_log_weight(known) for known in self._classes], device=device)
        mirrored = mirrored_elements()
        self._mirror = torch.tensor([*mirrored, *range(len(mirrored), COUNT)]).to(device)

    def batches(self, first_step: int, last_step: int, world: World) -> Iterator[Batch]:
        """Return this process's batches of some steps, counted from 1.

        Args:
            first_step: First step, from 1.
            last_step: Last step.
            world: This process among those of the run.
        """
        return map(self.batch, batch_numbers(first_step, last_step, self._recipe.optimizer.accumulate, world))

    def batch(self, number: int, plan_number: int | None = None) -> Batch:
        """Return a batch by its number: always the same one.

        Args:
            number: Its number.
            plan_number: Position of its plan; None to draw it.
        """
        draws = Draws.of(self._recipe.seed, number, self._device)
        plans = self.settings.plans
        drawn = _choose([plan.share for plan in plans], draws.host)
        chosen = drawn if plan_number is None else plan_number
        plan, volumes = plans[chosen], self._by_plan[chosen]
        weights = [volume.weight for volume in volumes]
        samples = [self._sample(volumes[_choose(weights, draws.host)], plan, draws) for _ in range(plan.samples)]
        target = torch.stack([one.target for one in samples])
        # One wait for the device in each batch: texts are made on the host.
        asked = torch.stack([one.asked for one in samples]).tolist()
        batch = self._batch(samples, asked, torch.zeros_like(target).float(), draws)
        if not plan.prompted:
            return batch
        if self.answers is not None and draws.host.random() < plan.answered:
            answers = self.answers(batch).permute(_FROM_NETWORK)
            prompts = corrected_answers(answers, target, draws.host, draws.fields)
        else:
            prompts = prompts_for(target, draws.host, draws.fields)
        prompts = prompts.permute(_TO_NETWORK).contiguous()
        return replace(batch, prompts=prompts, union=prompts.amax(1, keepdim=True))

    def _batch(self, samples: Sequence[_Sample], asked: list[list[int]], prompts: Tensor, draws: Draws) -> Batch:
        target = torch.stack([one.target for one in samples])
        return Batch(
            image=torch.stack([one.image for one in samples])[:, None].permute(_TO_NETWORK).contiguous(),
            target=target.permute(_TO_NETWORK).contiguous(),
            union=prompts.amax(1, keepdim=True).permute(_TO_NETWORK).contiguous(),
            prompts=prompts.permute(_TO_NETWORK).contiguous(),
            real=torch.stack([one.real for one in samples]).float(),
            texts=tuple(tuple(self._text(row, draws) for row in rows) for rows in asked),
            modalities=tuple(one.modality for one in samples),
            datasets=tuple(one.volume for one in samples),
        )

    def _text(self, row: int, draws: Draws) -> str:
        name = self._classes[row].name
        return name if self.settings.names_only else draw_text(name, draws.host)

    def _sample(self, volume: Volume, plan: Plan, draws: Draws) -> _Sample:
        host = draws.host
        warp, view = place_patch(volume, plan, host)
        places = positions(warp, draws.fields, self._device)
        elements = sample(volume.elements, places, volume.spacing, nearest=True).long()
        image = (
            sample(volume.image, places, volume.spacing)
            if volume.image is not None
            else torch.zeros(plan.shape, device=self._device)
        )
        settings = self.settings
        own = settings.real_share if plan.real_share is None else plan.real_share
        shares = CtShares(own, (1.0 - own) * (1.0 - settings.as_mr))
        image, window = new_appearance(volume, image, elements, shares, draws, settings.window)
        inside = torch.zeros(plan.shape, dtype=torch.bool, device=self._device)
        inside[view] = True
        image, elements = image * inside, elements * inside
        mirrored = host.random() < 0.2
        if mirrored:  # along x; sides change places in the labels too
            image, elements = image.flip(2), self._mirror[elements].flip(2)
        if host.random() < 0.05:  # along y
            image, elements = image.flip(1), elements.flip(1)
        modality = "CT" if window != "percentile" else "MRI" if volume.modality == "CT" else volume.modality
        asked, real = self._questions(volume, modality, window, mirrored, elements, draws)
        target = self._members[asked][:, elements.flatten()].view(len(asked), *plan.shape) > 0
        return _Sample(image, target & real.view(-1, 1, 1, 1), asked, real, modality, volume.name)

    def _questions(
        self, volume: Volume, modality: str, window: str, mirrored: bool, elements: Tensor, draws: Draws
    ) -> tuple[Tensor, Tensor]:
        """Draw the structures to ask for, (N), as rows of the classes, and say which of them are real questions.

        Mostly ones that are there and that inference looks at in this window, some that are not; only where the
        volume's labels can be trusted.
        """
        allowed = [
            known.modality == modality
            and known.name in volume.trusted
            and not (mirrored and known.name in NOT_MIRRORED)
            for known in self._classes
        ]
        fitting = torch.tensor(
            [_WINDOW_GAIN * (known.window == window and not self.settings.window) for known in self._classes],
            device=self._device,
        )
        present = (self._members @ torch.bincount(elements.flatten(), minlength=COUNT).float()) > _MIN_VOXELS
        uniform = torch.rand(len(allowed), generator=draws.fields, device=self._device).clamp(1e-6, 1 - 1e-6)
        # The largest of weights with Gumbel noise are a draw without repetition by these weights.
        score = self._log_weight + fitting - torch.log(-torch.log(uniform)) - _ABSENT_LOSS * (~present).float()
        score = score.masked_fill(~torch.tensor(allowed, device=self._device), _FORBIDDEN)
        best = score.topk(min(self.settings.queries, len(allowed)))
        return best.indices, best.values > _FORBIDDEN / 2


@dataclass(frozen=True)
class _Sample:
    """One patch: (D, H, W) image, (N, D, H, W) target, (N) rows asked for and whether each is a real question."""

    image: Tensor
    target: Tensor
    asked: Tensor
    real: Tensor
    modality: str
    volume: str


def _drawn(volumes: Sequence[Volume], settings: SynthesisSettings) -> list[Volume]:
    """Return the volumes to train on, weighted as the settings say."""
    kept = [volume for volume in volumes if volume.modality in settings.modalities]
    weights = settings.weights
    if weights is None:
        return kept
    drawn = []
    for pattern, weight in weights.items():
        named = _matching(kept, (pattern,))
        drawn += [replace(volume, weight=weight / len(named)) for volume in named]
    return drawn


def _matching(volumes: Sequence[Volume], patterns: Sequence[str]) -> list[Volume]:
    return [volume for volume in volumes if any(fnmatch(volume.name, pattern) for pattern in patterns)]


def _log_weight(known: StarterClass) -> float:
    often = 4.0 if known.name in _OFTEN_ASKED else 0.6 if known.name.startswith("Vertebrae ") else 1.0
    return float(np.log(often))


def _choose(weights: Sequence[float], host: np.random.Generator) -> int:
    shares = np.array(weights)
    return int(host.choice(len(shares), p=shares / shares.sum()))
