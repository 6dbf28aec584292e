"""Reads a request's nodes into arrays on the main thread, so that the worker thread sees no node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.run import REFINE_MARGIN_MM, RunRequest
from MedalSLib.slicer import segments
from MedalSLib.slicer.request import NodeRequest
from MedalSLib.slicer.roi import roiMask
from MedalSLib.slicer.strokes import Strokes
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.slicer.volumes import VolumeImage, readVolume, shapeOf
from MedalSLib.volume.box import EMPTY, corner_of, grown, shape_of
from MedalSLib.volume.geometry import Grid, Roi
from MedalSLib.volume.mask import BoxMask

IsOpen = Callable[[VolumeImage], bool]
"""Whether an image is open in the engine, so that its voxels need not be copied."""


@dataclass(frozen=True, eq=False)
class RunInputs:
    """What an engine is asked, and about which image.

    Attributes:
        image: The volume.
        modality: Modality that the user chose; None to let the engine guess.
        region: Hard limits of the result on the volume's grid; None for everywhere.
        refined: By name of each structure that is refined, the region that may change.
        request: The request to the engine's session.
    """

    image: VolumeImage
    modality: str | None
    region: BoxMask | None
    refined: Mapping[str, BoxMask]
    request: RunRequest


def readInputs(request: NodeRequest, ui: UiYield, isOpen: IsOpen, strokes: Strokes | None = None) -> RunInputs:
    """Read what a request names.

    Args:
        request: The request.
        ui: Keeps the GUI responsive.
        isOpen: Whether an image is open in the engine.
        strokes: The strokes to refine around; None for a run from scratch.

    Raises:
        InputError: The volume, a segment or the region cannot be used.
    """
    image = _readImage(request.volumeNode, ui, isOpen)
    prompts = tuple(phrase for phrase in request.prompts if phrase.strip())
    if strokes is not None:
        options = replace(request.options, mode="refine")
        others = _readOthers(request, ui)
        locked = {name: edit.decided | (others - edit.mask) for name, edit in strokes.edits.items()}
        run = RunRequest(prompts, strokes.masks, locked, strokes.painted, options=options)
        refined = {name: _around(change, image.grid) for name, change in strokes.painted.items()}
        return RunInputs(image, request.modality, None, refined, run)
    masks = _readMasks(request, image, ui)
    region = None if request.roiNode is None else roiMask(request.roiNode, request.volumeNode)
    run = RunRequest(prompts, masks, roi=_roiOf(region), options=request.options)
    return RunInputs(image, request.modality, region, {}, run)


def _readImage(volumeNode: Any, ui: UiYield, isOpen: IsOpen) -> VolumeImage:
    """Read a volume; without copying its voxels, which takes long, if they are open in the engine."""
    image = readVolume(volumeNode, copy=False)
    if isOpen(image):
        return image
    array = ui.offload(image.array.copy, image.array.size)
    if readVolume(volumeNode, copy=False).signature != image.signature:
        return readVolume(volumeNode)  # changed while it was copied: in one go then
    return replace(image, array=array)


def _around(change: BoxMask, grid: Grid) -> BoxMask:
    """Return the region that a refinement of strokes may change."""
    box = grown(change.box or EMPTY, REFINE_MARGIN_MM, grid.spacing_ijk[::-1], grid.shape_kji)
    return BoxMask.from_crop(np.ones(shape_of(box), bool), corner_of(box), grid.shape_kji)


def _roiOf(region: BoxMask | None) -> Roi | None:
    """Return the box of a region in the order i, j, k, as engines take it."""
    if region is None or region.box is None:
        return None
    k, j, i = region.box
    return i, j, k


def _readOthers(request: NodeRequest, ui: UiYield) -> BoxMask:
    """Return what the user keeps results out of: a correction takes it for certainly not the structure."""
    others = BoxMask.empty(shapeOf(request.volumeNode))
    for segmentID in request.excludedIDs:
        others = others | segments.readSegment(request.segmentationNode, segmentID, request.volumeNode, ui)
    return others


def _readMasks(request: NodeRequest, image: VolumeImage, ui: UiYield) -> dict[str, BoxMask]:
    """Return the spatial prompts; several segments of one structure are one prompt."""
    source = request.promptsFrom or request.segmentationNode
    masks: dict[str, BoxMask] = {}
    for segmentID, structure in request.spatialPrompts.items():
        if source is None:
            raise InputError("The segments to use as prompts have no segmentation.", "Choose a segmentation.")
        mask = segments.readSegment(source, segmentID, request.volumeNode, ui)
        if mask.is_empty:
            name = segments.segmentOf(source, segmentID).GetName()
            raise InputError(
                f"The segment {name} has no voxel in {image.name}, so it cannot be a prompt.",
                "Draw it on this volume, or take it off the prompts.",
            )
        masks[structure] = masks[structure] | mask if structure in masks else mask
    return masks
