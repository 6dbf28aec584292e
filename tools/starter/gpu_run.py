"""Everything that some minutes on a GPU are good for, in one command: train, test on CUDA, measure, bring it home.

`python -m tools.starter.gpu_run --data PACKED --output OUT --minutes 8` leaves in OUT the model folder, the run with
its log, a learning curve, what the tests on CUDA said, the benchmarks' figures, and `report.json`.  A part that
fails is reported and does not stop the others.  `--device cpu --minutes 1 --recipe FILE` tries it without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from MedalSLib.atomic_files import write_json
from MedalSLib.errors import MedalSError
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from tools.starter.bundle import write_starter
from tools.starter.train import starter_recipe, train_starter

_TRIAL_STEPS = 12
_WARM_UP = 4
_TRAINING_SHARE = 0.62
_TESTS = ("Testing/gpu",)
_BENCHMARKS = (("--width", "published", "--patch", "192", "--classes", "1,24,117"),)


def fitted(recipe: Recipe, seconds: float, a_step: float) -> Recipe:
    """Return a recipe whose schedule is one cycle that takes some time.

    Args:
        recipe: The recipe; the peak and the share of the warm-up of its first cycle are kept.
        seconds: Time there is.
        a_step: Seconds a step takes.
    """
    first = recipe.schedule[0]
    steps = max(2, int(seconds / a_step))
    warmup = min(max(1, round(steps * first.warmup / first.steps)), steps - 1)
    return replace(recipe, schedule=(replace(first, steps=steps, warmup=warmup),))


def step_time(data: Path, recipe: Recipe, device: str, scratch: Path) -> tuple[float, float]:
    """Return the seconds of a step here and those before the first one, measured on some steps of another run."""
    begun = time.monotonic()
    trial = replace(recipe, log=replace(recipe.log, every=1, checkpoint_every=_TRIAL_STEPS))
    train_starter(data, scratch, trial, device=device, until=_TRIAL_STEPS)
    took = time.monotonic() - begun
    seconds = [entry["seconds"] for entry in RunFolder(scratch).entries()]
    shutil.rmtree(scratch)
    return float(sum(seconds[_WARM_UP:]) / len(seconds[_WARM_UP:])), took - sum(seconds)


def train_part(options: argparse.Namespace, output: Path, seconds: float) -> dict[str, Any]:
    """Train for some time, and write the run and its model.

    Args:
        options: Command line.
        output: Folder of the results.
        seconds: Time there is, the measurement of a step included.
    """
    begun, recipe = time.monotonic(), starter_recipe(options.recipe)
    a_step, before = step_time(options.data, recipe, options.device, output / "trial")
    left = seconds - (time.monotonic() - begun) - before
    recipe, run = fitted(recipe, left, a_step), output / "run"
    trainer = train_starter(
        options.data, run, recipe, device=options.device, minutes=(left + before) / 60, base=options.base
    )
    write_starter(run, output / "model")
    draw_curve(run, output / "curve.png")
    return {"steps": trainer.step, "of": recipe.schedule[0].steps, "seconds_a_step": round(a_step, 4)}


def draw_curve(run: Path, path: Path) -> None:
    """Draw the losses of a run by step, smoothed over a twentieth of it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    entries = RunFolder(run).entries()
    figure = Figure(figsize=(7, 4))
    axes = figure.subplots()
    width = max(1, len(entries) // 20)
    for key, label in (("dice_loss", "Dice loss"), ("bce_loss", "cross-entropy")):
        values = [entry[key] for entry in entries]
        smooth = [
            sum(values[max(0, n - width + 1) : n + 1]) / len(values[max(0, n - width + 1) : n + 1])
            for n in range(len(values))
        ]
        axes.plot([entry["step"] for entry in entries], smooth, label=label)
    axes.set_xlabel("step")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def command_part(command: list[str], log: Path, seconds: float) -> dict[str, Any]:
    """Run a command for at most some time; its output goes to a file.

    Args:
        command: The command.
        log: The file.
        seconds: Time there is.
    """
    with log.open("wb") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=max(1.0, seconds), check=False
            )
        except subprocess.TimeoutExpired:
            return {"stopped_after": round(seconds), "log": log.name}
    return {"exit_code": done.returncode, "log": log.name}


def gpu_run(options: argparse.Namespace) -> dict[str, Any]:
    """Do every part in its share of the time, and return what came of each."""
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60.0 * options.minutes
    report: dict[str, Any] = {"device": _device_name(options.device), "torch": torch.__version__}

    def do(name: str, part: Callable[[], dict[str, Any]]) -> None:
        begun = time.monotonic()
        try:
            report[name] = part()
        except (MedalSError, RuntimeError, OSError) as error:
            report[name] = {"error": str(error)}
        report[name]["seconds"] = round(time.monotonic() - begun, 1)
        write_json(output / "report.json", report)
        sys.stderr.write(f"{name}: {json.dumps(report[name])}\n")

    do("training", lambda: train_part(options, output, _TRAINING_SHARE * 60.0 * options.minutes))
    python = sys.executable
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *_TESTS]
    do("tests", lambda: command_part(tests, output / "tests.log", (end - time.monotonic()) / 2))
    for number, arguments in enumerate(_BENCHMARKS):
        bench = [python, "-m", "MedalSLib.cli", "bench", "gpu", *arguments]
        do(f"bench_{number}", lambda bench=bench: command_part(bench, output / "bench.json", end - time.monotonic()))  # type: ignore[misc]
    return report


def _device_name(device: str) -> str:
    cuda = device != "cpu" and torch.cuda.is_available()
    return torch.cuda.get_device_name() if cuda else "cpu"


def main(arguments: list[str] | None = None) -> int:
    """Run; prints the report as JSON and returns the exit code."""
    parser = argparse.ArgumentParser(description="Train, test and measure in some minutes on a GPU.")
    parser.add_argument("--data", type=Path, required=True, help="folder of packed volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder for all results")
    parser.add_argument("--minutes", type=float, default=8.0, help="time there is (default: %(default)s)")
    parser.add_argument("--recipe", default="gpu", help="cpu, gpu or a JSON file (default: %(default)s)")
    parser.add_argument("--base", type=Path, help="folder of an older starter to begin with (default: random weights)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    report = gpu_run(parser.parse_args(arguments))
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 1 if "error" in report["training"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
