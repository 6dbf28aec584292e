"""`medals prepare`, `medals to-nnunet`, `medals train`, `medals fine-tune`, `medals validate`."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

from MedalSLib.cli.console import (
    Commands,
    StepBar,
    add_orientation,
    cancel_on_interrupt,
    note,
    options_from,
    print_json,
)


def add_commands(commands: Commands) -> None:
    """Add the five commands to the parser."""
    _add_prepare(commands)
    _add_to_nnunet(commands)
    _add_train(commands)
    _add_fine_tune(commands)
    _add_validate(commands)


def _add_prepare(commands: Commands) -> None:
    parser = commands.add_parser(
        "prepare",
        help="prepare labelled cases for training",
        description="Read challenge npz files, or a folder of images with labels, onto a recipe's grid. Safe to "
        "interrupt: the same command goes on where it stopped.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of cases")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="prepared folder")
    parser.add_argument("--recipe", default="small_stage1", help="name or JSON file (default: %(default)s)")
    parser.add_argument("--prompts", type=Path, help="the challenge's JSON of prompts by dataset")
    _add_folder_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.set_defaults(run=run_prepare)


def _add_to_nnunet(commands: Commands) -> None:
    parser = commands.add_parser(
        "to-nnunet",
        help="write labelled cases as a data set of nnU-Net",
        description="Write what 'medals prepare' reads (on the images' own grids) or wrote (on the network's) as "
        "DatasetNNN_NAME with imagesTr, labelsTr and dataset.json, one for each data set.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of cases, or prepared folder")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder of nnU-Net's raw data sets")
    parser.add_argument("--number", type=int, default=501, help="of the first data set (default: %(default)s)")
    parser.add_argument("--prompts", type=Path, help="the challenge's JSON of prompts by dataset")
    _add_source_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.set_defaults(run=run_to_nnunet)


def _add_train(commands: Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a network",
        description="Train on a prepared folder. On several GPUs: torchrun --nproc-per-node N -m MedalSLib.cli train "
        "... Ctrl-C stops after the step in progress, with a checkpoint; --resume goes on exactly.",
    )
    parser.add_argument("prepared", type=Path, metavar="PREPARED", help="folder that 'medals prepare' made")
    parser.add_argument("folder", type=Path, metavar="RUN", help="folder of this run")
    parser.add_argument("--recipe", default="small_stage1", help="name or JSON file (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--text-encoder", type=Path, help="folder of the published text encoder")
    parser.add_argument("--steps", type=int, help="stop after this step (default: the recipe's whole schedule)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    parser.add_argument("--dry-run", action="store_true", help="only say how much memory and time it would take")
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.set_defaults(run=run_train)


def _add_fine_tune(commands: Commands) -> None:
    parser = commands.add_parser(
        "fine-tune",
        help="teach a model your own structures",
        description="Start from a model and a folder of labelled cases (two or more), train until the held-out cases "
        "stop improving; OUTPUT/model is what --model takes.",
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder of images with labels")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder of the result")
    parser.add_argument("--model", default="starter", help="name or folder to start from (default: %(default)s)")
    parser.add_argument("--name", default="", help="name of the result")
    parser.add_argument("--stages", type=_stages, default=(), help="1, 2 or 1,2 (default: all of the model)")
    parser.add_argument("--steps", type=int, default=150, help="most steps a stage (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=5e-4, help="highest (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=2, help="default: %(default)s")
    parser.add_argument(
        "--held-out", type=float, default=0.2, help="share of cases for stopping (default: %(default)s)"
    )
    parser.add_argument("--patience", type=int, default=6, help="checks without gain to stop (default: %(default)s)")
    parser.add_argument("--check-every", type=int, default=25, help="steps between checks (default: %(default)s)")
    parser.add_argument("--freeze", choices=["nothing", "image_encoder", "backbone"], default="image_encoder",
                        help="what keeps its weights (default: %(default)s)")  # fmt: skip
    parser.add_argument("--mirror", choices=["sagittal", "off"], default="sagittal",
                        help="left to right, with the sides swapped, or off (default: %(default)s)")  # fmt: skip
    _add_folder_arguments(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on with what is in OUTPUT")
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.set_defaults(run=run_fine_tune)


def _add_validate(commands: Commands) -> None:
    parser = commands.add_parser(
        "validate",
        help="score a model on prepared cases",
        description="Dice of every structure in every case of a prepared folder, found from its name alone by the "
        "stage of the model that has the folder's grid.",
    )
    parser.add_argument("prepared", type=Path, metavar="PREPARED", help="folder that 'medals prepare' made")
    parser.add_argument("--model", default="starter", help="name or folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the Dice of every case as JSON")
    parser.set_defaults(run=run_validate)


def _stages(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--modality", default="", help="of a plain folder (default: found out)")
    parser.add_argument("--names", type=Path, help="JSON of names by label, for labelmaps without names")
    add_orientation(parser)


def _add_folder_arguments(parser: argparse.ArgumentParser) -> None:
    _add_source_arguments(parser)
    parser.add_argument("--window", default="", help="intensity window, level/width or a name")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")


def run_prepare(arguments: argparse.Namespace) -> int:
    """Prepare a folder and say which cases were rejected, and why."""
    from MedalSLib.training.prepare import PrepareOptions, prepare_cases
    from MedalSLib.training.recipe import load_recipe
    from MedalSLib.training.sources import find_sources

    sources = find_sources(
        arguments.source, arguments.modality, arguments.names, arguments.prompts, arguments.orientation
    )
    options = PrepareOptions(load_recipe(arguments.recipe).stage_spec(), arguments.window, workers=arguments.workers)
    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = prepare_cases(sources, arguments.output, options, partial(bar, "preparing"), cancel).report()
    _tell_cases(report)
    return _done(arguments, report, f"prepared {report['cases']} cases in {report['folder']}")


def run_to_nnunet(arguments: argparse.Namespace) -> int:
    """Write data sets of nnU-Net and say which cases were rejected, and why."""
    from MedalSLib.training.nnunet import write_nnunet
    from MedalSLib.training.prepared_folder import open_prepared
    from MedalSLib.training.sources import find_sources

    about = (arguments.modality, arguments.names, arguments.prompts, arguments.orientation)
    is_prepared = (arguments.source / "prepared.json").is_file()
    source = open_prepared(arguments.source) if is_prepared else find_sources(arguments.source, *about)
    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = write_nnunet(source, arguments.output, arguments.number, partial(bar, "writing"), cancel)
    _tell_cases(report)
    return _done(arguments, report, f"wrote {report['cases']} cases in {', '.join(report['folders'])}")


def run_train(arguments: argparse.Namespace) -> int:
    """Train, or measure what training would take."""
    from MedalSLib.training.dry_run import dry_run
    from MedalSLib.training.recipe import load_recipe
    from MedalSLib.training.train import TrainOptions, train

    with StepBar() as bar, cancel_on_interrupt() as cancel:
        if arguments.dry_run:
            report = dry_run(load_recipe(arguments.recipe), arguments.device, bar, cancel)
        else:
            report = train(options_from(TrainOptions, arguments), bar, cancel)
    if arguments.dry_run:
        note(report["summary"])
        print_json(report)
        return 0
    return _done(arguments, report, f"step {report['step']} of {report['total_steps']}; model: {report['model']}")


def run_fine_tune(arguments: argparse.Namespace) -> int:
    """Fine-tune and say how good the result is on the held-out cases."""
    from MedalSLib.training.fine_tune import FineTuneOptions, fine_tune

    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = fine_tune(options_from(FineTuneOptions, arguments), bar, cancel)
    if report:  # of several processes, the leading one reports
        _tell_cases(report)
        _tell_scores(report)
    return _done(arguments, report, f"use it with: --model {report.get('model', arguments.output / 'model')}")


def run_validate(arguments: argparse.Namespace) -> int:
    """Score a model and print Dice by structure."""
    from MedalSLib.training.scoring import ValidateOptions, validate

    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = validate(options_from(ValidateOptions, arguments), bar, cancel)
    if not arguments.json:
        for key, value in report["dice"].items():
            print(f"{key:<40}{value:8.4f}")
    return _done(arguments, report, f"mean Dice of {report['cases']} cases: {report['mean_dice']:.4f}")


def _tell_cases(report: dict[str, Any]) -> None:
    for case in report["rejected"]:
        note(f"rejected {case['case']}: {case['reason']}")
    for name, sentences in report["notes"].items():
        note(f"note: {name}: {' '.join(sentences)}")


def _tell_scores(report: dict[str, Any]) -> None:
    """Say how good each stage was on the held-out cases before and after, structure by structure."""
    held_out = report["held_out_cases"]
    note(f"held out of {report['cases']} cases: {', '.join(held_out)}")
    for stage, result in report["stages"].items():
        best, steps = result["best_step"], result["steps"]
        note(f"stage {stage}: best after {best} of {steps} steps; Dice on the held-out cases, before and after:")
        for key, after in result["held_out_dice"].items():
            before = result["held_out_dice_before"].get(key, 0.0)
            note(f"  {key.partition('_')[2]:<32}{before:>7.3f}{after:>7.3f}")
        if not best:
            note("  Training made it no better: try more steps, more cases or another learning rate.")


def _done(arguments: argparse.Namespace, report: dict[str, Any], sentence: str) -> int:
    if arguments.json:
        print_json(report)
    note(sentence)
    return 0
