"""Train the bundled starter: the library's trainer on synthesized batches.

`python -m tools.starter.train --data PACKED --run RUN --recipe cpu --minutes 106` trains until the schedule ends or the
time is up; the same command with `--resume` goes on exactly where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import threading
import time
from pathlib import Path

import torch
from torch import Tensor

from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.training.distributed import world
from MedalSLib.training.recipe import Recipe, load_recipe
from MedalSLib.training.run_folder import RunFolder
from MedalSLib.training.sample_batch import Batch
from MedalSLib.training.steps import Hooks, StepReport
from MedalSLib.training.trainer import Trainer
from tools.starter.data_source import Answers, SynthesisSource
from tools.starter.model import new_starter

RECIPES = Path(__file__).with_name("recipes")


def starter_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe of the starter by its name (`cpu`, `gpu`) or from a JSON file.

    Raises:
        InputError: There is no such recipe, or it is not valid.
    """
    own = RECIPES / f"{name_or_path}.json"
    return load_recipe(own if own.is_file() else name_or_path)


def train_starter(
    data: Path,
    run: Path,
    recipe: Recipe,
    *,
    device: str = "auto",
    minutes: float = 0.0,
    until: int | None = None,
    resume: bool = False,
    base: Path | None = None,
) -> Trainer:
    """Train, and leave a checkpoint in the run's folder.

    Args:
        data: Folder of packed volumes.
        run: The run's folder.
        recipe: The recipe.
        device: "auto", "cpu" or "cuda".
        minutes: Stop after this time; 0 for no limit.
        until: Stop after this step; None for the whole schedule.
        resume: Go on with the run in the folder.
        base: Folder of an older starter to begin with; None for random weights.

    Returns:
        The trainer as it stopped.

    Raises:
        InputError: The data or the recipe cannot be used, or the loss is no longer a number.
        OutputError: The run's folder holds something else.
    """
    with world(device) as here:
        source = SynthesisSource(data, recipe, here.device)
        hooks = _stop_after(minutes)
        facts = {"data_digest": _digest(data), "base": base.name if base else ""}
        model, folder = new_starter(recipe, source, base), RunFolder(run)
        trainer = Trainer(model, source, recipe, here, folder, hooks)
        source.answers = _answers(trainer)
        trainer.start(facts, resume)
        try:
            trainer.run(until)
        except CancelledError:
            pass  # the time is up; the checkpoint is written
        finally:
            folder.close()
    return trainer


def _answers(trainer: Trainer) -> Answers:
    """Return what gives the trained model's own answers to a batch, by names alone."""

    @torch.no_grad()
    def answers(batch: Batch) -> Tensor:
        nothing = torch.zeros_like(batch.image)
        prompts = torch.zeros_like(batch.target, dtype=torch.float32)
        logits: Tensor = trainer.model(batch.texts, batch.modalities, batch.image, nothing, prompts)[0]
        return logits.sigmoid()

    return answers


def _stop_after(minutes: float) -> Hooks:
    """Return hooks that print a line now and then, and stop after some minutes."""
    begun, stop = time.monotonic(), threading.Event()

    def on_step(report: StepReport) -> None:
        if report.step % 20 == 0:
            rate = f"{report.learning_rate:.1e}"
            line = (
                f"step {report.step}/{report.total_steps} loss {report.loss:.3f} rate {rate} {report.seconds:.2f} s\n"
            )
            sys.stderr.write(line)
        if minutes and time.monotonic() - begun > 60.0 * minutes:
            stop.set()

    return Hooks(on_step=on_step, cancel=stop)


def _digest(data: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(data.glob("*.npz")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train the bundled starter.")
    parser.add_argument("--data", type=Path, required=True, help="folder of packed volumes")
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--recipe", default="cpu", help="cpu, gpu or a JSON file (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after this time (default: no limit)")
    parser.add_argument("--steps", type=int, help="stop after this step (default: the whole schedule)")
    parser.add_argument("--base", type=Path, help="folder of an older starter to begin with (default: random weights)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    options = parser.parse_args(arguments)
    try:
        recipe = starter_recipe(options.recipe)
        trainer = train_starter(
            options.data,
            options.run,
            recipe,
            device=options.device,
            minutes=options.minutes,
            until=options.steps,
            resume=options.resume,
            base=options.base,
        )
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stderr.write(f"stopped at step {trainer.step} of {recipe.learning_rate().total_steps}\n")
    if torch.cuda.is_available():
        sys.stderr.write(f"peak GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
