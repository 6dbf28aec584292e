"""Build the scene, the application logic and the module logics as Slicer does at its start."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slicer_host.terminologies import write_terminologies

STAND_INS = Path(__file__).resolve().parent / "modules"

_host: SlicerHost | None = None


def why_not() -> str:
    """The reason why the host cannot start here, empty if it can."""
    if importlib.util.find_spec("slicer_core") is None:
        return "slicer-core is not installed (pip install 'slicer-core>=5.12', Python 3.10 to 3.13)"
    try:
        importlib.import_module("slicer_core")
    except ImportError as error:  # a system library such as libEGL
        return f"slicer-core cannot be loaded ({error}); on Debian: apt-get install libegl1 libgl1 libxt6"
    return ""


def host() -> SlicerHost:
    """Return the one host of this process; starts it on the first call (about two seconds).

    Raises:
        RuntimeError: slicer-core is missing; `why_not` says it in words.
    """
    global _host
    if _host is None:
        _host = SlicerHost()
    return _host


class SlicerHost:
    """The running stand-in.

    Attributes:
        scene: The real `vtkMRMLScene`, also `slicer.mrmlScene`.
        applicationLogic: The real `vtkSlicerApplicationLogic`.
        logics: Module logics by module name, lower case, as `slicer.modules.<name>.logic()` gives them.
        app: The stand-in of `slicer.app`.
    """

    def __init__(self) -> None:
        reason = why_not()
        if reason:
            raise RuntimeError(reason)
        # Slicer's package looks for further modules in every folder `slicer` without an __init__.py on the path.
        sys.path.insert(0, str(STAND_INS))
        import slicer
        import vtk

        if str(STAND_INS / "slicer") not in slicer.__path__:  # the package was imported before, by another test
            slicer.__path__.append(str(STAND_INS / "slicer"))
        _quiet_terminal(vtk)
        self.slicer: Any = slicer
        self.temporary = tempfile.TemporaryDirectory(prefix="medals-slicer-host-")
        self.scene = slicer.vtkMRMLScene()
        self.applicationLogic = slicer.vtkSlicerApplicationLogic()
        self.applicationLogic.SetMRMLScene(self.scene)
        self._input_output()
        self.applicationLogic.GetColorLogic().SetMRMLScene(self.scene)
        self.applicationLogic.GetColorLogic().AddDefaultColorNodes()
        self.applicationLogic.SetSliceLogics(vtk.vtkCollection())
        self.applicationLogic.SetViewLogics(vtk.vtkCollection())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self.logics = self._module_logics()
        self._observe_nodes()
        self.app = Application(self.applicationLogic, self.temporary.name)
        slicer.mrmlScene = self.scene
        slicer.app = self.app
        slicer.modules = SimpleNamespace(
            **{name: Module(name.capitalize(), logic) for name, logic in self.logics.items()}
        )

    def _input_output(self) -> None:
        slicer = self.slicer
        cache = Path(self.temporary.name, "cache")
        cache.mkdir()
        self.remote_io = slicer.vtkMRMLRemoteIOLogic()
        self.remote_io.SetMRMLScene(self.scene)
        self.remote_io.GetCacheManager().SetRemoteCacheDirectory(str(cache))
        self.data_io = slicer.vtkDataIOManagerLogic()
        self.data_io.SetMRMLApplicationLogic(self.applicationLogic)
        self.data_io.SetAndObserveDataIOManager(self.remote_io.GetDataIOManager())
        self.applicationLogic.SetMRMLSceneDataIO(self.scene, self.remote_io, self.data_io)

    def _module_logics(self) -> dict[str, Any]:
        slicer = self.slicer
        classes = {
            "terminologies": slicer.vtkSlicerTerminologiesModuleLogic,
            "subjecthierarchy": slicer.vtkSlicerSubjectHierarchyModuleLogic,
            "segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
            "volumes": slicer.vtkSlicerVolumesLogic,
            "transforms": slicer.vtkSlicerTransformLogic,
            "markups": slicer.vtkSlicerMarkupsLogic,
            "sequences": slicer.vtkSlicerSequencesLogic,
        }
        names = {"subjecthierarchy": "SubjectHierarchy"}
        self.applicationLogic.SetModuleLogic("Colors", self.applicationLogic.GetColorLogic())
        logics = {"colors": self.applicationLogic.GetColorLogic()}
        for name, cls in classes.items():
            logic = cls()
            if name == "terminologies":  # reads its files when it gets the scene
                folder = Path(self.temporary.name, "terminologies")
                write_terminologies(folder)
                logic.SetModuleShareDirectory(folder.as_posix())
            logic.SetMRMLApplicationLogic(self.applicationLogic)
            logic.SetMRMLScene(self.scene)
            self.applicationLogic.SetModuleLogic(names.get(name, name.capitalize()), logic)
            logics[name] = logic
        return logics

    def _observe_nodes(self) -> None:
        """Give each new data node its subject-hierarchy item and take it away with it, as the plugins do."""
        import vtk

        scene_class, hierarchy_class = self.slicer.vtkMRMLScene, self.slicer.vtkMRMLSubjectHierarchyNode

        def added(_scene: Any, _event: str, node: Any) -> None:
            if node is None or node.GetHideFromEditors() or not node.IsA("vtkMRMLDisplayableNode"):
                return
            hierarchy = hierarchy_class.GetSubjectHierarchyNode(self.scene)
            if hierarchy is not None and not hierarchy.GetItemByDataNode(node):
                hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

        def leaving(_scene: Any, _event: str, node: Any) -> None:
            if node is None or self.scene.IsClosing():
                return
            hierarchy = hierarchy_class.GetSubjectHierarchyNode(self.scene)
            item = hierarchy.GetItemByDataNode(node) if hierarchy is not None else 0
            if item:
                hierarchy.RemoveItem(item, False, False)

        for event, function in ((scene_class.NodeAddedEvent, added), (scene_class.NodeAboutToBeRemovedEvent, leaving)):
            function.CallDataType = vtk.VTK_OBJECT  # VTK reads the type of the call data off the function
            self.scene.AddObserver(event, function)

    def reset(self) -> None:
        """Empty the scene between tests, singletons included."""
        self.app.processed = 0
        self.app.onProcessEvents = None
        self.scene.Clear(True)
        self.applicationLogic.GetColorLogic().AddDefaultColorNodes()
        self.slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)


class Application:
    """`slicer.app`, without Qt: a name that is not here raises AttributeError.

    Attributes:
        processed: How often `processEvents` was called.
        onProcessEvents: Called by `processEvents`, for tests that act in the middle of a run.
    """

    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def __init__(self, logic: Any, temporary: str) -> None:
        self._logic = logic
        self.temporaryPath = temporary
        self.slicerHome = temporary
        self.majorVersion, self.minorVersion, self.revision = 5, 12, "34427"
        self.applicationVersion = "5.12.3"
        self.commandOptions = lambda: SimpleNamespace(noMainWindow=True, testingEnabled=True)
        self.processed = 0
        self.onProcessEvents: Any = None
        self._connections: dict[str, list[Any]] = {"startupCompleted()": [], "aboutToQuit()": []}

    def connect(self, signal: str, function: Any) -> bool:
        """Connect a signal; one that the application does not have raises, where Qt prints a warning."""
        self._connections[signal].append(function)
        return True

    def emit(self, signal: str) -> None:
        """Fire a signal (of the stand-in only)."""
        for function in self._connections[signal]:
            function()

    def applicationLogic(self) -> Any:
        return self._logic

    def processEvents(self) -> None:
        self.processed += 1
        if self.onProcessEvents is not None:
            self.onProcessEvents()

    def testingEnabled(self) -> bool:
        return True

    def translate(self, _context: str, text: str) -> str:
        return text

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"


class Module:
    """`slicer.modules.<name>`: what our code asks of a loaded module."""

    def __init__(self, name: str, logic: Any, path: str = "") -> None:
        self.name = name
        self.path = path
        self._logic = logic

    def logic(self) -> Any:
        return self._logic


def _quiet_terminal(vtk: Any) -> None:
    """Send VTK's messages to the error stream instead of a window; keep its own banner out of the tests' output."""
    os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    output = vtk.vtkOutputWindow()
    output.SetDisplayModeToAlwaysStdErr()
    vtk.vtkOutputWindow.SetInstance(output)
