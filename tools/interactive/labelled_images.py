"""Images whose structures are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from MedalSLib.evaluation.cases import FilePair, find_pairs, modality_of, open_pair, published_name
from MedalSLib.volume import Grid
from MedalSLib.volume.challenge import ORIENTATION
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segmentation_reading import read_segmentation


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """An image whose structures are known.

    Attributes:
        name: The case.
        array_kji: Intensities (K, J, I) as of `Image`.
        grid: The image's grid.
        modality: Modality.
        truths: Boolean (K, J, I) on that grid by published name.
        windowed: As of `Image`.
    """

    name: str
    array_kji: np.ndarray
    grid: Grid
    modality: str
    truths: dict[str, np.ndarray]
    windowed: bool = False


def find_images(truth: Path, images: Path) -> list[FilePair]:
    """Return the cases of a folder of truths (or of one file) with the images of the same names.

    Raises:
        InputError: There is no such folder or file, no segmentation in it, or no image of the same name.
    """
    pairs = [replace(pair, found=None, image=pair.found) for pair in find_pairs(truth, images)]
    return [pair for pair in pairs if pair.image is not None]


def open_labelled(pair: FilePair, orientation: str = ORIENTATION) -> LabelledImage:
    """Read an image with its truth.

    Args:
        pair: Its files.
        orientation: Directions to which x, y, z of npz files grow, which do not say them.

    Raises:
        InputError: A file is damaged, or the truth lies off the image.
    """
    assert pair.image is not None
    image = read_image(pair.image, orientation=orientation if pair.image.suffix == ".npz" else None)
    modality = modality_of(pair) or image.modality.modality
    if pair.truth.suffix == ".npz":
        truths = {item.name: item.truth for item in open_pair(pair, orientation=orientation).structures}
    else:
        masks = read_segmentation(pair.truth).masks_on(image.grid)
        truths = {published_name(name, modality): mask for name, mask in masks.items()}
    return LabelledImage(pair.name, image.array_kji, image.grid, modality, truths, image.windowed)
