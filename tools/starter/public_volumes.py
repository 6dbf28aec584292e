"""Packing the openly licensed volumes of `public_sources`: head-and-neck CTs, label maps of heads, cords, nuclei.

`python -m tools.starter.public_volumes --volumes FOLDER --output PACKED` adds them to the packed volumes of the
packages.  What is held out of training (`HELD_OUT`) is left out here already.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from MedalSLib.records import read_json
from tools.starter.anatomy import body_mask, fill_background
from tools.starter.labels import ELEMENTS
from tools.starter.pack import Packed, encode, read, resample
from tools.starter.packages import IN_THE_BRAIN

HELD_OUT_NUCLEI = "1137"
_NECK_ELEMENTS = {
    "Brainstem": "brainstem", "SpinalCord": "spinal_cord", "RightParotid": "parotid_right",
    "LeftParotid": "parotid_left", "Mandible": "mandible", "Larynx": "larynx", "Esophagus": "esophagus",
}  # fmt: skip
NECK_NAMES = {
    "Brainstem": "Brainstem", "SpinalCord": "Spinal cord", "RightParotid": "Right parotid gland",
    "LeftParotid": "Left parotid gland", "Mandible": "Mandible", "Larynx": "Larynx", "Esophagus": "Esophagus",
}  # fmt: skip
"""Published names, and two that the model brings itself, by the names of the head-and-neck set."""
_RUNNING_ON = ("SpinalCord", "Esophagus")
"""These run on beyond the last slice in which they were drawn."""
_LARGEST_CUT = 30
HEAD_SPACING = 1.5
_SIDED = {
    2: "cerebral_white_matter", 3: "cerebral_cortex", 4: "lateral_ventricle", 5: "inferior_lateral_ventricle",
    7: "cerebellum_white_matter", 8: "cerebellum_cortex", 10: "thalamus", 11: "caudate", 12: "putamen",
    13: "pallidum", 17: "hippocampus", 18: "amygdala", 26: "accumbens", 28: "ventral_dc",
}  # fmt: skip
_RIGHT = {2: 41, 3: 42, 4: 43, 5: 44, 7: 46, 8: 47, 10: 49, 11: 50, 12: 51, 13: 52, 17: 53, 18: 54, 26: 58, 28: 60}
_MIDDLE = {14: "third_ventricle", 15: "fourth_ventricle", 16: "brainstem", 24: "outer_csf"}
_LIKE = {
    25: 2,
    57: 41,
    30: 2,
    62: 41,
    31: 4,
    63: 43,
    72: 14,
    77: 2,
    85: 28,
    136: 3,
    137: 42,
    163: 3,
    164: 42,
} | dict.fromkeys(range(251, 256), 2)
"""Small ids of FreeSurfer (lesions, vessels, plexus, chiasm, corpus callosum) that join the tissue around them."""
_FIRST_OUTER, _OUTER = 500, 12


def head_elements(labels: np.ndarray) -> np.ndarray:
    """Return element numbers of a labelmap with FreeSurfer's ids; ids above 500 are tissue outside the brain."""
    table = np.zeros(max(int(labels.max()) + 1, 600), np.uint8)
    for number, name in _SIDED.items():
        single = name == "cerebral_cortex"
        table[number] = ELEMENTS[name if single else f"{name}_left"]
        table[_RIGHT[number]] = ELEMENTS[name if single else f"{name}_right"]
    for number, name in _MIDDLE.items():
        table[number] = ELEMENTS[name]
    for number, like in _LIKE.items():
        table[number] = table[like]
    outer = [number for number in np.unique(labels).tolist() if number > _FIRST_OUTER]
    for number in outer:
        table[number] = ELEMENTS[f"head_{number % _OUTER + 1}"]
    return table[labels]


def brain_names() -> list[str]:
    """Return the names of the structures that a labelled head can judge."""
    return ["Brain", "Brainstem", *sorted(IN_THE_BRAIN)]


def pack_necks(folder: Path, output: Path) -> Iterator[Path]:
    """Pack the head-and-neck CTs that may be trained on."""
    index = read_json(folder / "index.json", "index of the head-and-neck set")
    numbers = np.zeros(max(index["labels"].values()) + 1, np.uint8)
    for name, number in index["labels"].items():
        numbers[number] = ELEMENTS[_NECK_ELEMENTS[name]]
    for entry in index["volumes"]:
        if entry["role"] != "train":
            continue
        image, labels = (read(folder / f"{entry['name']}_{kind}.nii.gz") for kind in ("ct", "labels"))
        first = _first_complete(labels.array, [index["labels"][name] for name in _RUNNING_ON])
        hounsfield, elements = image.array[first:].astype(np.float32), numbers[labels.array[first:]]
        body = body_mask(hounsfield, "CT")
        fill_background(elements, hounsfield, body, "CT")
        trusted = [NECK_NAMES[name] for name in entry["contoured"]]
        packed = Packed(encode(hounsfield, "CT"), elements, image.spacing, "CT", trusted)
        yield packed.save(output, f"neck_{entry['name']}")


def _first_complete(labels: np.ndarray, running_on: list[int]) -> int:
    """Return the first slice from below in which every structure that runs on downwards was drawn."""
    first = 0
    for number in running_on:
        slices = np.flatnonzero((labels == number).any((1, 2)))
        if len(slices) and slices[0] <= _LARGEST_CUT:
            first = max(first, int(slices[0]))
    return first


def pack_heads(folder: Path, output: Path) -> Iterator[Path]:
    """Pack the label maps of whole heads, which have no image."""
    for path in sorted(folder.glob("*_labels.nii.gz")):
        labels = read(path)
        target = (HEAD_SPACING,) * 3
        elements = resample(head_elements(labels.array.astype(np.int64)), labels.spacing, target, 0)
        yield Packed(None, elements, target, "MRI", brain_names()).save(
            output, path.name.removesuffix("_labels.nii.gz")
        )


def pack_cords(folder: Path, output: Path) -> Iterator[Path]:
    """Pack the two crops of the cervical cord."""
    for name in ("t1", "t2"):
        image, labels = read(folder / f"{name}.nii.gz"), read(folder / f"{name}_labels.nii.gz")
        elements = np.where(labels.array > 0, ELEMENTS["spinal_cord"], 0).astype(np.uint8)
        intensities = image.array.astype(np.float32)
        fill_background(elements, intensities, np.ones(elements.shape, bool), "MRI")
        yield Packed(encode(intensities, "MRI"), elements, image.spacing, "MRI", ["Spinal cord"]).save(
            output, f"cord_{name}"
        )


def nuclei_elements(instances: np.ndarray) -> np.ndarray:
    """Return element numbers of separate nuclei: where two of them touch, neither, so that they stay apart."""
    touching = np.zeros(instances.shape, bool)
    for axis in range(3):
        ahead, behind = (np.moveaxis(instances, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        apart = (ahead != behind) & (ahead > 0) & (behind > 0)
        moved = np.moveaxis(touching, axis, 0)
        moved[1:] |= apart
        moved[:-1] |= apart
    elements = np.where(instances > 0, ELEMENTS["nucleus"], ELEMENTS["rest_1"]).astype(np.uint8)
    elements[touching] = ELEMENTS["nucleus_border"]
    return elements


def pack_nuclei(folder: Path, output: Path) -> Iterator[Path]:
    """Pack the volumes of nuclei that may be trained on."""
    for path in sorted(folder.glob("*.npz")):
        if path.stem == HELD_OUT_NUCLEI:
            continue
        with np.load(path, allow_pickle=False) as file:
            image, instances, spacing = file["imgs"], file["gts"], file["spacing_um_zyx"]
        relative = tuple(float(value) for value in spacing / spacing.min())
        yield Packed(image, nuclei_elements(instances), relative, "Microscopy", ["Nuclei"]).save(
            output, f"nuclei_{path.stem}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Pack every public volume that may be trained on; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pack the public training volumes of the bundled starter.")
    parser.add_argument("--volumes", type=Path, required=True, help="folder that tools.starter.public_sources filled")
    parser.add_argument("--output", type=Path, required=True, help="folder for the packed volumes")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    kinds = (
        ("openkbp", pack_necks), ("synthseg_heads", pack_heads), ("cervical_cord", pack_cords), ("nuclei", pack_nuclei),
    )  # fmt: skip
    for name, pack in kinds:
        count = sum(1 for _ in pack(options.volumes / name, options.output))
        sys.stderr.write(f"{name}: {count} volumes\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
