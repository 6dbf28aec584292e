"""`medals evaluate`: the challenge's scores for folders of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from MedalSLib.cli.console import Commands, StepBar, cancel_on_interrupt, note, print_json


def add_commands(commands: Commands) -> None:
    """Add `medals evaluate` to the parser."""
    parser = commands.add_parser(
        "evaluate",
        help="score segmentations against ground truths (DSC, NSD, F1)",
        description="Score results against truths of the same file names: Dice and surface Dice of each structure, F1 "
        "of instances. A missing result counts as empty.",
    )
    parser.add_argument("--gt", type=Path, required=True, metavar="DIR", help="folder of truths, or one file")
    parser.add_argument("--seg", type=Path, required=True, metavar="DIR", help="folder of results, or one file")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of images, whose prompts say what counts")
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
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score and print; exit code 3 if a case could not be read."""
    from MedalSLib.evaluation.commands import evaluate, summary_table

    with StepBar() as bar, cancel_on_interrupt() as cancel:
        report = evaluate(
            arguments.gt,
            arguments.seg,
            arguments.images,
            arguments.out,
            tolerance_mm=arguments.tolerance,
            spacing_order=arguments.spacing_order,
            iou=arguments.iou,
            overwrite=arguments.overwrite,
            on_progress=bar,
            cancel=cancel,
        )
    for case in report["failed"]:
        note(f"medals: {case['case']} was not scored: {case['reason']}")
    if arguments.json:
        print_json(report)
    else:
        print(summary_table(report))
    return 3 if report["failed"] else 0
