"""The curve of a training run: loss and held-out Dice by step, drawn anew after every check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from MedalSLib.atomic_files import replacing

CURVE = "curve.png"
_DICE = "dice/"


def draw_curve(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw a run's log as PNG; without matplotlib nothing is drawn.

    Args:
        entries: Lines of the log.
        path: The file, replaced as a whole.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return
    steps = [entry for entry in entries if "loss" in entry]
    checks = [entry for entry in entries if "held_out_dice" in entry]
    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    scores, losses = figure.subplots(1, 2)
    for key in sorted({key for entry in checks for key in entry if key.startswith(_DICE)}):
        known = [(entry["step"], entry[key]) for entry in checks if key in entry]
        scores.plot(*zip(*known, strict=True), linewidth=1, label=key.removeprefix(_DICE))
    scores.plot([e["step"] for e in checks], [e["held_out_dice"] for e in checks], "k", linewidth=2.5, label="mean")
    losses.plot([entry["step"] for entry in steps], [entry["loss"] for entry in steps], linewidth=1)
    scores.set(title="Dice on the held-out cases", xlabel="step", ylim=(0, 1))
    losses.set(title="Loss in training", xlabel="step")
    scores.legend(fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
