"""A run's request in arrays: what is read from nodes on the main thread, so that the worker thread sees none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from MedalSLib.errors import InputError, PromptError
from MedalSLib.run import RunOptions
from MedalSLib.slicer import segments
from MedalSLib.slicer.request import NodeRequest
from MedalSLib.slicer.roi import Region, regionOf
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.volumes import VolumeImage, readVolume

IsOpen = Callable[[VolumeImage], bool]


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What an engine is asked, as `Session.segment` takes it.

    Attributes:
        image: The volume.
        prompts: Phrases as typed, without empty ones.
        modality: Modality that the user chose; None to let the engine guess.
        masks: Spatial prompts, boolean (K, J, I) by published name.
        locked: Where the masks hold, boolean (K, J, I) by published name.
        region: Hard limits of the answer; None for everywhere.
        options: Choices of the engine.
    """

    image: VolumeImage
    prompts: tuple[str, ...]
    modality: str | None
    masks: dict[str, np.ndarray]
    locked: dict[str, np.ndarray]
    region: Region | None
    options: RunOptions

    def requireSomething(self) -> None:
        """Refuse a run without any prompt.

        Raises:
            PromptError: There is neither a phrase nor a mask.
        """
        if not self.prompts and not self.masks:
            raise PromptError("There is nothing to segment.", "Type the name of a structure, or choose a segment.")


def readInputs(request: NodeRequest, ui: UiYield, isOpen: IsOpen) -> RunInputs:
    """Read what a request names.

    Args:
        request: The request.
        ui: Divides the work.
        isOpen: Whether an image is open in the engine.

    Raises:
        InputError: The volume, a segment or the region cannot be used.
    """
    image = readImage(request.volumeNode, ui, isOpen)
    masks = _readMasks(request, image, ui)
    region = None if request.roiNode is None else regionOf(request.roiNode, request.volumeNode)
    prompts = tuple(phrase for phrase in request.prompts if phrase.strip())
    return RunInputs(image, prompts, request.modality, masks, {}, region, request.options)


def readImage(volumeNode: Any, ui: UiYield, isOpen: IsOpen) -> VolumeImage:
    """Read a volume; without copying its voxels, which takes long, if they are open in the engine.

    Args:
        volumeNode: The volume.
        ui: Divides the work.
        isOpen: Whether an image is open in the engine.

    Raises:
        InputError: The volume cannot be used.
    """
    image = readVolume(volumeNode, copy=False)
    if isOpen(image):
        return image
    array = ui.offload(image.array.copy, image.array.size)
    if readVolume(volumeNode, copy=False).signature != image.signature:
        return readVolume(volumeNode)  # changed while it was copied: in one go then
    return replace(image, array=array)


def _readMasks(request: NodeRequest, image: VolumeImage, ui: UiYield) -> dict[str, np.ndarray]:
    """Return the spatial prompts; several segments of one structure are one prompt."""
    source = request.promptsFrom or request.segmentationNode
    masks: dict[str, np.ndarray] = {}
    for segmentID, structure in request.spatialPrompts.items():
        if source is None:
            raise InputError("The segments to use as prompts have no segmentation.", "Choose a segmentation.")
        mask = segments.readSegment(source, segmentID, request.volumeNode, ui)
        if not mask.any():
            name = segments.segmentOf(source, segmentID).GetName()
            raise InputError(
                f"The segment {name} has no voxel in {image.name}, so it cannot be a prompt.",
                "Draw it on this volume, or take it off the prompts.",
            )
        masks[structure] = masks[structure] | mask if structure in masks else mask
    return masks
