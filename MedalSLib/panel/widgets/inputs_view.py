"""Volume, modality, segmentation, region and frames."""

from __future__ import annotations

from collections.abc import Callable

import qt
import slicer

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.inputs import modalityChoices, modalityMessage, volumeMessage
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.volume_facts import VolumeFacts
from MedalSLib.panel.widgets.tools import (
    button,
    choices,
    guarded,
    named,
    onChoice,
    say,
    sideBySide,
    stacked,
    textLabel,
)


class InputsView:
    """The selectors.

    Args:
        model: The presenters.
        onNodes: Called when the user chose another node.
    """

    def __init__(self, model: Presenters, onNodes: Callable[[], None]) -> None:
        self._model = model
        self._onNodes = onNodes
        self._showing = False
        self._details = qt.QWidget()
        self._grid = qt.QGridLayout(self._details)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setColumnStretch(1, 1)
        self.volume = self._selector(
            "volumeSelector", "volume", ["vtkMRMLScalarVolumeNode"], _("Volume"), _("The image to segment")
        )
        self.volume.hideChildNodeTypes = ["vtkMRMLLabelMapVolumeNode"]
        self.volume.noneDisplay = _("Choose an image")
        self._volumeNote = textLabel("volumeNote")
        self.modality = named(qt.QComboBox(), "modalityCombo", _("Modality"), _("What kind of image it is"))
        onChoice(self.modality, model.prompt.choose)
        self._modalityNote = textLabel("modalityNote")
        self.segmentation = self._selector(
            "segmentationSelector",
            "segmentation",
            ["vtkMRMLSegmentationNode"],
            _("Segmentation"),
            _("Where the results go; segments that are there are kept"),
        )
        self.segmentation.noneDisplay = _("Create a new segmentation")
        self.region = self._selector(
            "regionSelector",
            "region",
            ["vtkMRMLMarkupsROINode"],
            _("Region"),
            _("Results stay within this region of interest"),
        )
        self.region.noneDisplay = _("Whole image")
        self.frames = named(qt.QComboBox(), "framesCombo", _("Frames"), _("Frames of the time series to segment"))
        onChoice(self.frames, self._chooseFrames)
        hint = _("Another image is shown in the slice views than the one that would be segmented")
        self.follow = button(_("Use the image in the views"), hint, self._follow, "followViewsButton")
        self.more = qt.QToolButton()
        self.more.checkable = True
        named(self.more, "detailsButton", _("Details"), _("Modality, output segmentation and region"))
        self.more.connect("toggled(bool)", guarded(lambda _on: self.update(self._model.volume)))
        image = qt.QLabel(_("Image:"))
        image.setBuddy(self.volume)
        first = sideBySide(image, self.volume, self.frames, self.more, stretch=False)
        first.layout().setStretch(1, 1)
        self._row(_("Modality:"), self.modality)
        self._row(_("Segmentation:"), self.segmentation)
        self._row(_("Region:"), self.region)
        self.widget = stacked(first, self.follow, self._volumeNote, self._modalityNote, self._details)
        self.widget.layout().setSpacing(3)
        model.volumeChanged.connect(self.update)
        model.prompt.changed.connect(self._showModality)
        self.update(model.volume)

    def setScene(self, scene: slicer.vtkMRMLScene | None) -> None:
        """Let the selectors show the nodes of a scene."""
        self._showing = True
        for selector in (self.volume, self.segmentation, self.region):
            selector.setMRMLScene(scene)
        self._showing = False

    def update(self, facts: VolumeFacts | None) -> None:
        """Show the state: chosen nodes, facts of the volume."""
        state = self._model.workspace.state
        self._showing = True
        self.volume.setCurrentNode(state.volume)
        self.segmentation.setCurrentNode(state.segmentation)
        self.region.setCurrentNode(state.region)
        self._showing = False
        note = volumeMessage(facts)
        say(self._volumeNote, note)
        self._volumeNote.setVisible(note.level != "info" or facts is None or self.more.checked)
        self._details.setVisible(self.more.checked)
        shown = self._model.workspace.shownInstead()
        self.follow.setVisible(shown is not None)
        if shown is not None:
            self.follow.text = _("The views show {name}: use it").format(name=shown.GetName())
        frames = facts.frames if facts is not None else 1
        self.frames.setVisible(frames > 1)
        labels = (("one", _("This frame")), ("all", _("All {count} frames").format(count=frames)))
        choices(self.frames, labels, "all" if state.allFrames else "one")
        self._showModality()

    def _showModality(self) -> None:
        prompt = self._model.prompt
        choices(self.modality, modalityChoices(prompt.detected), prompt.chosen)
        note = modalityMessage(self._model.volume, prompt.chosen)
        say(self._modalityNote, note)
        self._modalityNote.setVisible(bool(note.text) and (note.level != "info" or self.more.checked))
        self.more.text = f"{prompt.modality or _('Modality?')} {'▴' if self.more.checked else '▾'}"

    def _follow(self) -> None:
        self._model.workspace.state.volume = self._model.workspace.shownInstead()
        self._onNodes()

    def _chooseFrames(self, value: str) -> None:
        self._model.workspace.state.allFrames = value == "all"
        self._onNodes()

    def _row(self, text: str, widget: qt.QWidget) -> None:
        label = qt.QLabel(text)
        label.setBuddy(widget)
        row = self._grid.rowCount()
        self._grid.addWidget(label, row, 0)
        self._grid.addWidget(widget, row, 1)

    def _selector(self, name: str, role: str, kinds: list[str], label: str, hint: str) -> slicer.qMRMLNodeComboBox:
        selector = named(slicer.qMRMLNodeComboBox(), name, label, hint)
        selector.nodeTypes = kinds
        selector.noneEnabled = True
        selector.addEnabled = role == "region"
        selector.removeEnabled = False
        selector.renameEnabled = role != "volume"
        selector.selectNodeUponCreation = role == "region"

        def changed(node: slicer.vtkMRMLNode | None) -> None:
            if not self._showing and getattr(self._model.workspace.state, role) is not node:
                setattr(self._model.workspace.state, role, node)
                self._onNodes()

        selector.connect("currentNodeChanged(vtkMRMLNode*)", guarded(changed))
        return selector
