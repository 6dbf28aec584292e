"""The qMRML widgets that the panel uses, bound to the scene they are given; names as in Slicer's own headers."""

from __future__ import annotations

from PySide6 import QtCore, QtWidgets

from qt_host.ctk_widgets import ctkExpandableWidget
from qt_host.pythonqt import strict

__all__ = ["qMRMLNodeComboBox", "qMRMLSegmentEditorWidget", "qMRMLSegmentationShow3DButton", "qMRMLWidget"]


def plain(name, default):
    """A property of a C++ class that only keeps its value here."""
    hidden = f"_{name}"

    def put(self, value):
        if not isinstance(value, type(default)) and not (isinstance(default, tuple) and isinstance(value, list)):
            raise TypeError(f"{type(self).__name__}.{name} cannot be set to {value!r}")
        setattr(self, hidden, tuple(value) if isinstance(value, list) else value)

    return property(lambda self: getattr(self, hidden, default), put)


@strict
class qMRMLWidget(QtWidgets.QWidget):
    mrmlSceneChanged = QtCore.Signal(object)

    def mrmlScene(self):
        return getattr(self, "_scene", None)

    def setMRMLScene(self, scene):
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


@strict
class qMRMLNodeComboBox(QtWidgets.QWidget):
    _currentNodeChanged = QtCore.Signal(object)
    currentNodeIDChanged = QtCore.Signal(str)
    signatures = {"currentNodeChanged(vtkMRMLNode*)": "_currentNodeChanged"}  # noqa: RUF012

    nodeTypes = plain("nodeTypes", ())
    hideChildNodeTypes = plain("hideChildNodeTypes", ())
    showChildNodeTypes = plain("showChildNodeTypes", True)
    showHidden = plain("showHidden", False)
    noneEnabled = plain("noneEnabled", False)
    addEnabled = plain("addEnabled", True)
    removeEnabled = plain("removeEnabled", True)
    editEnabled = plain("editEnabled", False)
    renameEnabled = plain("renameEnabled", False)
    selectNodeUponCreation = plain("selectNodeUponCreation", True)
    noneDisplay = plain("noneDisplay", "None")
    baseName = plain("baseName", "")

    def __init__(self, parent=None):
        super().__init__(parent)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._combo = QtWidgets.QComboBox()
        layout.addWidget(self._combo)
        self._scene, self._tags, self._nodes, self._current = None, [], [], None
        self._filling = False
        self._combo.connect("activated(int)", self._activated)

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        for tag in self._tags:
            self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            import slicer

            kind = type(scene) if hasattr(type(scene), "NodeAddedEvent") else slicer.vtkMRMLScene
            events = (kind.NodeAddedEvent, kind.NodeRemovedEvent, kind.EndCloseEvent)
            self._tags = [scene.AddObserver(event, lambda *_: self._fill()) for event in events]
        self._fill()

    def currentNode(self):
        return self._current

    @property
    def currentNodeID(self):
        return self._current.GetID() if self._current is not None else ""

    def setCurrentNodeID(self, identifier):
        self.setCurrentNode(self._scene.GetNodeByID(identifier) if self._scene is not None and identifier else None)

    def setCurrentNode(self, node):
        if node is not None and node not in self._nodes:
            self._fill()
        node = node if node in self._nodes else None
        if node is None and not self.noneEnabled and self._nodes:
            node = self._nodes[0]
        changed = node is not self._current
        self._current = node
        self._combo.setCurrentIndex(self._index())
        if changed:
            self._currentNodeChanged.emit(node)
            self.currentNodeIDChanged.emit(self.currentNodeID)

    def nodeCount(self):
        return len(self._nodes)

    def nodeFromIndex(self, index):
        return self._nodes[index] if 0 <= index < len(self._nodes) else None

    def _index(self):
        first = 1 if self.noneEnabled else 0
        return self._nodes.index(self._current) + first if self._current is not None else 0

    def _activated(self, index):
        first = 1 if self.noneEnabled else 0
        self.setCurrentNode(self._nodes[index - first] if index >= first and self._nodes else None)

    def _fill(self):
        if self._scene is None:
            return
        self._nodes = [
            node
            for kind in self.nodeTypes
            for node in (
                self._scene.GetNthNodeByClass(index, kind) for index in range(self._scene.GetNumberOfNodesByClass(kind))
            )
            if not any(node.IsA(kind) for kind in self.hideChildNodeTypes)
            and (self.showHidden or not node.GetHideFromEditors())
        ]
        self._combo.clear()
        self._combo.addItems([self.noneDisplay] * self.noneEnabled + [node.GetName() for node in self._nodes])
        self.setCurrentNode(self._current if self._current in self._nodes else None)


@strict
class qMRMLSegmentationShow3DButton(QtWidgets.QPushButton):
    """Makes surfaces when it is pressed, and takes them away; its menu is left out."""

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setCheckable(True)
        self._node = None
        self.connect("toggled(bool)", self._toggled)

    def setSegmentationNode(self, node):
        self._node = node
        blocked = self.blockSignals(True)
        self.setChecked(node is not None and node.GetSegmentation().ContainsRepresentation("Closed surface"))
        self.blockSignals(blocked)

    def _toggled(self, on):
        if self._node is not None and on:
            self._node.CreateClosedSurfaceRepresentation()
        elif self._node is not None:
            self._node.RemoveClosedSurfaceRepresentation()


class Effect:
    """A tool of the Segment Editor, as far as its name."""

    def __init__(self, name):
        self.name = name


@strict
class qMRMLSegmentEditorWidget(qMRMLWidget):
    segmentationNodeSelectorVisible = plain("segmentationNodeSelectorVisible", True)
    sourceVolumeNodeSelectorVisible = plain("sourceVolumeNodeSelectorVisible", True)
    unorderedEffectsVisible = plain("unorderedEffectsVisible", True)
    undoEnabled = plain("undoEnabled", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        import slicer

        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._states = 10
        self._logic.SetMaximumNumberOfUndoStates(self._states)
        self._node = None
        self._effect = None
        self._shortcuts = False
        self._observing = False
        self._draw()

    def setMRMLScene(self, scene):
        self._logic.SetMRMLScene(scene)
        super().setMRMLScene(scene)

    def mrmlSegmentEditorNode(self):
        return self._node

    def setMRMLSegmentEditorNode(self, node):
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        self.updateWidgetFromMRML()

    @property
    def maximumNumberOfUndoStates(self):
        return self._states

    def setMaximumNumberOfUndoStates(self, count):
        self._states = count
        self._logic.SetMaximumNumberOfUndoStates(count)

    def segmentationNode(self):
        return self._node.GetSegmentationNode() if self._node is not None else None

    def sourceVolumeNode(self):
        return self._node.GetSourceVolumeNode() if self._node is not None else None

    def setSegmentationNode(self, node):
        if self._node is not None:
            self._node.SetAndObserveSegmentationNode(node)
            self._logic.SetSegmentEditorNode(self._node)
            self.updateWidgetFromMRML()

    def setSourceVolumeNode(self, node):
        if node is not None and self.segmentationNode() is None:
            raise AssertionError("Slicer warns when the volume is set before the segmentation")
        if self._node is not None:
            self._node.SetAndObserveSourceVolumeNode(node)

    def currentSegmentID(self):
        return (self._node.GetSelectedSegmentID() or "") if self._node is not None else ""

    def setCurrentSegmentID(self, segmentID):
        self._node.SetSelectedSegmentID(segmentID)

    def setEffectNameOrder(self, names):
        if not all(isinstance(name, str) for name in names):
            raise TypeError("effect names are texts")

    def activeEffect(self):
        return self._effect

    def setActiveEffect(self, effect):
        if effect is not None and not isinstance(effect, Effect):
            raise TypeError("that is no effect")
        self._effect = effect
        if self._node is not None:
            self._node.SetActiveEffectName(effect.name if effect is not None else "")

    def setActiveEffectByName(self, name):
        if not isinstance(name, str):
            raise TypeError("an effect's name is a text")
        self.setActiveEffect(Effect(name) if name else None)

    def installKeyboardShortcuts(self, parent=None):
        self._shortcuts = True

    def uninstallKeyboardShortcuts(self):
        self._shortcuts = False

    def setupViewObservations(self):
        self._observing = True

    def removeViewObservations(self):
        self._observing = False

    def saveStateForUndo(self):
        self._logic.SaveStateForUndo()

    def undo(self):
        self._logic.Undo()
        self.updateWidgetFromMRML()

    def redo(self):
        self._logic.Redo()
        self.updateWidgetFromMRML()

    def updateWidgetFromMRML(self):
        self._list.clear()
        node = self.segmentationNode()
        if node is not None:
            segmentation = node.GetSegmentation()
            for segmentID in segmentation.GetSegmentIDs():
                segment = segmentation.GetSegment(segmentID)
                item = QtWidgets.QListWidgetItem(segment.GetName())
                from PySide6 import QtGui

                item.setIcon(_swatch(QtGui.QColor.fromRgbF(*segment.GetColor())))
                self._list.addItem(item)

    def _draw(self):
        """Roughly what the real one looks like, so that pictures of the panel are true to size."""
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        row = QtWidgets.QHBoxLayout()
        for text in ("Add", "Remove", "Show 3D", "Segmentations..."):
            row.addWidget(QtWidgets.QPushButton(text))
        layout.addLayout(row)
        frame = ctkExpandableWidget()
        frame.setObjectName("SegmentsTableResizableFrame")
        self._list = QtWidgets.QListWidget()
        self._list.setMaximumHeight(110)
        QtWidgets.QVBoxLayout(frame).addWidget(self._list)
        layout.addWidget(frame)
        tools = QtWidgets.QHBoxLayout()
        for text in ("Paint", "Draw", "Erase", "Level tracing", "Scissors", "Undo", "Redo"):
            button = QtWidgets.QToolButton()
            button.setText(text)
            tools.addWidget(button)
            if text in ("Undo", "Redo"):
                button.setObjectName(f"{text}Button")
                button.connect("clicked()", getattr(self, text.lower()))
        tools.addStretch(1)
        layout.addLayout(tools)


def _swatch(color):
    from PySide6 import QtGui

    pixmap = QtGui.QPixmap(12, 12)
    pixmap.fill(color)
    return QtGui.QIcon(pixmap)
