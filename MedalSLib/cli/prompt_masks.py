"""The masks of `medals segment`: prompts by name, and what of them the user painted since the last result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from MedalSLib.vocabulary import resolve
from MedalSLib.volume import BoxMask, Grid


def read_masks(path: Path, grid: Grid, text: str, modality: str) -> dict[str, BoxMask]:
    """Read the segments that a text names onto the image's grid, by name; all of them if it names nothing.

    Args:
        path: The segmentation.
        grid: The image's grid.
        text: Names as typed.
        modality: The image's modality.

    Raises:
        InputError: The file cannot be read, or its segments lie elsewhere.
    """
    from MedalSLib.volume.segmentation_reading import read_segmentation

    masks = {name: BoxMask.of(mask) for name, mask in read_segmentation(path).masks_on(grid).items()}
    if not text.strip():
        return masks
    phrases = {phrase.strip().casefold() for phrase in text.split(",")}
    wanted = {key for item in resolve(text, modality) for key in item.keys}
    return {
        name: mask
        for name, mask in masks.items()
        if name.casefold() in phrases or wanted & {key for item in resolve(name, modality) for key in item.keys}
    }


def changed_since(masks: Mapping[str, BoxMask], previous: Mapping[str, BoxMask]) -> dict[str, BoxMask]:
    """Return what was painted of each mask: all in which it differs from the previous result.

    Args:
        masks: Masks by name.
        previous: The same before the user painted; what is not in it was begun by painting.
    """
    differences = {name: mask ^ previous.get(name, BoxMask.empty(mask.shape)) for name, mask in masks.items()}
    return {name: mask for name, mask in differences.items() if not mask.is_empty}
