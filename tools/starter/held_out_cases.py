"""The cases held out of the starter's training.

slicerio's chest CT, the challenge's abdominal CT, and of the public volumes (`tools.starter.public_sources`) the
head-and-neck CTs that are set aside for it, a head in MR and one volume of nuclei.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.records import read_json
from MedalSLib.volume import axial_grid
from MedalSLib.volume.challenge import read_challenge
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from tools.interactive.labelled_images import LabelledImage
from tools.starter.labels import starter_classes
from tools.starter.public_volumes import HELD_OUT_NUCLEI, NECK_NAMES, brain_names, head_elements

ABDOMEN = {
    1: "Spleen", 2: "Right kidney", 3: "Left kidney", 4: "Gallbladder", 5: "Esophagus", 6: "Liver", 7: "Stomach",
    8: "Aorta", 9: "Inferior vena cava", 10: "Pancreas", 11: "Right adrenal gland", 12: "Left adrenal gland",
    13: "Duodenum", 14: "Urinary bladder", 15: "Prostate/uterus",
}  # fmt: skip
LARGE = ("Spleen", "Right kidney", "Left kidney", "Liver", "Stomach", "Aorta", "Urinary bladder")
"""What counts as a large organ of the abdominal case."""
_LUNGS = ("Left lung", "Right lung")
_ABDOMEN_ORIENTATION = "LAS"
"""In the AMOS case x grows to the patient's left and y to the front; its file does not say so."""


def slicerio_data() -> Path | None:
    """Return the data folder of the slicerio package, None if it is not installed."""
    found = find_spec("slicerio")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"


def chest_case(folder: Path) -> LabelledImage:
    """Read CTChest4 and its two lungs from the data folder of the slicerio package.

    Raises:
        InputError: The folder does not hold them.
    """
    image = read_image(folder / "CTChest4.nrrd")
    masks = read_segmentation(folder / "Segmentation.seg.nrrd").masks_on(image.grid)
    lungs = {name: mask for segment, mask in masks.items() if (name := segment.capitalize()) in _LUNGS}
    if len(lungs) != len(_LUNGS):
        raise InputError(f"The chest segmentation names {', '.join(masks)}, not both lungs.")
    return LabelledImage("CTChest4", image.array_kji, image.grid, "CT", lungs)


def abdomen_case(folder: Path) -> LabelledImage:
    """Read the challenge's AMOS case from a folder with `NAME.npz` and `NAME_gt.npz`.

    Raises:
        InputError: The folder does not hold it.
    """
    path = next(iter(sorted(folder.glob("*AMOS*_gt.npz"))), None)
    if path is None:
        raise InputError(f"{folder} holds no AMOS case with its truth.", "Give the folder with NAME_gt.npz.")
    image, labels = read_challenge(path.with_name(path.name.replace("_gt", ""))), read_challenge(path).segs
    if image.imgs is None or labels is None or image.imgs.shape != labels.shape:
        raise InputError(f"{path.name} does not fit its image.", "Give both files as they were published.")
    grid = axial_grid(labels.shape, image.spacing_dhw, _ABDOMEN_ORIENTATION)
    truths = {name: labels == number for number, name in ABDOMEN.items()}
    return LabelledImage("AMOS", image.imgs, grid, "CT", truths, windowed=True)


def neck_cases(folder: Path) -> Iterator[LabelledImage]:
    """Read the head-and-neck CTs that are held out, with what was contoured in each.

    Args:
        folder: The folder `openkbp` of the public volumes.

    Raises:
        InputError: The folder does not hold them.
    """
    index = read_json(folder / "index.json", "index of the head-and-neck set")
    for entry in index["volumes"]:
        if entry["role"] == "train":
            continue
        image = read_image(folder / f"{entry['name']}_ct.nii.gz")
        labels = read_image(folder / f"{entry['name']}_labels.nii.gz").array_kji
        truths = {NECK_NAMES[name]: labels == index["labels"][name] for name in entry["contoured"]}
        yield LabelledImage(entry["name"], image.array_kji, image.grid, "CT", truths)


def head_case(folder: Path) -> LabelledImage:
    """Read the head in MR and the parts of its brain.

    Args:
        folder: The folder `t1_head` of the public volumes.

    Raises:
        InputError: The folder does not hold it.
    """
    image = read_image(folder / "t1.nii.gz")
    elements = head_elements(read_image(folder / "labels.nii.gz").array_kji.astype(np.int64))
    wanted = set(brain_names())
    truths = {
        known.name: np.isin(elements, known.elements)
        for known in starter_classes()
        if known.modality == "MRI" and known.name in wanted
    }
    return LabelledImage("T1 head", image.array_kji, image.grid, "MRI", truths)


def nuclei_case(folder: Path) -> LabelledImage:
    """Read the volume of nuclei; its truth holds instances, not one mask.

    Args:
        folder: The folder `nuclei` of the public volumes.

    Raises:
        InputError: The folder does not hold it.
    """
    path = folder / f"{HELD_OUT_NUCLEI}.npz"
    if not path.is_file():
        raise InputError(f"{path} is not there.", "Get the public volumes with tools.starter.public_sources.")
    with np.load(path, allow_pickle=False) as file:
        image, instances, spacing = file["imgs"], file["gts"], file["spacing_um_zyx"]
    grid = axial_grid(image.shape, [float(value) for value in spacing])
    return LabelledImage("Nuclei 1137", image, grid, "Microscopy", {"Nuclei": instances})


def labelled_cases(folder: Path, modality: str) -> list[LabelledImage]:
    """Read every `NAME.nii.gz` of a folder that has a `NAME.seg.nrrd` beside it.

    Segments are taken for structures by their names as published.

    Raises:
        InputError: There is none, or a file is damaged.
    """
    cases = []
    for path in sorted(folder.glob("*.seg.nrrd")):
        name = path.name.removesuffix(".seg.nrrd")
        image = read_image(folder / f"{name}.nii.gz")
        truths = read_segmentation(path).masks_on(image.grid)
        cases.append(LabelledImage(name, image.array_kji, image.grid, modality, truths))
    if not cases:
        raise InputError(f"{folder} holds no NAME.seg.nrrd.", "See tools.starter.export_held_out.")
    return cases
