"""Training the bundled starter, within a given time, on a GPU or (for a look) on the CPU.

`python -m MedalSLib.training.starter_train --data PACKED --run RUN --minutes 9 --total-minutes 18` trains for nine
minutes of eighteen; the same command again goes on where it stopped: exactly from RUN/checkpoint.pt, or, where only the
small files written to --out survived, from those (weights to half precision, the optimizer's scale to 8 bits).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from MedalSLib.training.starter_batches import Batch, BatchMaker
from MedalSLib.training.starter_labels import starter_classes
from MedalSLib.training.starter_log import Log
from MedalSLib.training.starter_loss import dice_and_cross_entropy
from MedalSLib.training.starter_model import (
    StarterModel,
    assign_codes,
    build,
    parameter_count,
    read_parts,
    write_parts,
)
from MedalSLib.training.starter_recipes import RECIPES, SIZES_BY_RECIPE
from MedalSLib.training.starter_texts import draw_texts
from MedalSLib.training.starter_volumes import Volume, load_volumes

_BALANCED = 0.06
"""Share of the schedule over which the balance of the cross-entropy fades."""
_LARGEST_NORM = 1e4


def compute_in_float32(module: torch.nn.Module) -> None:
    """Take a module out of autocast.

    On the CPU, the weight gradient of a bfloat16 convolution over a volume of a few voxels comes out wrong (measured
    with torch 2.13 on the deepest stage, 2x2x2 voxels: 90 % off, now and then 1e31), and that stage costs next to
    nothing in full precision.
    """
    forward = module.forward

    def run(features: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return forward(features.float())

    module.forward = run


class Trainer:
    """One run: model, optimizer, moving average, batches and the clock.

    Args:
        options: Command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.device = torch.device(options.device)
        self.recipe = RECIPES[options.recipe]
        torch.manual_seed(options.seed)
        self.model: StarterModel = build(True, *SIZES_BY_RECIPE[options.recipe]).to(self.device)
        if self.device.type == "cpu" and options.bf16:
            stages = list(self.model.network.backbone.encoder.stages.children())
            for stage in stages[-2:]:
                compute_in_float32(stage)
        self.batches = self._batches(load_volumes(Path(options.data), self.device), options.seed)
        self.classes = starter_classes()
        self._spread()
        self.average = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        image_side = list(self.model.network.backbone.parameters()) + list(self.model.network.fusion_conv.parameters())
        known = {id(parameter) for parameter in image_side}
        text_side = [parameter for parameter in self.model.parameters() if id(parameter) not in known]
        self.optimizer = torch.optim.AdamW(
            [{"params": image_side, "share": 1.0}, {"params": text_side, "share": self.recipe.text_rate}],
            lr=self.recipe.learning_rate,
            weight_decay=self.recipe.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.step = 0
        self.spent = 0.0
        self.format = torch.contiguous_format

    def _batches(self, volumes: list[Volume], seed: int) -> BatchMaker:
        volumes = [volume for volume in volumes if volume.modality in self.recipe.modalities]
        if (weights := self.recipe.weights) is not None:
            volumes = [replace(v, weight=weights[v.name]) for v in volumes if v.name in weights]
        return BatchMaker(volumes, self.recipe.queries, seed, self.recipe.taught, self.recipe.real_share)

    def _spread(self) -> None:
        before = self.batches.state()
        taught, modalities = self.recipe.taught, self.recipe.modalities
        known = [k for k in self.classes if (taught is None or k.name in taught) and k.modality in modalities]
        patch = self.batches.make(self.recipe.plans[0][0], 1).image
        assign_codes(self.model, [k.name for k in known], [k.modality for k in known], patch)
        self.batches.restore(before)

    # -- one step ---------------------------------------------------------------------------------------------------

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and the Dice of each query."""
        if self.recipe.names_only:
            texts, modalities = [k.name for k in self.classes], [k.modality for k in self.classes]
        else:
            texts, modalities = draw_texts(self.classes, self.batches.host)
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda or self.options.bf16):
            queries = self.model.encoder(texts, modalities)[batch.classes]
            image = batch.image.contiguous(memory_format=self.format)
            # As in inference: without prompts the mixing block sees prompts that are zero, it is not left out.
            prompts = torch.zeros_like(batch.target, dtype=image.dtype) if batch.prompts is None else batch.prompts
            outputs = self.model.network(queries, image, batch.union, prompts)
        return dice_and_cross_entropy(outputs, batch.target, batch.real, max(0.0, 1.0 - self.progress() / _BALANCED))

    def progress(self) -> float:
        """Return how much of the whole schedule is done, 0..1."""
        if self.options.steps:
            return min(1.0, self.step / self.options.steps)
        return min(1.0, self.spent / (60.0 * self.options.total_minutes))

    def train_step(self) -> tuple[int, Tensor, Tensor, Batch]:
        """Take one step; returns which plan, the loss, the Dice of each query and the batch."""
        rate = self.recipe.learning_rate * min(1.0, (self.step + 1) / self.recipe.warmup)
        for group in self.optimizer.param_groups:
            asleep = group["share"] != 1.0 and self.progress() < self.recipe.text_begins
            group["lr"] = (
                0.0
                if asleep
                else group["share"] * rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * self.progress())))
            )
        shares = np.array([share for _, _, share in self.recipe.plans])
        chosen = int(self.batches.host.choice(len(shares), p=shares / shares.sum()))
        plan, size, _ = self.recipe.plans[chosen]
        batch = self.batches.make(plan, size)
        loss, dice = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._update(torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True))
        self.step += 1
        self._average()
        return chosen, loss.detach(), dice, batch

    def _update(self, norm: Tensor) -> None:
        """Step unless the gradient overflowed; on a GPU without waiting for it to say so."""
        wrong = ~(norm < _LARGEST_NORM)
        if self.device.type == "cuda":
            self.optimizer.found_inf = wrong.float()  # type: ignore[attr-defined]  # read by the fused optimizer
        elif wrong:
            return
        self.optimizer.step()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.decay, (1 + self.step) / (10 + self.step))
        state = self.model.state_dict()
        keys = [key for key, value in state.items() if value.is_floating_point()]
        torch._foreach_lerp_([self.average[key] for key in keys], [state[key] for key in keys], 1.0 - decay)

    # -- speed ------------------------------------------------------------------------------------------------------

    def tune(self) -> None:
        """Choose the faster memory layout and convolution search by timing a few steps of each."""
        before = self.batches.state()
        best: tuple[float, bool, torch.memory_format] | None = None
        for search in (False, True):
            for layout in (torch.contiguous_format, torch.channels_last_3d):
                torch.backends.cudnn.benchmark = search
                self.lay_out(layout)
                seconds = self._time_of_steps(3)
                self.say(f"{layout}, convolution search {search}: {seconds:.3f} s a step")
                if best is None or seconds < best[0]:
                    best = (seconds, search, layout)
        assert best is not None
        torch.backends.cudnn.benchmark = best[1]
        self.lay_out(best[2])
        self.batches.restore(before)

    def lay_out(self, layout: torch.memory_format) -> None:
        """Put the weights, and the optimizer's memory of them, into a memory layout."""
        self.format = layout
        self.model.to(memory_format=layout)  # type: ignore[call-overload]  # torch's stubs leave this form out
        for parameter, state in self.optimizer.state.items():
            for key in ("exp_avg", "exp_avg_sq"):
                state[key] = torch.empty_like(parameter).copy_(state[key])

    def _time_of_steps(self, count: int) -> float:
        plan, size, _ = self.recipe.plans[0]
        batch = self.batches.make(plan, size)
        seconds = math.inf
        for _ in range(count):
            torch.cuda.synchronize()
            start = time.perf_counter()
            loss, _ = self.loss(batch)
            loss.backward()
            torch.cuda.synchronize()
            seconds = min(seconds, time.perf_counter() - start)
        self.model.zero_grad(set_to_none=True)
        return seconds

    # -- files ------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the exact checkpoint, and the small files if --out is given."""
        run = Path(self.options.run)
        run.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state(),
            "step": self.step,
            "spent": self.spent,
        }
        torch.save(state, run / "checkpoint.part")
        (run / "checkpoint.part").replace(run / "checkpoint.pt")
        if self.options.out:
            self._save_small(Path(self.options.out))

    def _save_small(self, out: Path) -> None:
        write_parts(out, "average", _half(self.average))
        write_parts(out, "weights", _half(self.model.state_dict()))
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        scales = {
            names[id(parameter)]: (torch.log2(state["exp_avg_sq"].clamp_min(2.0**-60)) * 3.0 + 190.0)
            .round()
            .clamp(0, 255)
            .to(torch.uint8)
            for parameter, state in self.optimizer.state.items()
        }
        scales["progress"] = torch.tensor([self.step, self.spent], dtype=torch.float64)
        write_parts(out, "scales", scales)

    def resume(self) -> None:
        """Go on from the exact checkpoint, else from the small files, else begin."""
        path = Path(self.options.run) / "checkpoint.pt"
        if path.is_file():
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average = state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.batches.restore(state["batches"])
            self.step, self.spent = state["step"], state["spent"]
            self.say(f"resumed exactly at step {self.step}")
        elif self.options.resume and (scales := read_parts(Path(self.options.resume), "scales")):
            self._resume_small(Path(self.options.resume), scales)

    def _resume_small(self, folder: Path, scales: dict[str, Tensor]) -> None:
        progress = scales.pop("progress")
        self.step, self.spent = int(progress[0]), float(progress[1])
        weights = {key: value.float() for key, value in read_parts(folder, "weights").items()}
        self.model.load_state_dict(weights)
        average = read_parts(folder, "average")
        self.average = {
            key: average[key].to(device=self.device, dtype=value.dtype) for key, value in self.average.items()
        }
        for name, parameter in self.model.named_parameters():
            if name not in scales:  # the published layout has parameters that nothing uses
                continue
            square = torch.exp2((scales[name].float() - 190.0) / 3.0).to(self.device)
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(self.step), device=self.device if self.device.type == "cuda" else "cpu"),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": square.view_as(parameter),
            }
        seed = self.options.seed + 1 + self.step
        self.batches = self._batches(self.batches.volumes, seed)
        self.say(f"resumed from the small files at step {self.step}")

    # -- the whole --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train until the time or the steps are up, then save."""
        limit = 60.0 * self.options.minutes
        begin = time.perf_counter()
        before = self.spent
        self.say(f"{parameter_count(self.model) / 1e6:.2f} M parameters, {len(self.batches.volumes)} volumes")
        if self.options.layout == "auto" and self.device.type == "cuda":
            self.tune()
        elif self.options.layout == "channels-last":
            self.lay_out(torch.channels_last_3d)
        log = Log(len(self.recipe.plans), len(self.classes), self.device)
        told = saved = time.perf_counter()
        while time.perf_counter() - begin < limit and self.progress() < 1.0:
            log.add(*self.train_step())
            now = time.perf_counter()
            self.spent = before + now - begin
            if now - told > self.options.log_seconds:
                text, healthy = log.flush([known.name for known in self.classes])
                rate = self.optimizer.param_groups[0]["lr"]
                self.say(f"step {self.step} {self.spent:.0f} s lr {rate:.1e} {text}")
                if not healthy:
                    raise SystemExit("the loss is no longer finite")
                told = time.perf_counter()
            if now - saved > self.options.save_seconds:
                self.save()
                saved = time.perf_counter()
        text, _ = log.flush([known.name for known in self.classes])
        self.say(f"step {self.step} {self.spent:.0f} s {text}")
        self.save()
        if self.device.type == "cuda":
            self.say(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")

    @staticmethod
    def say(text: str) -> None:
        """Print a line at once."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def _half(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description="Train the bundled starter within a given time.")
    made.add_argument("--data", required=True, help="folder of packed volumes")
    made.add_argument("--run", required=True, help="folder of the exact checkpoint")
    made.add_argument("--out", default="", help="folder for small files that hold the result and a resume point")
    made.add_argument("--resume", default="", help="folder of such small files to go on from")
    made.add_argument("--minutes", type=float, default=9.0, help="time of this call")
    made.add_argument("--total-minutes", type=float, default=18.0, help="time of the whole schedule")
    made.add_argument("--steps", type=int, default=0, help="steps of the whole schedule, instead of time")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--bf16", action="store_true", help="bfloat16 on the CPU too")
    made.add_argument("--recipe", choices=sorted(RECIPES), default="gpu", help="size of network and patches")
    made.add_argument("--layout", choices=("auto", "contiguous", "channels-last"), default="auto")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--log-seconds", type=float, default=15.0)
    made.add_argument("--save-seconds", type=float, default=150.0)
    return made


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    options: Any = parser().parse_args(arguments)
    trainer = Trainer(options)
    trainer.resume()
    trainer.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
