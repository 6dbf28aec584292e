"""What `medals evaluate` does, with plain arguments and a JSON-ready report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from MedalSLib.evaluation.folder import evaluate_folder
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


def summary_table(report: dict[str, Any]) -> str:
    """Return a report's summary as text for a terminal."""
    lines = [f"{'modality':<11}{'structure':<38}{'cases':>6}{'DSC':>8}{'NSD':>8}{'F1':>8}"]
    for row in report["summary"]:
        numbers = "".join(f"{'-' if row[key] is None else format(row[key], '.4f'):>8}" for key in ("dsc", "nsd", "f1"))
        name = row["structure"] if row["kind"] == "semantic" else f"{row['structure']} (instances)"
        lines.append(f"{row['modality'] or '-':<11}{name:<38.38}{row['cases']:>6}{numbers}")
    return "\n".join(lines)
