"""Changes voxels of segments through Slicer's segment editor logic: its masking applies, and its undo takes it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import slicer

from MedalSLib.slicer.oriented_image import toOrientedImage
from MedalSLib.slicer.segments import SURFACE, segmentIDs, voxelCount
from MedalSLib.slicer.ui_yield import UiYield
from MedalSLib.volume.mask import BoxMask

UNDO_STATES = 10
_NODE_TAG = "MedalS"


class SegmentEditing:
    """Changes segments as the Segment Editor's effects do: within its editable area and intensity range.

    In the application, pass the node of the embedded editor widget and its `saveStateForUndo`, so that the widget's
    own undo button takes the changes back; without arguments the object has an editor node and a history of its own.

    Args:
        scene: The scene of the segmentations.
        editorNode: vtkMRMLSegmentEditorNode with the user's masking settings; None for one of our own.
        saveStateForUndo: Saves a state in the history that the user's undo button works on.

    Attributes:
        logic: The vtkSlicerSegmentEditorLogic in use.
        saveState: Saves one state for undo.
    """

    def __init__(
        self, scene: Any, editorNode: Any = None, saveStateForUndo: Callable[[], object] | None = None
    ) -> None:
        self._scene = scene
        self.logic = slicer.vtkSlicerSegmentEditorLogic()
        self.logic.SetMRMLScene(scene)
        if saveStateForUndo is None:
            self.logic.SetMaximumNumberOfUndoStates(UNDO_STATES)
            self.saveState: Callable[[], object] = self.logic.SaveStateForUndo
        else:
            self.logic.SetSegmentationHistory(None)  # the widget keeps the history
            self.saveState = saveStateForUndo
        self._ownNode = editorNode is None
        if editorNode is not None:
            self.logic.SetSegmentEditorNode(editorNode)

    @property
    def node(self) -> Any:
        """The vtkMRMLSegmentEditorNode in use; our own is added again after the scene was closed."""
        node = self.logic.GetSegmentEditorNode()
        if self._ownNode and (node is None or node.GetScene() is None):
            node = self._scene.GetSingletonNode(_NODE_TAG, "vtkMRMLSegmentEditorNode")
            if node is None:
                node = self._scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
                node.UnRegister(None)
                node.SetSingletonTag(_NODE_TAG)
                node.SetHideFromEditors(True)
                node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
                node = self._scene.AddNode(node)
            self.logic.SetSegmentEditorNode(node)
        return node

    def edit(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Make a segmentation the one that is edited; the history of another one is given up, as in Slicer."""
        node = self.node
        if node.GetSegmentationNode() is not segmentationNode:
            node.SetAndObserveSegmentationNode(segmentationNode)
        if node.GetSourceVolumeNode() is not volumeNode:
            node.SetAndObserveSourceVolumeNode(volumeNode)
        self.logic.SetSegmentEditorNode(node)

    def undo(self) -> None:
        """Restore the previous state (own history only; in the application the widget has the button)."""
        self.logic.Undo()

    def redo(self) -> None:
        """Restore the state that `undo` left."""
        self.logic.Redo()

    def paint(
        self, segmentationNode: Any, segmentID: str, mask: BoxMask, matrix: np.ndarray, erase: bool = False
    ) -> None:
        """Set or clear the voxels of a mask in a segment; other segments stay as they are and may overlap.

        Args:
            segmentationNode: The segmentation.
            segmentID: The segment.
            mask: The voxels.
            matrix: Their lattice, index (i, j, k) to the segmentation's RAS.
            erase: Whether they are cleared.
        """
        self._modify(segmentationNode, segmentID, _imageOf(mask, matrix), erase, bypassMasking=False)

    def replaceVoxels(
        self,
        segmentationNode: Any,
        segmentID: str,
        current: BoxMask,
        wanted: BoxMask,
        matrix: np.ndarray,
        bypassMasking: bool = False,
        ui: UiYield | None = None,
    ) -> None:
        """Replace a segment's voxels, on a layer of its own.

        Where no mask of the editor limits the change, a segment that loses voxels is cleared and written from scratch:
        the editor's logic needs several times longer to take voxels away than to set them.

        Args:
            segmentationNode: The segmentation.
            segmentID: The segment.
            current: Its voxels as they are.
            wanted: Its voxels as they should be.
            matrix: Lattice of both, index (i, j, k) to the segmentation's RAS.
            bypassMasking: Whether the editor's masks do not count.
            ui: Keeps the GUI responsive; a segment that the user removes meanwhile is left alone.
        """
        ui = ui or UiYield()
        mayClear = bypassMasking or not self._isMasked()

        def changes() -> tuple[bool, BoxMask, BoxMask]:
            removed = current - wanted
            if mayClear and not removed.is_empty:
                return True, BoxMask.empty(wanted.shape), wanted
            return False, removed, wanted - current

        clear, *masks = ui.offload(changes, voxelCount(current, wanted))
        removed, added = (_imageOf(mask, matrix) for mask in masks)
        ui.processEvents()
        segmentation = segmentationNode.GetSegmentation()
        if segmentation.GetSegment(segmentID) is None:
            return
        with surfaceLater(segmentationNode, segmentID):  # no events in between: nobody should see half of a change
            # In a labelmap that several segments share, a voxel belongs to one of them only.
            segmentation.SeparateSegmentLabelmap(segmentID)
            if clear:
                segmentation.ClearSegment(segmentID)
            self._modify(segmentationNode, segmentID, removed, True, bypassMasking)
            self._modify(segmentationNode, segmentID, added, False, bypassMasking)

    def _isMasked(self) -> bool:
        node = self.node
        everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        return bool(node.GetSourceVolumeIntensityMask()) or node.GetMaskMode() != everywhere

    def _modify(self, segmentationNode: Any, segmentID: str, image: Any, erase: bool, bypassMasking: bool) -> None:
        if image is None:
            return
        mode = self.logic.ModificationModeRemove if erase else self.logic.ModificationModeAdd
        with self._masking(segmentID, bypassMasking):
            self.logic.ModifySegmentByLabelmap(segmentationNode, segmentID, image, mode, False, bypassMasking)

    @contextmanager
    def _masking(self, segmentID: str, bypass: bool) -> Iterator[None]:
        """Set overwrite mode to None and refresh the modifier labelmap where masking applies; restore the settings."""
        node = self.node
        blocked = node.StartModify()
        overwrite, selected = node.GetOverwriteMode(), node.GetSelectedSegmentID()
        intensity = node.GetSourceVolumeIntensityMask()
        try:
            node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
            if bypass and intensity:
                node.SetSourceVolumeIntensityMask(False)  # `bypassMasking` alone does not bypass it
            elif self._isMasked():
                node.SetSelectedSegmentID(segmentID)
                self.logic.ResetModifierLabelmapToDefault()
            yield
        finally:
            node.SetOverwriteMode(overwrite)
            node.SetSourceVolumeIntensityMask(intensity)
            if node.GetSelectedSegmentID() != selected:
                node.SetSelectedSegmentID(selected)
            node.EndModify(blocked)


def _imageOf(mask: BoxMask, matrix: np.ndarray) -> Any:
    """Return a mask as an image, None if nothing is set."""
    return None if mask.is_empty else toOrientedImage(mask, matrix)


@contextmanager
def surfaceLater(segmentationNode: Any, segmentID: str) -> Iterator[None]:
    """Make a segment's 3-D surface once after all changes, instead of after each; other surfaces are kept."""
    segmentation = segmentationNode.GetSegmentation()
    shown = segmentation.ContainsRepresentation(SURFACE) and segmentation.GetSourceRepresentationName() != SURFACE
    kept = {}
    if shown:
        others = [other for other in segmentIDs(segmentationNode) if other != segmentID]
        kept = {other: segmentation.GetSegment(other).GetRepresentation(SURFACE) for other in others}
        segmentation.GetSegment(segmentID).RemoveRepresentation(SURFACE)
    try:
        yield
    finally:
        # Slicer throws away every surface when a segment is cleared, and would make all of them again.
        for other, surface in kept.items():
            segment = segmentation.GetSegment(other)
            if segment is not None and surface is not None and segment.GetRepresentation(SURFACE) is None:
                segment.AddRepresentation(SURFACE, surface)
        if shown and segmentation.GetSegment(segmentID) is not None:
            segmentation.CreateRepresentation(SURFACE)
