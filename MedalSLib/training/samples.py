"""Training samples by number: sample `i` of a run is the same whoever computes it, and whenever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from MedalSLib.errors import InputError
from MedalSLib.training.augmentation import Augmented, Augmenter
from MedalSLib.training.case_store import CaseReader, CaseRecord
from MedalSLib.training.distributed import World
from MedalSLib.training.laterality import SAGITTAL_AXIS_HWD, mirrored_texts
from MedalSLib.training.prepared_folder import PreparedFolder
from MedalSLib.training.prompt_simulation import simulate_prompts
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.sample_batch import Batch, batch_numbers
from MedalSLib.training.sampling import case_weights, choose_labels, draw_corner, draw_texts


class SampleStream(Dataset[Any]):
    """The data source of prepared folders: samples by number, without end.

    Args:
        prepared: Prepared cases.
        recipe: How samples are made.
        cases: Cases to draw from; None for all.

    Raises:
        InputError: There is no case, or the recipe is for another grid or another data source.
    """

    def __init__(self, prepared: PreparedFolder, recipe: Recipe, cases: Sequence[CaseRecord] | None = None) -> None:
        if recipe.data:
            raise InputError(
                f'The recipe "{recipe.name}" is for another data source: it has entries of "data".',
                "Choose a recipe for prepared folders.",
            )
        spec = recipe.stage_spec()
        found = replace(prepared.spec, stage=spec.stage)
        if found != spec:
            raise InputError(
                f"{prepared.root} was prepared for {found.spacing_hwd} mm, patches of {found.patch_hwd} and "
                f"{found.resampling} resampling, the recipe wants {spec.spacing_hwd}, {spec.patch_hwd} and "
                f"{spec.resampling}.",
                "Prepare the data with this recipe.",
            )
        self._cases = tuple(prepared.cases if cases is None else cases)
        if not self._cases:
            raise InputError(f"{prepared.root} holds no case to train on.", "Prepare more cases.")
        self._recipe = recipe
        self._reader = CaseReader(prepared.root)
        self._augmenter = Augmenter(recipe.patch_hwd, recipe.augmentation)
        self._weights = case_weights(self._cases, recipe.patch_hwd, recipe.sampling)
        texts = {name: info.texts for name, info in prepared.datasets.items()}
        if not recipe.text.sentences:
            texts = {name: {label: (lines[0],) for label, lines in table.items()} for name, table in texts.items()}
        self._texts = texts
        self._mirrored = {name: mirrored_texts(table) for name, table in texts.items()}

    def batches(self, first_step: int, last_step: int, world: World) -> DataLoader[Batch]:
        """Return one process's batches of the steps `first_step` to `last_step`, counted from 1.

        Args:
            first_step: First step, from 1.
            last_step: Last step.
            world: This process among those of the run.
        """
        recipe = self._recipe
        size = recipe.sampling.batch_size
        numbers = batch_numbers(first_step, last_step, recipe.optimizer.accumulate, world)
        return DataLoader(
            self,
            batch_sampler=[list(range(number * size, (number + 1) * size)) for number in numbers],
            collate_fn=collate,
            num_workers=recipe.workers,
            worker_init_fn=_one_thread if recipe.workers else None,
            pin_memory=world.device.type == "cuda",
        )

    def __getitem__(self, number: int) -> Batch:
        """Return sample `number` as a batch of one."""
        rng = np.random.default_rng((self._recipe.seed, 0, number))
        settings = self._recipe.sampling
        case = self._cases[int(rng.choice(len(self._cases), p=self._weights))]
        corner = draw_corner(
            case.shape_hwd,
            self._augmenter.window_hwd,
            self._recipe.patch_hwd,
            self._reader.locations(case),
            rng,
            settings.foreground_share,
        )
        window, window_labels = self._reader.window(case, corner, self._augmenter.window_hwd)
        patch = self._augmenter(torch.from_numpy(window), torch.from_numpy(window_labels), rng)
        patch, texts = self._named(patch, case)
        available = [label for label in case.annotated if texts.get(label)]
        present = [int(value) for value in torch.unique(patch.labels)]
        labels = choose_labels(available, present, settings, rng)
        drawn = draw_texts(texts, labels, settings.max_queries, rng)
        target = torch.stack([patch.labels == label for label, _ in drawn])
        prompts = simulate_prompts(target, rng, self._recipe.prompts)
        return Batch(
            image=patch.image[None, None],
            target=target[None].to(torch.uint8),
            union=prompts.union[None].to(torch.uint8),
            prompts=prompts.classes[None].to(torch.uint8),
            real=torch.ones(1, len(drawn)),
            texts=(tuple(text for _, text in drawn),),
            modalities=(case.modality,),
            datasets=(case.dataset,),
        )

    def _named(self, patch: Augmented, case: CaseRecord) -> tuple[Augmented, dict[int, tuple[str, ...]]]:
        """Return the patch with its texts; if none of its structures has a mirror image, mirror it back."""
        texts = self._texts[case.dataset]
        if not patch.swap_sides:
            return patch, texts
        mirrored = self._mirrored[case.dataset]
        if any(mirrored.get(label) for label in case.annotated):
            return patch, mirrored
        axis = [SAGITTAL_AXIS_HWD]
        return Augmented(patch.image.flip(axis), patch.labels.flip(axis), False), texts


def collate(samples: Sequence[Batch]) -> Batch:
    """Put samples side by side, padding those with fewer queries."""
    most = max(sample.target.shape[1] for sample in samples)

    def joined(name: str) -> Tensor:
        """Join tensors with queries along axis 1."""
        tensors = [getattr(sample, name) for sample in samples]
        missing = [one.new_zeros((1, most - one.shape[1], *one.shape[2:])) for one in tensors]
        return torch.cat([torch.cat(pair, dim=1) for pair in zip(tensors, missing, strict=True)])

    return Batch(
        image=torch.cat([sample.image for sample in samples]),
        target=joined("target"),
        union=torch.cat([sample.union for sample in samples]),
        prompts=joined("prompts"),
        real=joined("real"),
        texts=tuple(sample.texts[0] for sample in samples),
        modalities=tuple(sample.modalities[0] for sample in samples),
        datasets=tuple(sample.datasets[0] for sample in samples),
    )


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
