"""`medals predict`: the CVPR 2025 text-guided challenge's npz files in, npz files out."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from MedalSLib.cli.console import (
    Commands,
    ProgressBar,
    add_orientation,
    cancel_on_interrupt,
    complain,
    note,
    print_json,
)
from MedalSLib.errors import CancelledError, InputError, MedalSError, OutputError

if TYPE_CHECKING:
    import numpy as np


def add_commands(commands: Commands) -> None:
    """Add `medals predict` to the parser."""
    parser = commands.add_parser(
        "predict",
        help="run the challenge's npz files, with the published policy",
        description="Read every .npz of INPUTS (imgs, spacing, text_prompts) and write one with 'segs' to OUTPUTS, "
        "exactly as the published implementation decides sizes, stages and labels. Cases of the interactive track "
        "(clicks, prev_pred, or boxes without texts) are segmented from what was drawn.",
    )
    parser.add_argument("inputs", type=Path, metavar="INPUTS", help="folder with .npz cases, or one case")
    parser.add_argument("outputs", type=Path, metavar="OUTPUTS", help="folder for the results (made if missing)")
    parser.add_argument("--model", default="starter", help="installed model or folder (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random prompt blocks (default: %(default)s)")
    add_orientation(parser)
    parser.add_argument("--interactive", action="store_true",
                        help="take boxes for prompts where there are texts too")  # fmt: skip
    parser.add_argument("--empty", action="store_true",
                        help="write an all-zero labelmap for a case that fails, as the challenge wants")  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="skip cases whose result exists")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--json", action="store_true", help="print a JSON report")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run all cases; one that fails does not stop the others, and the exit code is that of the last failure."""
    from MedalSLib.engine.challenge_cases import predict_case
    from MedalSLib.engine.local import LocalEngine
    from MedalSLib.volume.challenge import ORIENTATION, read_challenge
    from MedalSLib.volume.files import check_not_input, check_output, output_folder
    from MedalSLib.volume.geometry import checked_orientation

    orientation = checked_orientation(ORIENTATION if arguments.orientation is None else arguments.orientation)
    cases = _cases(arguments.inputs)
    outputs = output_folder(arguments.outputs)
    reports: list[dict[str, object]] = []
    code = 0
    with (
        LocalEngine(arguments.model, arguments.device) as engine,
        cancel_on_interrupt() as cancel,
        closing(ProgressBar()) as progress,
    ):
        for number, path in enumerate(cases, start=1):
            target = outputs / path.name
            if arguments.resume and target.exists():
                reports.append({"case": path.name, "skipped": True})
                continue
            try:
                check_not_input(target, [path])
                check_output(target, arguments.overwrite)
                case = read_challenge(path, orientation=orientation)
                for warning in case.warnings:
                    note(f"note: {path.name}: {warning}")
                labels, report = predict_case(
                    engine, case, arguments.seed, progress, cancel, uses_drawings=arguments.interactive
                )
                if missing := report["not_known"]:
                    note(f"note: {path.name}: not known to the model, so left empty: {'; '.join(missing.values())}")
                for warning in report["warnings"]:
                    note(f"note: {path.name}: {warning}")
                _write_or_keep(target, labels, case.spacing, arguments.overwrite)
            except CancelledError:
                raise
            except MedalSError as error:
                complain(error)
                code = error.exit_code
                is_written = arguments.empty and _write_empty(path, target)
                reports.append({"case": path.name, "error": error.cause, "remedy": error.remedy, "empty": is_written})
                continue
            reports.append({"case": path.name, **report})
            note(f"{number}/{len(cases)} {path.name}: {report['seconds']:.1f} s")
    if arguments.json:
        print_json({"cases": reports})
    return code


def _write_empty(path: Path, target: Path) -> bool:
    """Write an all-zero labelmap for a case that failed, unless there is a result; returns whether it was written."""
    import numpy as np

    from MedalSLib.volume.challenge import challenge_shape, write_challenge_result

    if target.exists():
        return False
    try:
        write_challenge_result(target, np.zeros(challenge_shape(path), np.uint8))
    except MedalSError as error:
        complain(error)
        return False
    note(f"{path.name}: an empty result was written instead")
    return True


def _write_or_keep(target: Path, labels: np.ndarray, spacing: tuple[float, ...], overwrite: bool) -> None:
    """Write a result; if that fails, keep it in the temporary folder and say where."""
    from MedalSLib.volume.challenge import write_challenge_result

    try:
        write_challenge_result(target, labels, spacing=spacing, overwrite=overwrite)
    except OutputError as error:
        kept = Path(tempfile.mkdtemp(prefix="medals-")) / target.name
        try:
            write_challenge_result(kept, labels, spacing=spacing)
        except OutputError:  # the first reason is the one to tell
            raise error from None
        raise OutputError(error.cause, f"{error.remedy} The result was kept: {kept}.".strip()) from error


def _cases(inputs: Path) -> list[Path]:
    if inputs.is_file():
        return [inputs]
    cases = sorted(inputs.glob("*.npz")) if inputs.is_dir() else []
    if not cases:
        raise InputError(f"There are no .npz cases in {inputs}.", "Give the folder that holds the challenge's cases.")
    return cases
