"""The Medal S module of 3D Slicer; the work is done in MedalSLib, which lies beside this file or one folder up."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

HOMEPAGE = "https://github.com/SlicerMedalS/SlicerMedalS"

for _folder in (Path(__file__).resolve().parent, Path(__file__).resolve().parents[1]):
    if (_folder / "MedalSLib" / "__init__.py").is_file():
        if str(_folder) not in sys.path:
            sys.path.insert(0, str(_folder))
        break


def whyUnsupported():
    """Return why Medal S cannot run in this Slicer and what to do, empty if it can.

    Slicer 5.8 has Python 3.9 and no segment-editor logic; this file loads there, so that it can say so.
    """
    if sys.version_info >= (3, 10) and hasattr(slicer, "vtkSlicerSegmentEditorLogic"):
        return ""
    return _("Medal S needs 3D Slicer 5.10 or newer; this is {version}. Install a newer 3D Slicer.").format(
        version=slicer.app.applicationVersion
    )


class MedalS(ScriptedLoadableModule):
    """What the application shows of the module before it is opened."""

    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Medal S")
        icon = Path(__file__).resolve().parents[1] / "Resources" / "Icons" / "MedalS.png"
        if icon.is_file() and "qt" in sys.modules:  # a checkout; 3D Slicer finds an installed extension's by itself
            import qt

            parent.icon = qt.QIcon(str(icon))
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations", "SegmentEditor", "Terminologies", "Sequences", "SubjectHierarchy"]
        parent.contributors = ["The Medal S for 3D Slicer developers"]
        parent.helpText = _(
            "Type the names of structures, or draw them roughly, and Medal S segments them in CT, MRI, ultrasound, PET "
            "and microscopy images. Correct the result with the Segment Editor's tools and refine it: what you painted "
            "or erased is kept. The computation runs on this computer, or on a server that you name."
        )
        parent.helpText += (
            "<p>" + _('Tutorial and documentation: <a href="{url}">{url}</a>').format(url=HOMEPAGE) + "</p>"
        )
        parent.acknowledgementText = _(
            "The method is Medal S: Spatio-Textual Prompt Model for Medical Segmentation (arXiv 2511.13001), which "
            "builds on SAT and nnU-Net. Weights have licences of their own, shown before they are downloaded. "
            "For research use; not a medical device."
        )
        slicer.app.connect("startupCompleted()", onStartupCompleted)


def onStartupCompleted():
    """Offer terminology and sample data; neither loads anything heavy nor touches the network."""
    if whyUnsupported():
        return
    from MedalSLib.slicer.sample_data import registerSamples
    from MedalSLib.slicer.segment_terminology import loadTerminology

    if hasattr(slicer.modules, "terminologies") and not loadTerminology(slicer.modules.terminologies.logic()):
        logging.warning("The terminology of Medal S could not be loaded.")
    if hasattr(slicer.modules, "sampledata"):
        registerSamples()


class MedalSWidget(ScriptedLoadableModuleWidget):
    """The module's panel: a frame around `MedalSLib.panel`."""

    def __init__(self, parent=None):
        self.logic = None
        self.panel = None
        super().__init__(parent)

    def setup(self):
        """Build the panel; nothing is installed, loaded or asked for here."""
        super().setup()
        reason = whyUnsupported()
        if reason:
            import qt

            label = qt.QLabel(reason)
            label.wordWrap = True
            self.layout.addWidget(label)
            return
        from MedalSLib.panel.widgets.panel_view import PanelView

        self.logic = MedalSLogic()
        self.panel = PanelView(self.logic)
        self.layout.addWidget(self.panel.widget)

    def enter(self):
        """The module is shown."""
        if self.panel is not None:
            self.panel.enter()

    def exit(self):
        """Another module is shown."""
        if self.panel is not None:
            self.panel.exit()

    def cleanup(self):
        """The module is closed for good."""
        if self.panel is not None:
            self.panel.cleanup()
        if self.logic is not None:
            self.logic.close()
        self.panel = self.logic = None


class MedalSLogic(ScriptedLoadableModuleLogic):
    """Segmentation without the panel, for scripts: `MedalSLogic().segment(volumeNode, "liver, spleen")`."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self._runner = None
        self._engine = None
        self._engineKey = None

    @property
    def parameters(self):
        """The module's state in the scene; see `MedalSLib.slicer.parameters.Parameters`."""
        from MedalSLib.slicer.parameters import Parameters

        return Parameters(self.getParameterNode)

    @property
    def runner(self):
        """The runner of this logic; see `MedalSLib.slicer.runner.Runner`."""
        if self._runner is None:
            self.useEditor()
        return self._runner

    def useEditor(self, editorNode=None, saveStateForUndo=None):
        """Write results through a Segment Editor widget, so that its undo button takes them back.

        Args:
            editorNode: The widget's vtkMRMLSegmentEditorNode; None for an editor of our own.
            saveStateForUndo: The widget's slot of that name.
        """
        from MedalSLib.slicer.editing import SegmentEditing
        from MedalSLib.slicer.runner import Runner

        if self._runner is not None:
            self._runner.close()
        editing = SegmentEditing(slicer.mrmlScene, editorNode, saveStateForUndo)
        self._runner = Runner(editing, slicer.app.processEvents)

    def engine(self, model="starter", device="auto", **options):
        """Return the engine for a model, a model folder or a server's URL; kept open until another is asked for.

        Raises:
            MedalSError: The model, the device or the server is not to be had; says why and what to do.
        """
        from MedalSLib.engine import open_engine

        key = (model, device, tuple(sorted(options.items())))
        if self._engineKey != key:
            self.closeEngine()
            self._engine = open_engine(model, device, **options)
            self._engineKey = key
        return self._engine

    def segment(self, volumeNode, prompts, segmentationNode=None, modality=None, model="starter", cancel=None):
        """Segment structures by name; the application stays responsive until the call returns.

        Args:
            volumeNode: Scalar volume.
            prompts: Names, one text with commas or a list.
            segmentationNode: Where the results go; None for a new segmentation.
            modality: "CT", "MRI", "US", "PET" or "Microscopy"; None to guess it.
            model: Model name, folder or server URL.
            cancel: threading.Event that stops the run.

        Returns:
            MedalSLib.slicer.request.RunOutcome.

        Raises:
            MedalSError: Says what went wrong and what to do; every segment is as it was before.
        """
        from MedalSLib.slicer.request import NodeRequest

        phrases = (prompts,) if isinstance(prompts, str) else tuple(prompts)
        request = NodeRequest(volumeNode, segmentationNode, phrases, modality)
        return self.runner.run(self.engine(model), request, cancel=cancel or threading.Event())

    def closeEngine(self):
        """Free the model, or end the session on the server."""
        if self._runner is not None:
            self._runner.closeSession()
        if self._engine is not None:
            self._engine.close()
        self._engine = self._engineKey = None

    def close(self):
        """Free everything."""
        self.closeEngine()
        if self._runner is not None:
            self._runner.close()
        self._runner = None


class MedalSTest(ScriptedLoadableModuleTest):
    """Runs in Slicer (Reload and Test, ctest) and in the stand-in host of Testing/."""

    def setUp(self):
        """Start with an empty scene."""
        slicer.mrmlScene.Clear(0)

    def test_results_are_written_and_undone(self):
        """A mask lands in a segment with name, colour and codes, and one undo takes it back."""
        from MedalSLib.slicer.editing import SegmentEditing
        from MedalSLib.slicer.segmentations import addSegmentation
        from MedalSLib.slicer.writer import SegmentWriter

        volumeNode, liver = self.phantom()
        segmentationNode = addSegmentation(volumeNode)
        editing = SegmentEditing(slicer.mrmlScene)
        written = SegmentWriter(segmentationNode, volumeNode, editing).write("Liver", liver)
        segment = segmentationNode.GetSegmentation().GetSegment(written.segmentID)
        self.assertEqual(segment.GetName(), "Liver")
        found = slicer.util.arrayFromSegmentBinaryLabelmap(segmentationNode, written.segmentID, volumeNode)
        self.assertTrue(((found > 0) == liver).all())
        editing.undo()
        self.assertEqual(segmentationNode.GetSegmentation().GetNumberOfSegments(), 0)

    def test_starter_segments_a_phantom(self):
        """The bundled model runs from text to segments, where torch is installed."""
        from MedalSLib.errors import ModelError, ResourceError

        volumeNode, _liver = self.phantom()
        logic = MedalSLogic()
        try:
            outcome = logic.segment(volumeNode, "liver, spleen", modality="CT")
        except (ModelError, ResourceError) as error:
            self.delayDisplay(f"The starter model did not run: {error}")
            return
        finally:
            logic.close()
        self.assertEqual([item.structure for item in outcome.written], ["Liver", "Spleen"])
        self.assertEqual(set(outcome.report.structures), {"Liver", "Spleen"})

    def phantom(self):
        """A body of fat and muscle with a bright ellipsoid on its right side, and that ellipsoid's mask."""
        import numpy as np

        k, j, i = np.ogrid[:40, :64, :64]
        body = ((i - 32) / 30) ** 2 + ((j - 32) / 24) ** 2 < 1
        liver = ((i - 20) / 11) ** 2 + ((j - 30) / 12) ** 2 + ((k - 20) / 10) ** 2 < 1
        array = np.where(liver, 110, np.where(np.broadcast_to(body, (40, 64, 64)), 40, -1000)).astype(np.int16)
        matrix = np.diag([-5.0, -5.0, 5.0, 1.0])
        return slicer.util.addVolumeFromArray(array, matrix, "Phantom"), liver
