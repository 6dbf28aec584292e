"""`medals evaluate`: the challenge's scores for folders of results, and what corrections make of a model's own."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from MedalSLib.cli.console import Commands, StepBar, add_orientation, cancel_on_interrupt, find_tools, note, print_json


def add_commands(commands: Commands) -> None:
    """Add `medals evaluate` to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="score segmentations against ground truths (DSC, NSD, F1)",
        description="Score results against truths of the same file names: Dice and surface Dice of each structure, F1 "
        "of instances. A missing result counts as empty. With --interactive there are no results to read: a model "
        "segments the images, and a simulated user corrects it round by round.",
    )
    parser.add_argument("--gt", type=Path, required=True, metavar="DIR", help="folder of truths, or one file")
    parser.add_argument("--seg", type=Path, metavar="DIR", help="folder of results, or one file")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images, whose prompts say what counts")
    parser.add_argument("--names", metavar="NAMES", help='of labels in files without names: "1=liver,2=spleen", or a '
                        "file (JSON, CSV, dataset.json)")  # fmt: skip
    add_orientation(parser)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="also write tables (CSV, JSON) and a figure here")
    parser.add_argument("--tolerance", type=float, default=2.0, help="of the surface Dice in mm (default: %(default)s)")
    parser.add_argument("--iou", type=float, default=0.5, help="from which an instance is found (default: %(default)s)")
    parser.add_argument(
        "--spacing-order",
        choices=["correct", "published"],
        default="correct",
        help="published: with the spacing's axes reversed, as the challenge computed NSD",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    _add_interactive(parser)
    parser.set_defaults(run=run, refuse=parser.error)


def _add_interactive(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("interactive", "text only, masks only and both, with --images and a model")
    group.add_argument("--interactive", action="store_true", help="simulate a user who corrects the largest errors")
    group.add_argument("--model", default="starter", help="name, folder or address (default: %(default)s)")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    group.add_argument("--rounds", type=int, default=5, help="corrections of each structure (default: %(default)s)")
    group.add_argument("--correction", choices=["slice", "stroke", "click"], default="slice",
                       help="what is painted of an error (default: all of it in a slice)")  # fmt: skip
    group.add_argument("--radius", type=float, default=4.0, help="of strokes and clicks in mm (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Score and print; exit code 3 if a case could not be read."""
    if arguments.interactive:
        find_tools("the simulated user")
        from tools.interactive.command import run_interactive

        return run_interactive(arguments)
    if arguments.seg is None:
        arguments.refuse("give --seg DIR, or --interactive with --images DIR")
    from MedalSLib.evaluation.folder import evaluate_folder, summary_table
    from MedalSLib.volume.segment_names import read_names

    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = evaluate_folder(
            arguments.gt,
            arguments.seg,
            arguments.images,
            arguments.out,
            tolerance_mm=arguments.tolerance,
            spacing_order=arguments.spacing_order,
            iou=arguments.iou,
            overwrite=arguments.overwrite,
            names=read_names(arguments.names) if arguments.names else None,
            orientation=arguments.orientation,
            on_case=partial(bar, "evaluating"),
            cancel=cancel,
        )
    for name, said in report["notes"].items():
        note(f"note: {name}: {said}")
    for case in report["failed"]:
        note(f"medals: {case['case']} was not scored: {case['reason']}")
    if arguments.json:
        print_json(report)
    else:
        print(summary_table(report))
    return 3 if report["failed"] else 0
