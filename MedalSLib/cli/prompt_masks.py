"""The masks of `medals segment`: prompts by name, and what of them the user painted since the last result."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from MedalSLib.errors import InputError
from MedalSLib.vocabulary import resolve
from MedalSLib.volume import BoxMask, Grid


def read_masks(path: Path, grid: Grid) -> dict[str, BoxMask]:
    """Read the segments of a file onto the image's grid, by name.

    Args:
        path: The segmentation.
        grid: The image's grid.

    Raises:
        InputError: The file cannot be read, or its segments lie elsewhere.
    """
    from MedalSLib.volume.segmentation_reading import read_segmentation

    return {name: BoxMask.of(mask) for name, mask in read_segmentation(path).masks_on(grid).items()}


def not_empty(masks: Mapping[str, BoxMask], path: Path) -> dict[str, BoxMask]:
    """Return the masks that have a voxel; an empty segment of a file says nothing.

    Args:
        masks: Masks by name.
        path: Where they come from, for the message.

    Raises:
        InputError: None has one.
    """
    filled = {name: mask for name, mask in masks.items() if not mask.is_empty}
    if not filled:
        raise InputError(f"{path.name} has no segment with a voxel in it.", "Give a segmentation that is not empty.")
    return filled


def named_in(text: str, masks: Mapping[str, BoxMask], modality: str) -> dict[str, BoxMask]:
    """Return the masks of what a text names; all of them if it names nothing.

    Args:
        text: Names as typed.
        masks: Masks by name of their segment.
        modality: The image's modality.
    """
    if not text.strip():
        return dict(masks)
    phrases = {phrase.strip().casefold() for phrase in text.split(",")}
    wanted = {key for item in resolve(text, modality) for key in item.keys}
    return {
        name: mask
        for name, mask in masks.items()
        if name.casefold() in phrases or wanted & {key for item in resolve(name, modality) for key in item.keys}
    }


def painted_voxels(masks: Mapping[str, BoxMask], painted: Mapping[str, BoxMask], path: Path) -> dict[str, BoxMask]:
    """Return what was painted of each mask, from a file that says so.

    Args:
        masks: Masks by name.
        painted: Segments of the file, by name: voxels painted in or erased.
        path: The file, for the message.

    Raises:
        InputError: It has a segment for which there is no mask.
    """
    orphans = [name for name, mask in painted.items() if name not in masks and not mask.is_empty]
    if orphans:
        raise InputError(
            f"{path.name} says what was painted of {', '.join(orphans)}, but there is no mask of that name.",
            "Give its segments the names of those in --masks.",
        )
    return {name: mask for name, mask in painted.items() if not mask.is_empty}


def changed_since(masks: Mapping[str, BoxMask], previous: Mapping[str, BoxMask]) -> dict[str, BoxMask]:
    """Return what was painted of each mask: all in which it differs from the previous result.

    Args:
        masks: Masks by name.
        previous: The same before the user painted; what is not in it was begun by painting.
    """
    differences = {name: mask ^ previous.get(name, BoxMask.empty(mask.shape)) for name, mask in masks.items()}
    return {name: mask for name, mask in differences.items() if not mask.is_empty}
