"""The model card, made of scores and of a run: what is offered, how well it is found, and what it was trained on.

`python -m tools.starter.card --run RUN --scores OUT/scores.json --data PACKED --output CARD` writes what
`tools.starter.bundle` takes: `classes.json` (what the model may claim: `bars`), `scores.json` (theirs, case by case)
and `card.md` (the text of `card.md` here, filled in), with the learning curve `curve.png`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from MedalSLib.atomic_files import write_json
from MedalSLib.errors import MedalSError
from MedalSLib.network.manifest import read_manifest
from MedalSLib.network.registry import find_folder
from MedalSLib.records import read_json
from MedalSLib.training.export import inference_network
from MedalSLib.training.recipe import Recipe
from MedalSLib.training.run_folder import RunFolder
from tools.starter import score
from tools.starter.appearance import COUNT
from tools.starter.bars import bar, main_score, offered
from tools.starter.bundle import trained_model, used_sources
from tools.starter.data_source import SynthesisSettings
from tools.starter.gpu_run import draw_curve
from tools.starter.labels import starter_classes
from tools.starter.public_sources import PUBLIC_SOURCES

_MIN_VOXELS = 30
_TEMPLATE = Path(__file__).with_suffix(".md")
_MODALITIES = {"CT": "CT", "MRI": "MR", "Microscopy": "microscopy"}
_RENAMED = {"head_mr_2": "Colin27"}
"""The name of a case by that of its file, where it has a better one."""


@dataclass(frozen=True)
class _Case:
    """How a held-out case lies, and its image and truth as files; segment is told the options."""

    orientation: str
    image: str
    truth: str
    options: str = ""


_CASES = {
    "AMOS": _Case("LAS, not in the file", "CT_AMOS_amos_0018.npz", "CT_AMOS_amos_0018_gt.npz", " --orientation LAS"),
    "CTChest4": _Case("RAS, in the file", "CTChest4.nrrd", "Segmentation.seg.nrrd"),
    "Colin27": _Case("LPS, in the file", "head_mr_2.nii.gz", "head_mr_2.seg.nrrd", " --modality MR"),
    "T1 head": _Case("RAS, in the file", "t1_head.nii.gz", "t1_head.seg.nrrd", " --modality MR"),
    "pt_319": _Case("RAS, in the file", "pt_319.nii.gz", "pt_319.seg.nrrd", " --modality CT"),
}
_NECK = "RAS, in the file"
_NUCLEI = "none: microscopy"


def patients(data: Path, patterns: Sequence[str] = ("*",)) -> dict[str, int]:
    """Return in how many packed volumes each structure ("CT_Liver") can be learned.

    Args:
        data: Folder of packed volumes.
        patterns: Names of those that are trained on.
    """
    counts: dict[str, int] = {}
    for path in sorted(data.glob("*.npz")):
        if not any(fnmatch(path.stem, pattern) for pattern in patterns):
            continue
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


def joined(reports: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one report of several that `tools.starter.score` made of different cases."""
    cases = {case: scores for report in reports for case, scores in report["cases"].items()}
    joined_up: dict[str, Any] = {"cases": cases, "mean": score.means(cases)}
    for report in reports:
        if "corrections" in report:
            joined_up["corrections"] = report["corrections"]
    return joined_up


def manifest_scores(report: Mapping[str, Any], classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return what the manifest keeps: the scores of what is offered, case by case.

    Args:
        report: What `tools.starter.score` reports.
        classes: What is offered.
    """
    kept: dict[str, dict[str, Any]] = {}
    for case, scores in report["cases"].items():
        found = {
            kind: {name: value for name, value in scores[kind].items() if f"{scores['modality']}_{name}" in classes}
            for kind in ("dice", "surface dice", "f1", "on the other side")
            if kind in scores
        }
        if found.get("dice") or found.get("f1"):
            kept[_RENAMED.get(case, case)] = {"modality": scores["modality"]} | found
    return kept


def means_table(
    means: Mapping[str, Mapping[str, Any]], classes: Sequence[str], counts: Mapping[str, int], one: float | None = None
) -> str:
    """Return the Markdown table of what is offered: means over the held-out cases.

    Args:
        means: The entry "mean" of the report.
        classes: What is offered.
        counts: Volumes that each structure was learned from.
        one: As of `bar`.
    """
    lines = [
        "| structure | mean Dice | least | surface Dice | cases | bar | volumes trained on |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in classes:
        scores = means[key]
        surface = f"{scores['surface dice']:.2f}" if "surface dice" in scores else ""
        kind = "" if "dice" in scores else " (F1)"
        lines.append(
            f"| {_named(key)} | {main_score(scores):.2f}{kind} | {scores['least']:.2f} | {surface} | "
            f"{scores['cases']} | {bar(key, one):.2f} | {counts.get(key, 0)} |"
        )
    return "\n".join(lines)


def cases_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the Markdown table of every case of the manifest's scores."""
    lines = ["| structure | case | orientation | surface Dice | Dice |", "|---|---|---|---|---|"]
    for case, found in scores.items():
        modality = found["modality"]
        for name, value in found.get("dice", {}).items():
            surface = found["surface dice"][name]
            lies = _CASES[case].orientation if case in _CASES else _NECK
            lines.append(f"| {_named(f'{modality}_{name}')} | {case} | {lies} | {surface:.2f} | {value:.2f} |")
        for name, value in found.get("f1", {}).items():
            lines.append(f"| {_named(f'{modality}_{name}')} | {case} | {_NUCLEI} | | {value:.2f} (F1) |")
    return "\n".join(lines)


def commands(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the commands that give the Dice of single cases."""
    lines = []
    for case, files in _CASES.items():
        if found := scores.get(case, {}).get("dice"):
            kind = "npz" if files.image.endswith(".npz") else "seg.nrrd"
            result = f"{case.replace(' ', '_').casefold()}_found.{kind}"
            images = f" --images {files.image}" if files.image.endswith(".npz") else ""
            names = ", ".join(found).casefold()
            lines.append(f'medals segment {files.image}{files.options} --text "{names}" -o {result}')
            lines.append(f"medals evaluate --gt {files.truth} --seg {result}{images}")
    return "\n".join(lines)


def training_table(settings: SynthesisSettings) -> str:
    """Return the Markdown table of what a recipe trains on, with licences."""
    packages, public = used_sources(settings)
    by_package: dict[tuple[str, str], list[str]] = {}
    for source in packages:
        by_package.setdefault((source.requirement.split()[-1].replace("==", " "), source.licence), []).append(
            source.name
        )
    lines = ["| source | licence | trained on | held out |", "|---|---|---|---|"]
    lines += [f"| {what} | {licence} | {', '.join(names)} | |" for (what, licence), names in by_package.items()]
    lines += [
        f"| {one.repository} `{one.commit}` | {one.licence} | {one.what if one.packed else ''} | {one.held_out} |"
        for one in (*public, *(one for one in PUBLIC_SOURCES if not one.packed and public))
    ]
    return "\n".join(lines)


def card(run: Path, report: Mapping[str, Any], data: Path, one: float | None = None) -> str:
    """Return the model card.

    Args:
        run: Folder of the run.
        report: What `tools.starter.score` reports.
        data: Folder of packed volumes.
        one: As of `bar`.
    """
    classes = offered(report["mean"], one)
    model, recipe = trained_model(run)
    settings = SynthesisSettings.of(recipe)
    assert model.encoder is not None
    parameters = sum(p.numel() for part in (inference_network(model.network), model.encoder) for p in part.parameters())
    counts = patients(data, tuple(settings.weights or ("*",)))
    scores = manifest_scores(report, classes)
    packages, public = used_sources(settings)
    state = RunFolder(run).load()
    assert state is not None  # `trained_model` has read it
    step = state["step"]
    entries = [entry for entry in RunFolder(run).entries() if entry["step"] <= step]  # the log is ahead of it
    told = {
        "parameters": f"{parameters / 1e6:.1f}",
        "size": f"{2 * parameters / 2**20:.1f}",  # half precision
        "steps": str(step),
        "hours": f"{_hours(entries):.0f}",
        "volumes": str(len(packages) + sum(one.volumes for one in public)),
        "count": str(len(classes)),
        "offered": _offered(classes),
        "means": means_table(report["mean"], classes, counts, one),
        "below": _below(report["mean"], classes, one),
        "sides": _sides(scores),
        "commands": commands(scores),
        "unscored": _unscored(recipe, report["mean"]),
        "corrections": _corrections(report),
        "training": training_table(settings),
        "cases": cases_table(scores),
    }
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(told)


def lost(classes: Sequence[str], older: str = "starter") -> list[str]:
    """Return what an installed model offers and the new one would not."""
    return [key for key in read_manifest(find_folder(older)).classes if key not in classes]


def _named(key: str) -> str:
    modality, _, name = key.partition("_")
    return f"{name} ({_MODALITIES[modality]})"


def _offered(classes: Sequence[str]) -> str:
    lines = []
    for modality, words in _MODALITIES.items():
        names = [key.partition("_")[2] for key in classes if key.startswith(f"{modality}_")]
        if names:
            lines.append(f"- In {words}: {', '.join(names).lower()}.")
    return "\n".join(lines)


def _below(means: Mapping[str, Mapping[str, Any]], classes: Sequence[str], one: float | None) -> str:
    """Return a sentence on what was taught, scored, and is not offered."""
    rest = [
        f"{_named(key)} {main_score(scores):.2f} (bar {bar(key, one):.2f})"
        for key, scores in means.items()
        if key not in classes
    ]
    return f"Below the bar, and therefore not offered: {', '.join(rest) or 'nothing'}."


def _sides(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on how much of a paired structure lies on the other side."""
    shares = [
        (share, name, case)
        for case, found in scores.items()
        for name, share in found.get("on the other side", {}).items()
    ]
    if not shares or not any(share for share, _, _ in shares):
        return "Left and right were never mixed up."
    share, name, case = max(shares)
    return (
        f"Of a paired structure at most {100 * share:.1f} % lay in the one on the other side ({name.lower()}, {case})."
    )


def _unscored(recipe: Recipe, means: Mapping[str, Any]) -> str:
    """Return a sentence on what was taught and could not be scored."""
    taught = [f"{one.modality}_{one.name}" for one in SynthesisSettings.of(recipe).classes()]
    rest = [_named(key) for key in taught if key not in means]
    return (
        f"It was also taught {', '.join(rest).lower().replace('(mr)', '(MR)').replace('(ct)', '(CT)')}. "
        "No held-out scan has them labelled, so it does not offer them."
        if rest
        else "Everything it was taught was scored."
    )


def _corrections(report: Mapping[str, Any]) -> str:
    """Return a table of mean Dice by number of simulated corrections."""
    if "corrections" not in report:
        return "Not measured for this version."
    curves, rounds = report["corrections"]["mean"], report["corrections"]["simulation"]["rounds"]
    lines = [
        "Simulated corrections, mean Dice (each paints the whole error of the worst slice of each structure):",
        "",
        "| corrections |" + "".join(f" {number} |" for number in range(rounds + 1)),
        "|---" * (rounds + 2) + "|",
    ]
    lines += [f"| {what} |" + "".join(f" {dsc:.3f} |" for dsc in curve["dsc"]) for what, curve in curves.items()]
    return "\n".join(lines)


def _hours(entries: Sequence[Mapping[str, Any]]) -> float:
    """Return the time of a run by its log, whose lines tell how long one step took."""
    steps = [0, *(entry["step"] for entry in entries)]
    each = (entry["seconds"] * (step - before) for entry, before, step in zip(entries, steps, steps[1:], strict=False))
    return sum(each) / 3600.0


def main(arguments: list[str] | None = None) -> int:
    """Write card, list, scores and curve; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the starter's model card.")
    parser.add_argument("--run", type=Path, required=True, help="folder that tools.starter.train wrote")
    parser.add_argument(
        "--scores",
        type=Path,
        nargs="+",
        required=True,
        help="scores.json of tools.starter.score; parts too",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of packed volumes")
    parser.add_argument("--output", type=Path, required=True, help="folder for what tools.starter.bundle takes")
    parser.add_argument("--bar", type=float, help="one bar for all structures (default: those of tools.starter.bars)")
    options = parser.parse_args(arguments)
    try:
        report = joined([read_json(path, "file of scores") for path in options.scores])
        classes = offered(report["mean"], options.bar)
        text = card(options.run, report, options.data, options.bar)
        if gone := lost(classes):
            sys.stderr.write(f"Offered by the present starter and not by this one: {', '.join(gone)}\n")
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "card.md").write_text(text, encoding="utf-8")
        write_json(options.output / "classes.json", classes)
        write_json(options.output / "scores.json", manifest_scores(report, classes))
        draw_curve(options.run, options.output / "curve.png")
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
