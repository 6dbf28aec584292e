"""The tables of the model card, made of scores: what is offered, how well it is found, and on how many patients.

`python -m tools.starter.card --scores OUT/scores.json --data PACKED --output CARD` writes `tables.md`
and `classes.json` (what the model may claim: `tools.starter.bundle --classes`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import write_json
from MedalSLib.records import read_json
from tools.starter.appearance import COUNT
from tools.starter.labels import starter_classes

_BAR = 0.70
_BARS = {
    "CT_Left parotid gland": 0.75, "CT_Right parotid gland": 0.75, "CT_Mandible": 0.80, "CT_Brainstem": 0.78,
    "CT_Spinal cord": 0.70, "CT_Larynx": 0.60, "CT_Left lung": 0.95, "CT_Right lung": 0.95, "CT_Liver": 0.92,
    "CT_Spleen": 0.90, "CT_Left kidney": 0.90, "CT_Right kidney": 0.90, "CT_Aorta": 0.84, "CT_Stomach": 0.65,
    "CT_Urinary bladder": 0.60, "CT_Inferior vena cava": 0.65, "MRI_Brain": 0.95, "Microscopy_Nuclei": 0.60,
}  # fmt: skip
"""What the mean of a structure's held-out scores must reach; `_BAR` for all others."""
_MIN_VOXELS = 30


def bar(key: str) -> float:
    """Return what the mean score of a structure ("CT_Liver") must reach to be offered."""
    return _BARS.get(key, _BAR)


def offered(means: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the structures whose mean score reaches their bar, in the order of `starter_classes`.

    Args:
        means: The entry "mean" of what `tools.starter.score` reports.
    """
    known = [f"{one.modality}_{one.name}" for one in starter_classes()]
    return [key for key in known if key in means and main_score(means[key]) >= bar(key)]


def main_score(scores: Mapping[str, Any]) -> float:
    """Return Dice, or F1 of separate objects."""
    return float(scores["dice"] if "dice" in scores else scores["f1"])


def patients(data: Path) -> dict[str, int]:
    """Return in how many packed volumes each structure ("CT_Liver") can be learned."""
    counts: dict[str, int] = {}
    for path in sorted(data.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            modality, trusted = str(file["modality"]), frozenset(file["trusted"].tolist())
            voxels = np.bincount(file["elements"].ravel(), minlength=COUNT)
        for known in starter_classes():
            if (
                known.modality == modality
                and known.name in trusted
                and voxels[list(known.elements)].sum() > _MIN_VOXELS
            ):
                key = f"{modality}_{known.name}"
                counts[key] = counts.get(key, 0) + 1
    return counts


def tables(report: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return two Markdown tables: means by structure, and every case.

    Args:
        report: What `tools.starter.score` reports.
        counts: Volumes that each structure was learned from.
    """
    may = set(offered(report["mean"]))
    lines = [
        "| structure | Dice | worst case | surface Dice (2 mm) | cases | bar | offered | volumes trained on |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, scores in sorted(report["mean"].items()):
        modality, _, name = key.partition("_")
        surface = f"{scores['surface dice']:.2f}" if "surface dice" in scores else ""
        kind = "" if "dice" in scores else " (F1)"
        lines.append(
            f"| {name} ({modality}) | {main_score(scores):.2f}{kind} | {scores['least']:.2f} | {surface} | "
            f"{scores['cases']} | {bar(key):.2f} | {'yes' if key in may else 'no'} | {counts.get(key, 0)} |"
        )
    lines += ["", "| case | structure | Dice | surface Dice (2 mm) |", "|---|---|---|---|"]
    for case, scores in report["cases"].items():
        for name, value in scores.get("dice", {}).items():
            lines.append(f"| {case} | {name} | {value:.2f} | {scores['surface dice'][name]:.2f} |")
        lines += [f"| {case} | {name} | {value:.2f} (F1) | |" for name, value in scores.get("f1", {}).items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the tables and the list; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the tables of the starter's model card.")
    parser.add_argument("--scores", type=Path, required=True, help="scores.json of tools.starter.score")
    parser.add_argument("--data", type=Path, required=True, help="folder of packed volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder for tables.md and classes.json")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = read_json(options.scores, "file of scores")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "tables.md").write_text(tables(report, patients(options.data)), encoding="utf-8")
    write_json(options.output / "classes.json", offered(report["mean"]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
