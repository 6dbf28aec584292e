"""Scores of a model on the cases held out of the starter's training, through the engine that users have.

`python -m tools.starter.score --volumes VOLUMES --abdomen CASES --mr MR [--model FOLDER | --run RUN] [-o OUT]`

Prints Dice and surface Dice of each structure of each case by its name alone, and their means, as JSON; of nuclei the
F1 of their detection.  `--run` scores the last checkpoint of a run that is still going on.  With `--rounds`, also
simulates a user who corrects: Dice and surface Dice after every round for text alone, masks alone and both.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import InputError, MedalSError
from MedalSLib.evaluation.metrics import dice, instance_scores, mean, surface_dice
from MedalSLib.volume import NetworkFrame
from tools.interactive.correction_rounds import Simulation
from tools.interactive.corrections import Kind
from tools.interactive.labelled_images import LabelledImage
from tools.interactive.prompt_report import curves_table, evaluate_prompts, known_truths, options_for
from tools.starter.bundle import Bundling, write_starter
from tools.starter.held_out_cases import (
    LARGE,
    abdomen_case,
    chest_case,
    head_case,
    labelled_cases,
    neck_cases,
    nuclei_case,
    slicerio_data,
)


def found(image: LabelledImage, engine: Engine) -> dict[str, np.ndarray]:
    """Return the masks (K, J, I) of each structure of a case that the model knows, by its name alone."""
    truths = known_truths(image, engine.info().classes)
    if not truths:
        return {}
    with engine.open_session(image.array_kji, image.grid.affine_ras, image.modality) as session:
        masks = session.segment(list(truths), options=options_for(image)).masks
    return {name: masks[name] for name in truths}


def on_the_other_side(masks: Mapping[str, np.ndarray], truths: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the share of each paired structure's mask that lies in its counterpart: 0 unless sides are mixed up."""
    shares = {}
    for name, mask in masks.items():
        for side, other in (("Left ", "Right "), ("Right ", "Left ")):
            if name.startswith(side) and (twin := truths.get(other + name.removeprefix(side))) is not None:
                shares[name] = int(np.count_nonzero(mask & twin)) / max(1, int(np.count_nonzero(mask)))
    return shares


def text_scores(image: LabelledImage, engine: Engine) -> dict[str, Any]:
    """Return what the model's manifest keeps of a case: Dice by structure, the mean of large organs, and seconds."""
    start = time.perf_counter()
    masks = found(image, engine)
    seconds = round(time.perf_counter() - start, 1)
    if image.modality == "Microscopy":
        f1 = {name: instance_scores(image.truths[name], mask)["f1"] for name, mask in masks.items()}
        return {"f1": {name: round(value, 3) for name, value in f1.items()}, "seconds": seconds}
    spacing = NetworkFrame(image.grid).spacing_dhw
    turned = NetworkFrame(image.grid).to_network
    scores = {name: dice(image.truths[name], mask) for name, mask in masks.items()}
    surface = {name: surface_dice(turned(image.truths[name]), turned(mask), spacing) for name, mask in masks.items()}
    large = [scores[name] for name in LARGE if name in scores]
    return {
        "dice": {name: round(value, 3) for name, value in scores.items()},
        "surface dice": {name: round(value, 3) for name, value in surface.items()},
        "mean of large organs": round(mean(large), 3) if large else None,
        "on the other side": {name: round(share, 3) for name, share in on_the_other_side(masks, image.truths).items()},
        "seconds": seconds,
        "not known": sorted(image.truths.keys() - scores.keys()),
    }


def means(report: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the mean of each structure's scores over the cases that have it, with their number and the least."""
    rows: dict[str, dict[str, list[float]]] = {}
    for scores in report.values():
        for kind in ("dice", "surface dice", "f1"):
            for name, value in scores.get(kind, {}).items():
                rows.setdefault(f"{scores['modality']}_{name}", {}).setdefault(kind, []).append(value)
    return {
        key: {kind: round(mean(values), 3) for kind, values in kinds.items()}
        | {"cases": len(next(iter(kinds.values()))), "least": min(next(iter(kinds.values())))}
        for key, kinds in rows.items()
    }


def held_out_cases(options: argparse.Namespace) -> list[LabelledImage]:
    """Read the held-out cases that the command line names.

    Raises:
        InputError: There is none, or one is damaged.
    """
    cases = [chest_case(options.chest)] if options.chest else []
    cases += [abdomen_case(options.abdomen)] if options.abdomen else []
    if options.volumes:
        cases += [*neck_cases(options.volumes / "openkbp"), head_case(options.volumes / "t1_head")]
        cases.append(nuclei_case(options.volumes / "nuclei"))
    cases += labelled_cases(options.mr, "MRI") if options.mr else []
    if options.only:
        cases = [case for case in cases if case.name in options.only]
    if not cases:
        raise InputError("There is no case to score.", "Install slicerio, or give --volumes, --abdomen or --mr.")
    return cases


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description="Score a starter on held-out cases.")
    made.add_argument("--model", default="starter", help="name or folder (default: %(default)s)")
    made.add_argument("--run", type=Path, help="score the last checkpoint of this run of tools.starter.train instead")
    made.add_argument("--volumes", type=Path, help="folder of the public volumes (tools.starter.public_sources)")
    made.add_argument("--patch", type=int, nargs=3, metavar="N", help="of --run: patch H W D (default: the recipe's)")
    made.add_argument("--only", nargs="*", default=[], help="names of single cases")
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    made.add_argument("--chest", type=Path, default=slicerio_data(), help="data of slicerio (default: as installed)")
    made.add_argument("--abdomen", type=Path, help="folder with the challenge's AMOS case")
    made.add_argument("--mr", type=Path, help="folder of tools.starter.export_held_out: NAME.nii.gz with NAME.seg.nrrd")
    made.add_argument("--rounds", type=int, default=0, help="corrections to simulate (default: none)")
    made.add_argument("--correction", choices=get_args(Kind), default="slice", help="default: %(default)s")
    made.add_argument("--radius", type=float, default=4.0, help="of strokes and clicks in mm (default: %(default)s)")
    made.add_argument("-o", "--output", type=Path, help="folder for scores.json, and with --rounds curves.*")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Score a model; prints JSON and returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        cases = held_out_cases(options)
        with tempfile.TemporaryDirectory() as folder:
            bundling = Bundling(patch=tuple(options.patch) if options.patch else None)
            model = (
                options.model if options.run is None else write_starter(options.run, Path(folder) / "model", bundling)
            )
            report = score(cases, str(model), options)
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    text = json.dumps(report, indent=1)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "scores.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


def score(cases: Sequence[LabelledImage], model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the scores of a model, by case, and their means.

    Args:
        cases: The cases.
        model: Name or folder of the model.
        options: Command line.
    """
    with open_engine(model, options.device) as engine:
        scored: dict[str, Any] = {}
        for case in cases:
            scored[case.name] = {"modality": case.modality} | text_scores(case, engine)
            _say(case.name, len(scored), len(cases), "scored by name")
        report: dict[str, Any] = {"cases": scored, "mean": means(scored)}
        if options.rounds:
            labelled = [case for case in cases if case.modality != "Microscopy"]
            simulation = Simulation(options.rounds, options.correction, options.radius)
            curves = evaluate_prompts(engine, labelled, simulation, options.output, overwrite=True, on_step=_say)
            sys.stderr.write(curves_table(curves) + "\n")
            report["corrections"] = {key: curves[key] for key in ("mean", "simulation", "seconds", "files")}
    return report


def _say(case: str, done: int, total: int, condition: str) -> None:
    sys.stderr.write(f"{case}: {condition}, {done} of {total}\n")


if __name__ == "__main__":
    raise SystemExit(main())
