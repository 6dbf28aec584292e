"""A figure of corrections: one curve for each kind of prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from MedalSLib.evaluation.figure import empty_figure

_CURVES = (("#6c757d", "--"), ("#e09f3e", "s-"), ("#c1121f", "o-"), ("#2a6f97", "^:"))


def draw_curves(
    rows: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    path: Path,
    scores: Sequence[str] = ("Dice", "Surface Dice"),
    whole: bool = True,
) -> None:
    """Draw scores over the rounds of correction as PNG.

    Args:
        rows: For each row of the figure (a case, or the mean over cases), by kind of prompt, each score before the
            first correction and after each.
        path: The PNG file.
        scores: Names of the scores, one for each column.
        whole: Show all of 0..1, else what the curves need.

    Raises:
        ResourceError: matplotlib is not installed.
    """
    figure = empty_figure(9, 0.8 + 2.8 * len(rows))
    panels = figure.subplots(len(rows), len(scores), sharex=True, squeeze=False)
    for line, (title, curves) in zip(panels, rows.items(), strict=True):
        for column, (panel, score) in enumerate(zip(line, scores, strict=True)):
            for (label, values), (color, style) in zip(curves.items(), _CURVES, strict=False):
                panel.plot(range(len(values[column])), values[column], style, color=color, label=label, markersize=5)
            if whole:
                panel.set_ylim(-0.02, 1.02)
            panel.grid(alpha=0.3)
            panel.set_title(f"{score}, {title}", fontsize=10)
    for panel in panels[-1]:
        panel.set_xlabel("corrections of each structure")
        panel.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=150, format="png")
