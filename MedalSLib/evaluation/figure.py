"""A figure of scores: one row a structure, one dot a case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from MedalSLib.errors import InputError, ResourceError

_MOST_ROWS = 60
_DOT, _MEAN = "#2a6f97", "#c1121f"


def draw_scores(scores: Sequence[tuple[str, str, float, float]], path: Path) -> None:
    """Draw Dice and surface Dice as PNG.

    Args:
        scores: (modality, structure, Dice, surface Dice) of each structure of each case; NaN where there is none.
        path: The PNG file.

    Raises:
        InputError: There is nothing to draw.
        ResourceError: matplotlib is not installed.
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for modality, structure, dsc, nsd in scores:
        if not math.isnan(dsc):
            groups.setdefault(f"{structure} ({modality})" if modality else structure, []).append((dsc, nsd))
    if not groups:
        raise InputError("There is no score to draw.", "Evaluate at least one structure that is in the truth.")
    ranked = sorted(groups, key=lambda name: sum(dsc for dsc, _ in groups[name]) / len(groups[name]))
    shown = ranked[-_MOST_ROWS:]
    figure = empty_figure(9, 1.4 + 0.28 * len(shown))
    panels = figure.subplots(1, 2, sharey=True)
    for column, (panel, title) in enumerate(zip(panels, ("Dice", "Surface Dice"), strict=True)):
        for row, name in enumerate(shown):
            values = [pair[column] for pair in groups[name] if not math.isnan(pair[column])]
            if not values:
                continue
            panel.plot(values, [row] * len(values), "o", color=_DOT, alpha=0.55, markersize=5)
            panel.plot([sum(values) / len(values)], [row], "|", color=_MEAN, markersize=14, markeredgewidth=2)
        panel.set_xlim(-0.02, 1.02)
        panel.set_ylim(-0.7, len(shown) - 0.3)
        panel.set_title(title)
        panel.grid(axis="x", alpha=0.3)
    panels[0].set_yticks(range(len(shown)), [f"{name}  n={len(groups[name])}" for name in shown], fontsize=8)
    hidden = f"; {len(ranked) - len(shown)} lower ones not shown" if len(ranked) > len(shown) else ""
    figure.supxlabel(f"dots: cases, bars: means{hidden}", fontsize=8)
    figure.savefig(path, dpi=150, format="png")


def empty_figure(width: float, height: float) -> Any:
    """Return an empty figure that needs no screen."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ResourceError("The figure needs matplotlib.", "Install it with: pip install 'medals[engine]'.") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
