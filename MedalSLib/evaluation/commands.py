"""What `medals evaluate` does, with plain arguments and a JSON-ready report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedalSLib.engine import open_engine
from MedalSLib.evaluation.cases import find_images, open_labelled
from MedalSLib.evaluation.folder import evaluate_folder
from MedalSLib.evaluation.interactive_case import Simulation
from MedalSLib.evaluation.interactive_report import evaluate_prompts
from MedalSLib.evaluation.metrics import SpacingOrder

OnProgress = Callable[[str, int, int, str], None]
"""Called as `(what is being done, done, in all, details)`."""


def evaluate(
    gt: str | Path,
    seg: str | Path,
    images: str | Path | None = None,
    out: str | Path | None = None,
    *,
    tolerance_mm: float = 2.0,
    spacing_order: SpacingOrder = "correct",
    iou: float = 0.5,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Score results against truths; see `folder.evaluate_folder` for arguments, report and errors."""
    return evaluate_folder(
        gt,
        seg,
        images,
        out,
        tolerance_mm=tolerance_mm,
        spacing_order=spacing_order,
        iou=iou,
        overwrite=overwrite,
        on_case=(lambda done, total, name: on_progress("evaluating", done, total, name)) if on_progress else None,
        cancel=cancel,
    )


def evaluate_interactive(
    gt: str | Path,
    images: str | Path,
    out: str | Path | None = None,
    *,
    model: str = "starter",
    device: str = "auto",
    simulation: Simulation | None = None,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
    cancel: threading.Event | None = None,
) -> dict[str, Any]:
    """Let a simulated user correct a model's results: text, masks and both, with the scores after every correction.

    Args:
        gt: Folder of true segmentations whose segments have names, or one file.
        images: Folder of images of the same names, or one file.
        out: Folder for `curves.csv`, `curves.json` and `curves.png`; None to write nothing.
        model: As of `open_engine`.
        device: As of `open_engine`.
        simulation: How the user is simulated.
        overwrite: Replace the files of an earlier evaluation.
        on_progress: Progress.
        cancel: Set it to stop.

    Returns:
        See `interactive_report.evaluate_prompts`.

    Raises:
        InputError: There is no image with a truth, or the model knows none of the structures.
        ModelError: The model cannot be opened.
        OutputError: The files exist already or cannot be written.
        CancelledError: `cancel` was set.
    """
    pairs = find_images(Path(gt), Path(images))
    with open_engine(model, device) as engine:
        return evaluate_prompts(
            engine,
            map(open_labelled, pairs),
            simulation or Simulation(),
            Path(out) if out else None,
            overwrite=overwrite,
            on_step=on_progress,
            cancel=cancel,
        )


def summary_table(report: dict[str, Any]) -> str:
    """Return a report's summary as text for a terminal."""
    lines = [f"{'modality':<11}{'structure':<38}{'cases':>6}{'DSC':>8}{'NSD':>8}{'F1':>8}"]
    for row in report["summary"]:
        numbers = "".join(f"{'-' if row[key] is None else format(row[key], '.4f'):>8}" for key in ("dsc", "nsd", "f1"))
        name = row["structure"] if row["kind"] == "semantic" else f"{row['structure']} (instances)"
        lines.append(f"{row['modality'] or '-':<11}{name:<38.38}{row['cases']:>6}{numbers}")
    return "\n".join(lines)
