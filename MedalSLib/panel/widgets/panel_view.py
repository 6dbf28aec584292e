"""The whole panel: badge, three pages, and what happens when the module is shown or left and a scene closes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import ctk
import qt
import slicer
import vtk

from MedalSLib.panel.engines import Factory, defaultFactories
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.install import packages
from MedalSLib.panel.install.host import SlicerHost
from MedalSLib.panel.install.system import SystemFacts, gather, tryIndex
from MedalSLib.panel.jobs import BackgroundJobs
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.presenters import Presenters
from MedalSLib.panel.widgets.engine_page import EnginePage
from MedalSLib.panel.widgets.inputs_view import InputsView
from MedalSLib.panel.widgets.install_page import InstallPage
from MedalSLib.panel.widgets.options_view import OptionsView
from MedalSLib.panel.widgets.prompt_view import PromptView
from MedalSLib.panel.widgets.refine_view import RefineView
from MedalSLib.panel.widgets.run_view import RunView
from MedalSLib.panel.widgets.scene_observer import SceneObserver
from MedalSLib.panel.widgets.setup_view import SetupView
from MedalSLib.panel.widgets.structures_view import StructuresView
from MedalSLib.panel.widgets.tools import EventFilter, guarded, named, sideBySide, stacked
from MedalSLib.panel.workspace import Workspace

EDITOR_TAG = "MedalSEditor"
ESTIMATE_DELAY_MS = 700
REFRESH_DELAY_MS = 150
SEGMENT, ENGINE, INSTALL = range(3)
LIGHTS = {"ready": "●", "idle": "○", "problem": "⚠"}


class PanelView:
    """Builds presenters and widgets; installs, loads and asks nothing.

    Args:
        logic: The module's logic: `parameters`, `runner`, `useEditor(editorNode, saveStateForUndo)`.
        factories: How engines are opened, by kind; None for the real ones.

    Attributes:
        widget: The QWidget to be put into the module's layout.
        model: The presenters.
    """

    def __init__(self, logic: Any, factories: Mapping[str, Factory] | None = None) -> None:
        self._logic = logic
        self._active = False
        self._wasBusy = False
        self._workspace = Workspace(logic, self._saveState)
        settings = Settings(qt.QSettings())
        pump = slicer.app.processEvents
        self._jobs = BackgroundJobs(pump)

        def facts() -> SystemFacts:
            version = (int(slicer.app.majorVersion), int(slicer.app.minorVersion))
            return gather(version, packages.names(packages.requirements()), tryIndex)

        self.model = Presenters(
            self._workspace,
            settings,
            self._jobs,
            pump,
            lambda: importlib.import_module("MedalSLib.network.registry"),
            factories or defaultFactories(),
            SlicerHost(pump),
            facts,
        )
        self._build()
        self._editorTag: tuple[Any, int] | None = None
        self._observer = SceneObserver(slicer.mrmlScene, self._sceneClosing, self._sceneChanged)
        self.model.run.changed.connect(self._stateChanged)
        self.model.engines.changed.connect(self._showBadge)
        self.model.prompt.changed.connect(self._later)
        self.model.spatial.changed.connect(self._later)
        self._useScene()

    def enter(self) -> None:
        """The module is shown: shortcuts work, views are observed, defaults are chosen."""
        self._active = True
        for shortcut in self._shortcuts:
            shortcut.setEnabled(True)
        self.refine.editor.setupViewObservations()
        self.refine.editor.installKeyboardShortcuts()
        self.model.models.refresh()
        self.setup.entered()
        self.refresh()
        self.prompt.edit.setFocus()

    def exit(self) -> None:
        """Another module is shown: nothing of ours reacts to keys or mouse any more."""
        self._active = False
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
        self.model.run.compare(False)
        self.refine.editor.setActiveEffect(None)
        self.refine.editor.uninstallKeyboardShortcuts()
        self.refine.editor.removeViewObservations()

    def cleanup(self) -> None:
        """The module is closed for good."""
        self.exit()
        self._estimateTimer.stop()
        self._refreshTimer.stop()
        self._observer.close()
        self._release()
        self.model.close()
        self.inputs.setScene(None)
        self.refine.editor.setMRMLScene(None)
        self._jobs.close()

    def refresh(self) -> None:
        """Choose defaults, read the nodes again and show them."""
        if self.model.run.busy or slicer.mrmlScene.IsClosing():
            return
        self._workspace.chooseDefaults()
        self._observer.follow(self._workspace.state.segmentation, self._workspace.state.volume)
        self._editNodes()
        self.model.refresh()
        self.prompt.update()
        self.options.update()
        self._later()

    def _build(self) -> None:
        model = self.model
        self._light = named(qt.QLabel(), "badge", _("Device"))
        self._light.wordWrap = True
        self.inputs = InputsView(model, self.refresh)
        self.prompt = PromptView(model.prompt, model.run.run, self._paintByHand, self._useModel)
        self.setup = SetupView(model, lambda: self.tabs.setCurrentIndex(INSTALL))
        self.run = RunView(model)
        self.refine = RefineView(model)
        self.structures = StructuresView(model, self.refine.editor.setCurrentSegmentID)
        self.options = OptionsView(model)
        page = stacked(
            self.inputs.widget,
            self.prompt.widget,
            self.setup.widget,
            self.run.widget,
            self.structures.widget,
            self.refine.widget,
            self._section(_("All tools of the Segment Editor"), self.refine.editor, "editorSection"),
            self._section(_("Options"), self.options.widget, "optionsSection"),
        )
        page.layout().setContentsMargins(4, 6, 4, 4)
        page.layout().setSpacing(4)
        page.layout().addStretch(1)
        self._fonts = EventFilter(self._fontChanged)
        page.installEventFilter(self._fonts)
        self.prompt.place(page)
        self.engine = EnginePage(model)
        self.install = InstallPage(model)
        self.tabs = named(qt.QTabWidget(), "pages", _("Pages of Medal S"))
        for widget, text in (
            (page, _("Segment")),
            (self.engine.widget, _("Engine")),
            (self.install.widget, _("Install")),
        ):
            self.tabs.addTab(widget, text)
        self._hint = qt.QToolButton()
        self._hint.text = _("Set up …")
        named(self._hint, "setupButton", _("Set up"), _("Opens the page on which the engine is installed or chosen"))
        self._hint.connect("clicked()", guarded(self._openSetup))
        self.widget = named(stacked(self._head(), self.tabs), "MedalSPanel", _("Medal S"))
        run = model.run
        self._shortcuts = [self._shortcut(keys, run.run) for keys in ("Ctrl+Return", "Ctrl+Enter")]
        # These are pressed while the mouse is over a slice view; a field that is typed into keeps its letters.
        for keys, function in {**self.refine.keys, "N": self._askHere}.items():
            self._shortcuts.append(self._shortcut(keys, function, qt.Qt.ApplicationShortcut))
        self._estimateTimer = self._timer(ESTIMATE_DELAY_MS, model.run.updateEstimate)
        self._refreshTimer = self._timer(REFRESH_DELAY_MS, self.refresh)
        self._showBadge()

    def _head(self) -> qt.QWidget:
        head = sideBySide(self._light, self._hint, stretch=False)
        head.layout().setStretch(0, 1)
        head.layout().setContentsMargins(6, 2, 6, 2)
        return head

    def _fontChanged(self, event: qt.QEvent) -> bool:
        if event.type() == qt.QEvent.FontChange:
            self.structures.fit()
        return False

    def _section(self, text: str, content: qt.QWidget, name: str) -> ctk.ctkCollapsibleButton:
        section = ctk.ctkCollapsibleButton()
        section.text = text
        section.objectName = name
        layout = qt.QVBoxLayout(section)
        layout.addWidget(content)
        section.collapsed = True
        return section

    def _shortcut(
        self, keys: str, function: Callable[[], None], context: int = qt.Qt.WidgetWithChildrenShortcut
    ) -> qt.QShortcut:
        shortcut = qt.QShortcut(qt.QKeySequence(keys), self.widget)
        shortcut.setContext(context)
        shortcut.connect("activated()", guarded(function))
        shortcut.setEnabled(False)
        return shortcut

    def _timer(self, milliseconds: int, function: Callable[[], None]) -> qt.QTimer:
        timer = qt.QTimer(self.widget)
        timer.setSingleShot(True)
        timer.setInterval(milliseconds)
        timer.connect("timeout()", guarded(function))
        return timer

    def _useScene(self) -> None:
        """Give scene and editor node to the widgets; the node first, so that the editor's defaults are kept in it."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = scene.AddNode(node)
        self.refine.editor.setMRMLSegmentEditorNode(node)
        self.refine.editor.setMRMLScene(scene)
        self.inputs.setScene(scene)
        self._logic.useEditor(node, self._saveState)
        # What a segment is before its first stroke is known only while it is chosen and not painted yet.
        self._release()
        self._editorTag = (node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, guarded(self._editorChanged)))

    def _editorChanged(self, *_args: object) -> None:
        if not self.model.run.busy and not slicer.mrmlScene.IsClosing():
            self._workspace.see()
        self.refine.showEffect()
        self.structures.select(self.refine.editor.currentSegmentID())

    def _release(self) -> None:
        if self._editorTag is not None:
            node, tag = self._editorTag
            node.RemoveObserver(tag)
            self._editorTag = None

    def _paintByHand(self, name: str) -> None:
        """Add a segment for a structure and give the user the brush."""
        volume = self.model.volume
        if self.model.run.busy or volume is None or volume.problem:
            return
        segmentID = self._workspace.addByHand(name)
        self.refresh()
        self.refine.editor.setCurrentSegmentID(segmentID)
        self.refine.take("Paint")

    def _askHere(self) -> None:
        """Offer what the model finds under the mouse."""
        names = self.model.run.namesHere()
        if names:
            self.prompt.offer(names, self._take)

    def _take(self, name: str) -> None:
        """Segment a structure that was pointed at; choose its segment if there is one."""
        there = next((row.segmentID for row in self.model.spatial.rows if row.structure == name and not row.empty), "")
        if there:
            self.refine.editor.setCurrentSegmentID(there)
            return
        self.model.prompt.addPreset(name)
        self.model.run.run()

    def _useModel(self, name: str) -> None:
        """Run a model that is ready from now on, or show one that can be had, with its licence."""
        if any(row.name == name and row.usable for row in self.model.models.rows):
            self.model.models.choose(name)
        else:
            self.tabs.setCurrentIndex(ENGINE)
            self.engine.models.offer(name)

    def _editNodes(self) -> None:
        """Show the chosen segmentation and volume in the editor, the segmentation first."""
        state, editor = self._workspace.state, self.refine.editor
        editor.setSegmentationNode(state.segmentation)
        if state.segmentation is not None:
            editor.setSourceVolumeNode(state.volume)
        editor.updateWidgetFromMRML()
        self.refine.surfaces.setSegmentationNode(state.segmentation)

    def _saveState(self) -> None:
        self.refine.editor.saveStateForUndo()

    def _stateChanged(self) -> None:
        busy = self.model.run.busy
        if busy:
            self.prompt.completions.hide()
        if self._wasBusy and not busy:
            self._sceneChanged()
        self._wasBusy = busy

    def _sceneClosing(self) -> None:
        self.model.prompt.remember()
        self.model.run.forget()
        self.refine.editor.setActiveEffect(None)

    def _sceneChanged(self, closed: bool = False) -> None:
        if closed:
            self._workspace.sceneClosed()
            self._useScene()
        if self._active:
            self._refreshTimer.start()

    def _later(self) -> None:
        if self._active:
            self._estimateTimer.start()

    def _showBadge(self) -> None:
        badge = self.model.engines.badge
        detail = f" - {badge.detail}" if badge.detail else ""
        self._light.text = f"{LIGHTS[badge.level]} {badge.text}{detail}"
        self._light.toolTip = badge.detail
        self._light.setAccessibleDescription(badge.detail)
        self._hint.setVisible(badge.level == "problem")

    def _openSetup(self) -> None:
        local = not self.model.engines.isRemote and not self.model.install.isInstalled
        self.tabs.setCurrentIndex(INSTALL if local else ENGINE)
