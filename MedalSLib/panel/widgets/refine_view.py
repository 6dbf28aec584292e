"""Correct: the brush and what goes with it, and below them Slicer's own Segment Editor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import ctk
import qt
import slicer

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.tools import guarded, named, say, sideBySide, silent, stacked, textLabel, tool

UNDO_STATES = 10
EFFECTS = (
    "Paint",
    "Draw",
    "Erase",
    "Level tracing",
    "Grow from seeds",
    "Threshold",
    "Scissors",
    "Islands",
    "Smoothing",
)
_HELD_MS = 700
"""How long a press of a key shows the segments as they were; a key that is held is repeated sooner."""


class RefineView:
    """The tools for corrections.

    Args:
        model: The presenters.

    Attributes:
        widget: The most used tools, in two rows.
        editor: qMRMLSegmentEditorWidget, with all tools.
        keys: What single keys do, while the module is open.
    """

    def __init__(self, model: Presenters) -> None:
        self._model = model
        self._effect = ""
        run = model.run
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.objectName = "segmentEditor"
        self.editor.setMaximumNumberOfUndoStates(UNDO_STATES)
        self.editor.segmentationNodeSelectorVisible = False
        self.editor.sourceVolumeNodeSelectorVisible = False
        self.editor.setEffectNameOrder(list(EFFECTS))
        self.editor.unorderedEffectsVisible = False
        # The panel's own list shows the segments.
        segments = self.editor.findChild(ctk.ctkExpandableWidget, "SegmentsTableResizableFrame")
        if segments is not None:
            segments.hide()
        self._brushes = {
            "Paint": self._brush("Paint", _("Paint (P)"), _("Paint what belongs to the chosen structure")),
            "Erase": self._brush("Erase", _("Erase (E)"), _("Erase what does not belong to the chosen structure")),
            "Draw": self._brush("Draw", _("Lasso (L)"), _("Draw a line around what belongs to the chosen structure")),
        }
        hint = _("Diameter of the brush; Shift and the mouse wheel over a view change it too")
        self._size = named(qt.QSpinBox(), "brushSize", _("Brush"), hint)
        self._size.setRange(1, 200)
        self._size.suffix = _(" mm")
        self._size.setValue(10)
        self._size.connect("valueChanged(int)", guarded(self._resize))
        self._undo = tool(_("Undo"), _("Take back the last stroke or run"), self.editor.undo, "undoButton")
        self._redo = tool(_("Redo"), _("Do again what was taken back"), self.editor.redo, "redoButton")
        hint = _("Show the segments as they were before the last run; hold the key C to look shortly")
        self.compare = tool(_("Before (C)"), hint, lambda: run.compare(not run.comparing), "compareButton")
        self.compare.checkable = True
        hint = _("Take the last run back; Undo brings it back again")
        self.revert = tool(_("Revert"), hint, run.revert, "revertButton")
        self.surfaces = slicer.qMRMLSegmentationShow3DButton()
        self.surfaces.objectName = "surfacesButton"
        self.surfaces.text = _("3-D")
        self.surfaces.toolTip = _("Show the segments in the 3-D view")
        hint = _("The chosen segment is right in the slice under the mouse: no refinement changes it there")
        self.right = tool(_("Slice is right (Shift+S)"), hint, run.sliceIsRight, "sliceIsRightButton")
        hint = _("Go to the slice of the results that is most worth checking")
        self.doubtful = tool(_("Next doubtful (Shift+D)"), hint, run.showDoubtful, "doubtfulButton")
        keys = textLabel("keysLabel")
        say(keys, Message(_("Keys over a view: A add, X take away, N what is here?")))
        brushes = sideBySide(*self._brushes.values(), self._size)
        looks = sideBySide(self._undo, self._redo, self.revert, self.compare, self.surfaces)
        checks = sideBySide(self.right, self.doubtful)
        self.widget = stacked(brushes, looks, checks, keys)
        for row in (brushes, looks, checks):
            row.layout().setSpacing(3)
        self.widget.layout().setSpacing(3)
        self._looking = qt.QTimer(self.widget)
        self._looking.setSingleShot(True)
        self._looking.setInterval(_HELD_MS)
        self._looking.connect("timeout()", guarded(partial(run.compare, False)))
        self.keys: dict[str, Callable[[], None]] = {
            "P": partial(self.take, "Paint"),
            "E": partial(self.take, "Erase"),
            "L": partial(self.take, "Draw"),
            "A": partial(run.click, True),
            "X": partial(run.click, False),
            "C": self.look,
            "Shift+S": run.sliceIsRight,
            "Shift+D": run.showDoubtful,
        }
        run.changed.connect(self.update)
        model.volumeChanged.connect(lambda _facts: self.update())
        self.update()

    def take(self, effect: str) -> None:
        """Take a brush, or put it down if it is in the hand."""
        if self._model.run.busy or self.editor.segmentationNode() is None:
            return
        active = self.editor.activeEffect()
        if active is not None and active.name == effect:
            self.editor.setActiveEffect(None)
        else:
            self.editor.setActiveEffectByName(effect)
            self._resize(self._size.value)
        self.showEffect()

    def look(self) -> None:
        """Show the segments as they were before the last run for a moment: as long as a key is held."""
        if self._model.run.canReview:
            self._model.run.compare(True)
            self._looking.start()

    def showEffect(self) -> None:
        """Show which brush is in the hand, and how large it is."""
        active, node = self.editor.activeEffect(), self.editor.mrmlSegmentEditorNode()
        diameter = node.GetAttribute("BrushAbsoluteDiameter") if node is not None else None
        if diameter:
            with silent(self._size):
                self._size.setValue(round(float(diameter)))
        for name, brush in self._brushes.items():
            with silent(brush):
                brush.setChecked(active is not None and active.name == name)

    def update(self) -> None:
        """Show what can be done now."""
        run, node = self._model.run, self._model.workspace.state.segmentation
        busy = run.busy
        self.widget.setVisible(node is not None)
        for one in (self.compare, self.revert):
            one.enabled = run.canReview
        tools = (*self._brushes.values(), self._size, self._undo, self._redo, self.surfaces, self.right, self.doubtful)
        for other in tools:
            other.enabled = not busy
        if self.compare.checked != run.comparing:
            with silent(self.compare):
                self.compare.setChecked(run.comparing)
        self._rest(busy)
        self.showEffect()

    def _rest(self, busy: bool) -> None:
        if busy and self.editor.enabled:
            # A disabled editor still takes strokes in the views, and the run would write over them.
            effect = self.editor.activeEffect()
            self._effect = "" if effect is None else effect.name
            self.editor.setActiveEffect(None)
        elif not busy and not self.editor.enabled and self._effect:
            self.editor.setActiveEffectByName(self._effect)
        self.editor.enabled = not busy

    def _brush(self, effect: str, text: str, hint: str) -> qt.QToolButton:
        brush = tool(text, hint, partial(self.take, effect), f"{effect.lower()}Button")
        brush.checkable = True
        return brush

    def _resize(self, diameter_mm: int) -> None:
        node = self.editor.mrmlSegmentEditorNode()
        if node is not None:
            node.SetAttribute("BrushDiameterIsRelative", "0")
            node.SetAttribute("BrushAbsoluteDiameter", str(diameter_mm))
