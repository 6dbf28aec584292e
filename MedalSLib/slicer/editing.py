"""The door to Slicer's segment editor: masking, undo, one place that changes voxels of segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import slicer

from MedalSLib.slicer.oriented_image import Patch, emptyPatch, patchOf, toOrientedImage, union
from MedalSLib.slicer.segments import SURFACE
from MedalSLib.slicer.ui_yield import UiYield

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
    """

    def __init__(
        self, scene: Any, editorNode: Any = None, saveStateForUndo: Callable[[], object] | None = None
    ) -> None:
        self._scene = scene
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(scene)
        if saveStateForUndo is None:
            self._logic.SetMaximumNumberOfUndoStates(UNDO_STATES)
            self._saveState: Callable[[], object] = self._logic.SaveStateForUndo
        else:
            self._logic.SetSegmentationHistory(None)  # the widget keeps the history
            self._saveState = saveStateForUndo
        self._ownNode = editorNode is None
        if editorNode is not None:
            self._logic.SetSegmentEditorNode(editorNode)

    @property
    def logic(self) -> Any:
        """The vtkSlicerSegmentEditorLogic in use."""
        return self._logic

    @property
    def node(self) -> Any:
        """The vtkMRMLSegmentEditorNode in use; our own is made again after the scene was closed."""
        node = self._logic.GetSegmentEditorNode()
        if self._ownNode and (node is None or node.GetScene() is None):
            node = self._scene.GetSingletonNode(_NODE_TAG, "vtkMRMLSegmentEditorNode")
            if node is None:
                node = self._scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
                node.UnRegister(None)
                node.SetSingletonTag(_NODE_TAG)
                node.SetHideFromEditors(True)
                node.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)
                node = self._scene.AddNode(node)
            self._logic.SetSegmentEditorNode(node)
        return node

    def edit(self, segmentationNode: Any, volumeNode: Any) -> None:
        """Make a segmentation the one that is edited; the history of another one is given up, as in Slicer."""
        node = self.node
        if node.GetSegmentationNode() is not segmentationNode:
            node.SetAndObserveSegmentationNode(segmentationNode)
        if node.GetSourceVolumeNode() is not volumeNode:
            node.SetAndObserveSourceVolumeNode(volumeNode)
        self._logic.SetSegmentEditorNode(node)

    def saveState(self) -> None:
        """Save one state for undo."""
        self._saveState()

    def undo(self) -> None:
        """Restore the previous state (own history only; in the application the widget has the button)."""
        self._logic.Undo()

    def redo(self) -> None:
        """Restore the next state (own history only)."""
        self._logic.Redo()

    def add(self, segmentationNode: Any, segmentID: str, patch: Patch, bypassMasking: bool = False) -> None:
        """Set the voxels of a patch in a segment; other segments stay as they are and may overlap."""
        self._modify(
            segmentationNode, segmentID, _imageOf(patch.cropped()), self._logic.ModificationModeAdd, bypassMasking
        )

    def remove(self, segmentationNode: Any, segmentID: str, patch: Patch, bypassMasking: bool = False) -> None:
        """Clear the voxels of a patch in a segment; other segments stay as they are."""
        mode = self._logic.ModificationModeRemove
        self._modify(segmentationNode, segmentID, _imageOf(patch.cropped()), mode, bypassMasking)

    def replaceVoxels(
        self,
        segmentationNode: Any,
        segmentID: str,
        current: Patch,
        wanted: Patch,
        bypassMasking: bool = False,
        ui: UiYield | None = None,
    ) -> None:
        """Make a segment that has the voxels `current` have those of `wanted`, on a layer of its own.

        Where no mask of the editor limits the change, a segment that loses voxels is cleared and written anew: the
        editor's logic needs several times longer to take voxels away than to set them.

        Args:
            segmentationNode: The segmentation.
            segmentID: The segment.
            current: Its voxels as they are, on the lattice of `wanted`.
            wanted: Its voxels as they should be.
            bypassMasking: Whether the editor's masks do not count.
            ui: Divides the work; a segment that is gone after a turn is left alone.
        """
        ui = ui or UiYield()
        anew = bypassMasking or not self._isMasked()
        change = ui.offload(lambda: _Change.between(current, wanted, anew), current.mask.size + wanted.mask.size)
        removed, added = _imageOf(change.removed), _imageOf(change.added)
        ui.processEvents()
        segmentation = segmentationNode.GetSegmentation()
        if segmentation.GetSegment(segmentID) is None:
            return
        with surfaceLater(segmentationNode, segmentID):  # no turn between: nobody should see half of a change
            segmentation.SeparateSegmentLabelmap(segmentID)
            if change.anew:
                segmentation.ClearSegment(segmentID)
            self._modify(segmentationNode, segmentID, removed, self._logic.ModificationModeRemove, bypassMasking)
            self._modify(segmentationNode, segmentID, added, self._logic.ModificationModeAdd, bypassMasking)

    def _isMasked(self) -> bool:
        node = self.node
        everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        return bool(node.GetSourceVolumeIntensityMask()) or node.GetMaskMode() != everywhere

    def _modify(self, segmentationNode: Any, segmentID: str, image: Any, mode: int, bypassMasking: bool) -> None:
        if image is None:
            return
        with self._masking(segmentID, bypassMasking):
            self._logic.ModifySegmentByLabelmap(segmentationNode, segmentID, image, mode, False, bypassMasking)

    @contextmanager
    def _masking(self, segmentID: str, bypass: bool) -> Iterator[None]:
        """Let overlaps be ours to decide, and give the masks what they look at; put the user's settings back."""
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
                self._logic.ResetModifierLabelmapToDefault()
            yield
        finally:
            node.SetOverwriteMode(overwrite)
            node.SetSourceVolumeIntensityMask(intensity)
            if node.GetSelectedSegmentID() != selected:
                node.SetSelectedSegmentID(selected)
            node.EndModify(blocked)


@dataclass(frozen=True, eq=False)
class _Change:
    """The way from one state of a segment to another.

    Attributes:
        anew: Whether the segment is cleared first.
        removed: Voxels to take away, cropped.
        added: Voxels to set then, cropped.
    """

    anew: bool
    removed: Patch
    added: Patch

    @staticmethod
    def between(current: Patch, wanted: Patch, mayClear: bool) -> _Change:
        box = union(current.box, wanted.box)
        was, willBe = current.on(box), wanted.on(box)
        removed = was & ~willBe
        if mayClear and removed.any():
            return _Change(True, emptyPatch(wanted.matrix), wanted.cropped())
        added = willBe & ~was
        return _Change(
            False, patchOf(removed, box, wanted.matrix).cropped(), patchOf(added, box, wanted.matrix).cropped()
        )


def _imageOf(cropped: Patch) -> Any:
    """Return a cropped patch as an image, None if nothing is set."""
    return toOrientedImage(cropped) if cropped.mask.size else None


@contextmanager
def surfaceLater(segmentationNode: Any, segmentID: str) -> Iterator[None]:
    """Make a segment's 3-D surface once after all changes, instead of after each; other surfaces are not touched."""
    segmentation = segmentationNode.GetSegmentation()
    shown = segmentation.ContainsRepresentation(SURFACE) and segmentation.GetSourceRepresentationName() != SURFACE
    if shown:
        segmentation.GetSegment(segmentID).RemoveRepresentation(SURFACE)
    try:
        yield
    finally:
        if shown and segmentation.GetSegment(segmentID) is not None:
            segmentation.CreateRepresentation(SURFACE)
