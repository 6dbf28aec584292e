"""The cases held out of the starter's training: slicerio's chest CT, the challenge's abdominal CT, and two in MR."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from MedalSLib.errors import InputError
from MedalSLib.volume import axial_grid
from MedalSLib.volume.challenge import read_challenge
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation
from tools.interactive.labelled_images import LabelledImage

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
