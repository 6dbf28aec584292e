"""`medals evaluate --interactive`: a simulated user corrects a model's results on labelled images."""

from __future__ import annotations

import argparse

from MedalSLib.cli.console import StepBar, cancel_on_interrupt, note, print_json
from MedalSLib.engine import open_engine
from MedalSLib.evaluation.cases import orientation_for
from tools.interactive.correction_rounds import Simulation
from tools.interactive.labelled_images import find_images, open_labelled
from tools.interactive.prompt_report import curves_table, evaluate_prompts


def run_interactive(arguments: argparse.Namespace) -> int:
    """Simulate, and print what came of it."""
    if arguments.images is None or arguments.seg is not None:
        arguments.refuse("--interactive segments images itself: give --images DIR, and no --seg")
    simulation = Simulation(arguments.rounds, arguments.correction, arguments.radius, arguments.tolerance)
    pairs = find_images(arguments.gt, arguments.images)
    orientation = orientation_for(pairs, arguments.orientation)
    images = (open_labelled(pair, orientation) for pair in pairs)
    with (
        StepBar() as bar,
        cancel_on_interrupt() as cancel,
        open_engine(arguments.model, arguments.device) as engine,
    ):
        report = evaluate_prompts(
            engine, images, simulation, arguments.out, overwrite=arguments.overwrite, on_step=bar, cancel=cancel
        )
    for case, names in report["left_out"].items():
        if names:
            note(f"medals: {case}: not known to the model or not there: {', '.join(names)}")
    if arguments.json:
        print_json(report)
    else:
        print(curves_table(report))  # noqa: T201
    return 0
