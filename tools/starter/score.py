"""Scores of a model on the cases held out of the starter's training, through the engine that users have.

`python -m tools.starter.score --model FOLDER [--chest DIR] [--abdomen DIR] [--mr DIR] [--rounds 5 -o DIR]`

Prints the Dice of each structure by its name alone as JSON.  With `--rounds`, also simulates a user who corrects: Dice
and surface Dice after every round for text alone, masks alone and both, as a table, JSON and a figure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from MedalSLib.engine import open_engine
from MedalSLib.engine.interface import Engine
from MedalSLib.errors import InputError, MedalSError
from MedalSLib.evaluation.metrics import dice, mean
from tools.interactive.correction_rounds import Simulation
from tools.interactive.corrections import Kind
from tools.interactive.labelled_images import LabelledImage
from tools.interactive.prompt_report import curves_table, evaluate_prompts, known_truths, options_for
from tools.starter.held_out_cases import LARGE, abdomen_case, chest_case, labelled_cases, slicerio_data


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
    scores = {name: dice(image.truths[name], mask) for name, mask in masks.items()}
    large = [scores[name] for name in LARGE if name in scores]
    return {
        "dice": {name: round(value, 3) for name, value in scores.items()},
        "mean of large organs": round(mean(large), 3) if large else None,
        "on the other side": {name: round(share, 3) for name, share in on_the_other_side(masks, image.truths).items()},
        "seconds": round(time.perf_counter() - start, 1),
        "not known": sorted(image.truths.keys() - scores.keys()),
    }


def held_out_cases(chest: Path | None, abdomen: Path | None, mr: Path | None = None) -> list[LabelledImage]:
    """Read the held-out cases that are here.

    Args:
        chest: Data folder of slicerio, None to leave it out.
        abdomen: Folder with the AMOS case, None to leave it out.
        mr: Folder of labelled MR images, None to leave it out.

    Raises:
        InputError: There is none, or one is damaged.
    """
    cases = [read(folder) for read, folder in ((chest_case, chest), (abdomen_case, abdomen)) if folder is not None]
    cases += labelled_cases(mr, "MRI") if mr is not None else []
    if not cases:
        raise InputError("There is no case to score.", "Install slicerio, or give --chest, --abdomen or --mr.")
    return cases


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(description="Score a starter on held-out cases.")
    made.add_argument("--model", default="starter", help="name or folder (default: %(default)s)")
    made.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    made.add_argument("--chest", type=Path, default=slicerio_data(), help="data of slicerio (default: as installed)")
    made.add_argument("--abdomen", type=Path, help="folder with the challenge's AMOS case")
    made.add_argument("--mr", type=Path, help="folder of tools.starter.export_held_out: NAME.nii.gz with NAME.seg.nrrd")
    made.add_argument("--rounds", type=int, default=0, help="corrections to simulate (default: none)")
    made.add_argument("--correction", choices=get_args(Kind), default="slice", help="default: %(default)s")
    made.add_argument("--radius", type=float, default=4.0, help="of strokes and clicks in mm (default: %(default)s)")
    made.add_argument("-o", "--output", type=Path, help="folder for curves.csv, curves.json and curves.png")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Score a model; prints JSON and returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        cases = held_out_cases(options.chest, options.abdomen, options.mr)
        with open_engine(options.model, options.device) as engine:
            report: dict[str, Any] = {case.name: text_scores(case, engine) for case in cases}
            if options.rounds:
                simulation = Simulation(options.rounds, options.correction, options.radius)
                curves = evaluate_prompts(engine, cases, simulation, options.output, overwrite=True, on_step=_say)
                sys.stderr.write(curves_table(curves) + "\n")
                report["corrections"] = {key: curves[key] for key in ("mean", "simulation", "seconds", "files")}
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report, indent=1) + "\n")
    return 0


def _say(case: str, done: int, total: int, condition: str) -> None:
    sys.stderr.write(f"{case}: {condition}, correction {done} of {total}\n")


if __name__ == "__main__":
    raise SystemExit(main())
