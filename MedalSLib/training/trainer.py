"""The training loop: the same losses whether it runs in one piece or several, in one process or many.

Every draw depends on the seed and on the number of the sample or step alone, so a checkpoint needs no random state, and
two processes do in one step what one process does that accumulates twice as many batches.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from MedalSLib.errors import CancelledError, InputError, ResourceError
from MedalSLib.training.distributed import World
from MedalSLib.training.losses import segmentation_loss
from MedalSLib.training.optimizer import adamw, averaged, set_learning_rate
from MedalSLib.training.precision import autocast_type, keep_deep_stages_in_float32
from MedalSLib.training.queries import PromptedModel
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.sample_batch import Batch, DataSource
from MedalSLib.training.steps import Hooks, StepReport, TrainResult


@dataclass
class Trainer:
    """One run.

    Args:
        model: What is trained; moved to the world's device.
        source: Where batches come from.
        recipe: The recipe.
        world: This process among those of the run.
        folder: Where checkpoints and logs go.
        hooks: What is called meanwhile.
    """

    model: PromptedModel
    source: DataSource
    recipe: Recipe
    world: World
    folder: RunFolder
    hooks: Hooks = field(default_factory=Hooks)

    def __post_init__(self) -> None:
        settings, device = self.recipe.optimizer, self.world.device
        self._precision = autocast_type(settings.precision, device)
        if device.type == "cpu" and self._precision is torch.bfloat16:
            keep_deep_stages_in_float32(self.model.network.backbone.encoder.stages)
        self._layout = torch.channels_last_3d if settings.channels_last else torch.contiguous_format
        self.model.to(device).train().to(memory_format=self._layout)  # type: ignore[call-overload]  # torch's stubs
        self._optimizer = adamw(self.model, settings)
        self._rate = self.recipe.learning_rate()
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._precision is torch.float16)
        self._average = averaged(self.model, settings)
        self._parallel: nn.Module = self.model
        if self.world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            # Class prompts are withheld in some steps, which leaves the mixing block without a gradient.
            self._parallel = DistributedDataParallel(self.model, device_ids=ids, find_unused_parameters=True)
        self._by_dataset: dict[str, list[tuple[float, float]]] = {}
        self.step = 0

    @property
    def trained(self) -> PromptedModel:
        """The model to evaluate and export: the averaged one if there is one."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.module, PromptedModel)
        return self._average.module

    def start(self, facts: Mapping[str, Any], resume: bool) -> None:
        """Make or check the run's folder; a run that goes on starts at its last checkpoint.

        Args:
            facts: What besides the recipe is needed to repeat the run.
            resume: Whether a run that is in the folder goes on.

        Raises:
            OutputError: The folder holds something else, or a run although `resume` is False.
            InputError: The run was made with another recipe, or its checkpoint is damaged.
        """
        if self.world.leads:
            self.folder.start(self.recipe, facts, resume)
        self.world.wait()
        if resume:
            self.resume()

    def resume(self) -> bool:
        """Go on from the folder's last checkpoint; returns whether there is one.

        Raises:
            InputError: It is damaged, or of another network.
        """
        state = self.folder.load()
        if state is None:
            if self.world.leads:
                self.folder.forget_after(-1)  # killed before the first checkpoint: all of it comes again
            return False
        try:
            self.model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._scaler.load_state_dict(state["scaler"])
            if self._average is not None:
                self._average.load_state_dict(state["average"])
            self.step = int(state["step"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InputError(
                f"The checkpoint in {self.folder.root} does not fit the recipe ({str(error).splitlines()[0]}).",
                "Give the recipe the run was made with, or begin again in another folder.",
            ) from error
        if self.world.leads:
            self.folder.forget_after(self.step)
        return True

    def run(self, until: int | None = None) -> TrainResult:
        """Train.

        Args:
            until: Last step of this call; None for the whole schedule.

        Raises:
            CancelledError: `hooks.cancel` was set; a checkpoint was written.
            ResourceError: The device has not enough memory.
            InputError: The loss is no longer a number.
        """
        last = self._rate.total_steps if until is None else min(until, self._rate.total_steps)
        losses: list[float] = []
        begun = time.monotonic()
        batches = iter(self.source.batches(self.step + 1, last, self.world))
        while self.step < last:
            report = self.advance(batches)
            losses.append(report.loss)
            if self._after(report, last):
                break
        return TrainResult(self.step, tuple(losses), time.monotonic() - begun)

    def advance(self, batches: Iterator[Batch]) -> StepReport:
        """Take one step with the next batches, without logging or saving it.

        Raises:
            ResourceError: The device has not enough memory.
            InputError: The loss is no longer a number.
        """
        started = time.monotonic()
        step, accumulate = self.step + 1, self.recipe.optimizer.accumulate
        rate, total = self._rate(step), self._rate.total_steps
        set_learning_rate(self._optimizer, rate, self.recipe.optimizer, step / total)
        withhold = self._withholds(step)
        sums = [0.0, 0.0, 0.0]
        try:
            for turn in range(accumulate):
                parts = self._backward(next(batches), withhold, last=turn == accumulate - 1)
                sums = [total + value / accumulate for total, value in zip(sums, parts, strict=True)]
            norm = self._update()
        except torch.OutOfMemoryError as error:
            raise ResourceError(
                f"The {self.world.device.type} device has not enough memory for this recipe.",
                "Make batch_size, max_queries or patch_hwd smaller; --dry-run shows what is needed.",
            ) from error
        self.step = step
        loss, dice, bce = self.world.mean(sums)
        if not np.isfinite(loss):
            raise InputError(
                f"The loss is not a number at step {step}.",
                "Lower the learning rate or clip_norm, and go on from the last checkpoint with --resume.",
            )
        return StepReport(step, total, loss, dice, bce, rate, norm, time.monotonic() - started)

    def _withholds(self, step: int) -> bool:
        """Say whether a step goes without class prompts: the same for all batches and processes of the step."""
        rng = np.random.default_rng((self.recipe.seed, 1, step))
        return bool(rng.random() < self.recipe.prompts.withhold_class_prompts)

    def _backward(self, batch: Batch, withhold: bool, last: bool) -> list[float]:
        batch = batch.to(self.world.device)
        waits = not last and isinstance(self._parallel, DistributedDataParallel)
        precision: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        if self._precision is not None:
            precision = torch.autocast(self.world.device.type, dtype=self._precision)
        with self._parallel.no_sync() if waits else contextlib.nullcontext():  # type: ignore[operator]  # DDP's own
            with precision:
                outputs: list[Tensor] = self._parallel(
                    batch.texts,
                    batch.modalities,
                    batch.image.contiguous(memory_format=self._layout),
                    batch.union.float(),
                    None if withhold else batch.prompts.float(),
                )
            loss = self.recipe.loss
            balance = loss.balance(self.step / self._rate.total_steps)
            parts = segmentation_loss(outputs, batch.target, batch.real, loss, balance)
            for name, dice, bce in zip(batch.datasets, parts.dice.tolist(), parts.bce.tolist(), strict=True):
                self._by_dataset.setdefault(name, []).append((dice, bce))
            self._scaler.scale(parts.total / self.recipe.optimizer.accumulate).backward()
        return [float(parts.total.detach()), float(parts.dice.mean().detach()), float(parts.bce.mean().detach())]

    def _update(self) -> float:
        norm, skip = 0.0, self.recipe.optimizer.skip_norm
        if self.recipe.optimizer.clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            learning = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
            norm = float(nn.utils.clip_grad_norm_(learning, self.recipe.optimizer.clip_norm))
        if skip is None or norm < skip:  # false for a norm that is not a number
            self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average is not None:
            self._average.update_parameters(self.model)
        return norm

    def _after(self, report: StepReport, last: int) -> bool:
        """Log, save and check; returns whether to stop early."""
        log = self.recipe.log
        if self.world.leads:
            if report.step % log.every == 0 or report.step in (1, last):
                self.folder.log(report.to_log() | self._dataset_losses())
            if self.hooks.on_step:
                self.hooks.on_step(report)
        check_now = bool(self.hooks.check_every) and (report.step % self.hooks.check_every == 0 or report.step == last)
        stop = False
        if check_now and self.hooks.check is not None:
            stop = self.world.agree(self.hooks.check(report.step))
            self.model.train()
        cancelled = self.world.agree(self.hooks.cancel is not None and self.hooks.cancel.is_set())
        if report.step % log.checkpoint_every == 0 or report.step == last or stop or cancelled:
            self.save()
        if cancelled:
            raise CancelledError(
                f"Training was cancelled after step {report.step}; the checkpoint is written.", "Go on with --resume."
            )
        return stop

    def _dataset_losses(self) -> dict[str, float]:
        """Return the mean losses of each data set since the last line of the log, in this process."""
        losses: dict[str, float] = {}
        for name, pairs in sorted(self._by_dataset.items()):
            dice, bce = (float(value) for value in np.mean(pairs, axis=0))
            losses |= {f"dice_loss/{name}": dice, f"bce_loss/{name}": bce}
        self._by_dataset.clear()
        return losses

    def save(self) -> None:
        """Write a checkpoint of this step (the leading process does)."""
        if self.world.leads:
            keep_every = self.recipe.log.keep_every
            state: dict[str, Any] = {
                "step": self.step,
                "model": self.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
                "recipe": self.recipe.to_dict(),
            }
            if self._average is not None:
                state["average"] = self._average.state_dict()
            self.folder.save(state, keep=bool(keep_every) and self.step % keep_every == 0)
        self.world.wait()
