"""Slicer's core in this process: the scene with the image, and segmentations in and out of it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import slicer
import vtk
from trame_slicer.core import SlicerApp

from MedalSLib.errors import InputError
from MedalSLib.slicer import segments
from MedalSLib.slicer.background import Pump
from MedalSLib.slicer.editing import SegmentEditing
from MedalSLib.slicer.parameters import Parameters
from MedalSLib.slicer.runner import Runner
from MedalSLib.slicer.segment_terminology import loadTerminology
from MedalSLib.slicer.segmentations import addSegmentation
from MedalSLib.slicer.targets import terminologyOf
from MedalSLib.vocabulary import parse_terminology
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.segmentation import unique_names
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.windows import PERCENTILE, SOFT_TISSUE, WINDOWS, resolved
from MedalSLib.volume.writing import write_segmentation

_TAG = "MedalS"


class ViewScene:
    """One scene with one image; also the module's logic as `Workspace` wants it.

    Args:
        image: What is shown and segmented.
        pump: Lets the server go on while the runner waits.

    Attributes:
        app: Slicer's core with its views.
        runner: Runs requests on the scene.
        parameters: The state that the scene keeps.
    """

    def __init__(self, image: Image, pump: Pump) -> None:
        # Without a screen VTK tries for one first and says so; what it warns of is for who builds upon it.
        if sys.platform == "linux":
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        vtk.vtkObject.GlobalWarningDisplayOff()
        self.app = SlicerApp()
        self.image = image
        slicer.mrmlScene = self.app.scene
        sequences = self.app.register_module_logic(slicer.vtkSlicerSequencesLogic())
        slicer.modules = SimpleNamespace(
            terminologies=SimpleNamespace(logic=lambda: self.app.terminologies_logic),
            sequences=SimpleNamespace(logic=lambda: sequences),
        )
        loadTerminology(self.app.terminologies_logic)
        self.runner = Runner(SegmentEditing(self.app.scene), pump, poll=0.0)
        self.parameters = Parameters(self._parameterNode)
        name = image.source.path.name
        self.volume = slicer.util.addVolumeFromArray(image.array_kji, np.array(image.grid.affine_ras), name)
        self.parameters.volume = self.volume
        self.window = SOFT_TISSUE.name if image.modality.modality == "CT" else PERCENTILE.name
        self.show(self.window)

    def show(self, window: str) -> None:
        """Show the image in one of `volume.windows.WINDOWS`."""
        chosen = resolved(WINDOWS[window], self.image.array_kji)
        display = self.volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(chosen.width, chosen.level)
        self.window = window

    def view(self) -> None:
        """Show the image in the views that there are, all of it."""
        self.app.display_manager.show_volume_in_slice_background(self.volume)
        self.app.display_manager.reset_views()

    def show_surfaces(self, shown: bool) -> None:
        """Show the segments in the 3-D view, or do not."""
        node = self.parameters.segmentation
        if node is None:
            return
        if shown:
            node.CreateClosedSurfaceRepresentation()
        else:
            node.RemoveClosedSurfaceRepresentation()
        for view in self.app.view_manager.get_threed_views():
            view.reset_view()

    def undo(self) -> None:
        """Take back the last stroke or run."""
        self.runner.editing.undo()

    def redo(self) -> None:
        """Do again what was taken back."""
        self.runner.editing.redo()

    def load(self, name: str, content: bytes) -> None:
        """Add the segments of a segmentation file to the segmentation.

        Args:
            name: Name of the file; its end says the format.
            content: The file.

        Raises:
            InputError: It is no segmentation.
        """
        with tempfile.TemporaryDirectory(prefix="medals-view-") as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(content)
            found = read_segmentation(path)
        if self.parameters.segmentation is None:
            self.parameters.segmentation = addSegmentation(self.volume)
        node, editing = self.parameters.segmentation, self.runner.editing
        editing.edit(node, self.volume)
        editing.saveState()
        for segment in found.segments:
            mask = BoxMask.of(segment.mask_on(found.grid, self.image.grid))
            key = node.GetSegmentation().AddEmptySegment("", segment.name)
            added = node.GetSegmentation().GetSegment(key)
            if segment.color is not None:
                added.SetColor(*[value / 255 for value in segment.color])
            if segment.terminology is not None:
                added.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), str(segment.terminology))
            editing.paint(node, key, mask, segments.volumeMatrixIn(node, self.volume))

    def saved(self, suffix: str) -> bytes:
        """Return the segmentation as a file on the image's grid.

        Args:
            suffix: ".seg.nrrd", ".nii.gz" or ".dcm".

        Raises:
            InputError: There is no segment.
            OutputError: The format cannot hold it.
        """
        node = self.parameters.segmentation
        if node is None or not segments.segmentIDs(node):
            raise InputError("There is no segment to save.", "Segment something first.")
        masks: dict[str, BoxMask] = {}
        infos = {}
        keys = segments.segmentIDs(node)
        names = unique_names({index: segments.segmentOf(node, key).GetName() for index, key in enumerate(keys)})
        for name, key in zip(names.values(), keys, strict=True):
            segment = segments.segmentOf(node, key)
            masks[name] = segments.readSegment(node, key, self.volume)
            red, green, blue = (round(255 * value) for value in segment.GetColor())
            infos[name] = SegmentInfo((red, green, blue), parse_terminology(terminologyOf(segment)))
        with tempfile.TemporaryDirectory(prefix="medals-view-") as folder:
            path = Path(folder, f"segmentation{suffix}")
            write_segmentation(path, masks, self.image.grid, infos, self.image)
            return path.read_bytes()

    def close(self) -> None:
        """Free everything."""
        self.runner.close()

    def _parameterNode(self) -> Any:
        node = self.app.scene.GetSingletonNode(_TAG, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(_TAG)
            node = self.app.scene.AddNode(node)
        return node
