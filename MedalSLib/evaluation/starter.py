"""Scores of a model folder on cases held out of the starter's training, through the same inference users get.

`python -m MedalSLib.training.starter_evaluate --model FOLDER --chest SLICERIO_DATA --abdomen CASES`

The chest is slicerio's CTChest4 (both lungs); the abdomen a challenge case whose x grows to the patient's left and y to
the front.  Neither was trained on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.inference.segment import RunOptions, segment_volume
from MedalSLib.network.bundle import Model, open_model
from MedalSLib.vocabulary import structures
from MedalSLib.volume.geometry import Grid, NetworkFrame, axial_grid
from MedalSLib.volume.windows import AS_IS, apply_window, group_by_window

ABDOMEN = {
    1: "Spleen", 2: "Right kidney", 3: "Left kidney", 4: "Gallbladder", 5: "Esophagus", 6: "Liver", 7: "Stomach",
    8: "Aorta", 9: "Inferior vena cava", 10: "Pancreas", 11: "Right adrenal gland", 12: "Left adrenal gland",
    13: "Duodenum", 14: "Urinary bladder", 15: "Prostate/uterus",
}  # fmt: skip
LARGE = ("Spleen", "Right kidney", "Left kidney", "Liver", "Stomach", "Aorta", "Urinary bladder")
"""What counts as a large organ of the abdominal case."""


@dataclass(frozen=True)
class Case:
    """A held-out case on the inside's axes.

    Attributes:
        name: Name.
        image: (D, H, W) in LPS orientation, Hounsfield units, or 0..255 with `window` "as is".
        spacing: (z, y, x) in mm.
        truth: Mask by published name.
        windowed: The image is 0..255 already.
    """

    name: str
    image: np.ndarray
    spacing: tuple[float, float, float]
    truth: dict[str, np.ndarray]
    windowed: bool


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Dice score of two masks, 1 if both are empty."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 1.0


def chest_case(folder: Path) -> Case:
    """Read CTChest4 and its two lungs from the data folder of the slicerio package."""
    import nrrd
    import slicerio

    image, header = nrrd.read(str(folder / "CTChest4.nrrd"))
    segmentation = slicerio.read_segmentation(str(folder / "Segmentation.seg.nrrd"))
    if segmentation["voxels"].shape != image.shape:
        raise InputError("The chest segmentation is on another grid than its image.")
    directions = np.asarray(header["space directions"], dtype=float)
    affine = np.eye(4)
    affine[:3, :3] = (directions * np.array([-1.0, -1.0, 1.0])).T  # LPS file, RAS affine
    frame = NetworkFrame(Grid(image.shape[::-1], affine))
    truth = {}
    for segment in segmentation["segments"]:
        for name in ("Left lung", "Right lung"):
            if segment["name"].lower() == name.lower():
                truth[name] = frame.to_network((segmentation["voxels"] == segment["labelValue"]).transpose(2, 1, 0))
    if len(truth) != 2:
        raise InputError(
            f"The chest segmentation names {[s['name'] for s in segmentation['segments']]}, not both lungs."
        )
    return Case("CTChest4", frame.to_network(image.transpose(2, 1, 0)), frame.spacing_dhw, truth, windowed=False)


def abdomen_case(folder: Path) -> Case:
    """Read the challenge case from a folder with `NAME.npz` and `NAME_gt.npz`."""
    truth_path = next(iter(sorted(folder.glob("*AMOS*_gt.npz"))), None)
    if truth_path is None:
        raise InputError(f"{folder} holds no abdominal case.")
    with np.load(truth_path.with_name(truth_path.name.replace("_gt", "")), allow_pickle=False) as file:
        image, spacing = file["imgs"], file["spacing"]
    with np.load(truth_path, allow_pickle=False) as file:
        labels = file["gts"]
    x, y, z = (float(value) for value in spacing)
    frame = NetworkFrame(axial_grid(image.shape, (z, y, x), "LAS"))
    labels = frame.to_network(labels)
    truth = {name: labels == number for number, name in ABDOMEN.items()}
    return Case("AMOS", frame.to_network(image), frame.spacing_dhw, truth, windowed=True)


def segment(case: Case, model: Model, options: RunOptions) -> dict[str, np.ndarray]:
    """Return the mask (D, H, W) of each structure of a case, from text alone, each in the window made for it."""
    known = {item.name: item for item in structures(modality="CT")}
    wanted = [known[name] for name in case.truth]
    groups = {AS_IS: tuple(wanted)} if case.windowed else group_by_window(wanted)
    masks: dict[str, np.ndarray] = {}
    for window, members in groups.items():
        image = apply_window(case.image, window)
        chosen = [known[member.name] for member in members]
        queries = model.encode([(item.name, "CT") for item in chosen])
        result = segment_volume(model, image, case.spacing, chosen, queries, options=options)
        masks |= {item.name: result.masks[item.key] for item in chosen}
    return masks


def score(case: Case, model: Model, options: RunOptions) -> dict[str, float]:
    """Return the Dice of each structure of a case."""
    masks = segment(case, model, options)
    return {name: dice(masks[name], truth) for name, truth in case.truth.items()}


def main(arguments: list[str] | None = None) -> int:
    """Score a model folder; prints JSON and returns the exit code."""
    parser = argparse.ArgumentParser(description="Score a starter on held-out cases.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--chest", type=Path, help="data folder of the slicerio package")
    parser.add_argument("--abdomen", type=Path, help="folder with the challenge case")
    parser.add_argument("--stages", choices=("both", "first"), default="both")
    options = parser.parse_args(arguments)
    model = open_model(options.model)
    run = RunOptions(stages=options.stages)
    results: dict[str, object] = {}
    for read, folder in ((chest_case, options.chest), (abdomen_case, options.abdomen)):
        if folder is None:
            continue
        case, start = read(folder), time.perf_counter()
        scores = score(case, model, run)
        large = [scores[name] for name in LARGE if name in scores]
        results[case.name] = {
            "dice": {name: round(value, 3) for name, value in scores.items()},
            "mean of large organs": round(float(np.mean(large)), 3) if large else None,
            "seconds": round(time.perf_counter() - start, 1),
        }
    sys.stdout.write(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
