"""Slicer's slice and 3-D views, drawn offscreen by its own displayable managers, for pictures of a story."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

SLICES = (("Red", "Axial"), ("Green", "Coronal"))
_SLICE_MANAGERS = ("vtkMRMLSegmentationsDisplayableManager2D",)
_SCENE_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
)
_LAYOUT_3D = "1"
_TILT_DEGREES = 15


@dataclass
class _View:
    window: Any
    renderer: Any
    group: Any
    logic: Any = None
    image: Any = None


class Views:
    """An axial, a coronal and a 3-D view on the host's scene, as the application's window has them.

    Args:
        host: The running host.
        side: Width and height of each view in pixels.
    """

    def __init__(self, host: Any, side: int = 400) -> None:
        self._host = host
        self._side = side
        for name in ("vtkMRMLInteractionNode", "vtkMRMLSelectionNode"):  # every Slicer scene has them
            host.scene.AddNode(getattr(host.slicer, name)())
        self._slices = [self._slice(layout, orientation) for layout, orientation in SLICES]
        self._space = self._three_d()

    def show(self, volumeNode: Any, window: float = 1500.0, level: float = -400.0) -> None:
        """Show a volume in the slice views, as it is when a user loads it; the default window is made for a chest."""
        display = volumeNode.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevel(window, level)
        for view in self._slices:
            view.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volumeNode.GetID())
            view.logic.FitSliceToBackground()

    def renew(self) -> None:
        """Let the displayable managers look at the scene anew: they do not outlive another scene being read."""
        for view, names in (*((one, _SLICE_MANAGERS) for one in self._slices), (self._space, _SCENE_MANAGERS)):
            node = view.group.GetMRMLDisplayableNode()
            view.group.SetMRMLDisplayableNode(None)
            view.group = self._managers(names, view.renderer, node)

    def offsets(self) -> tuple[float, ...]:
        """Return where the slices lie, in mm."""
        return tuple(view.logic.GetSliceOffset() for view in self._slices)

    def images(self) -> list[np.ndarray]:
        """Return what the views show now: RGB (height, width, 3), bytes; the 3-D view if there is a surface."""
        for view in self._slices:
            view.image.SetInputConnection(view.logic.GetImageDataConnection())
        nodes = self._host.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        if not any(node.GetSegmentation().ContainsRepresentation("Closed surface") for node in nodes):
            return [_grab(view.window) for view in self._slices]
        camera = self._space.renderer.GetActiveCamera()
        camera.SetPosition(0, 1, 0)
        camera.SetFocalPoint(0, 0, 0)
        camera.SetViewUp(0, 0, 1)
        camera.Azimuth(_TILT_DEGREES)
        camera.Elevation(_TILT_DEGREES)
        self._space.renderer.ResetCamera()
        camera.Zoom(1.3)
        return [_grab(view.window) for view in (*self._slices, self._space)]

    def close(self) -> None:
        """Take the views away; the scene may be emptied after that."""
        logics = self._host.applicationLogic.GetSliceLogics()
        for view in (*self._slices, self._space):
            view.group.SetMRMLDisplayableNode(None)
            if view.logic is not None:
                logics.RemoveItem(view.logic)
                view.logic.SetMRMLScene(None)
            view.window.Finalize()

    def _slice(self, layout: str, orientation: str) -> _View:
        import vtk

        slicer, application = self._host.slicer, self._host.applicationLogic
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        application.GetSliceLogics().AddItem(logic)
        logic.SetMRMLScene(self._host.scene)
        node = logic.AddSliceNode(layout)
        node.SetOrientation(orientation)
        logic.ResizeSliceNode(self._side, self._side)
        window, renderer = self._window()
        mapper = vtk.vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        image = vtk.vtkActor2D()
        image.SetMapper(mapper)
        image.GetProperty().SetDisplayLocationToBackground()
        renderer.AddViewProp(image)
        return _View(window, renderer, self._managers(_SLICE_MANAGERS, renderer, node), logic, mapper)

    def _three_d(self) -> _View:
        scene = self._host.scene
        node = scene.CreateNodeByClass("vtkMRMLViewNode")
        node.UnRegister(None)
        node.SetSingletonTag(_LAYOUT_3D)
        node.SetBoxVisible(False)
        node.SetAxisLabelsVisible(False)
        window, renderer = self._window()
        return _View(window, renderer, self._managers(_SCENE_MANAGERS, renderer, scene.AddNode(node)))

    def _window(self) -> tuple[Any, Any]:
        import vtk

        window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
        window.SetOffScreenRendering(True)
        window.SetSize(self._side, self._side)
        window.AddRenderer(renderer)
        interactor = vtk.vtkRenderWindowInteractor()
        interactor.SetRenderWindow(window)
        return window, renderer

    def _managers(self, names: tuple[str, ...], renderer: Any, node: Any) -> Any:
        group = self._host.slicer.vtkMRMLDisplayableManagerGroup()
        group.SetRenderer(renderer)
        for name in names:
            manager = getattr(self._host.slicer, name)()
            manager.SetMRMLApplicationLogic(self._host.applicationLogic)
            group.AddDisplayableManager(manager)
        group.SetMRMLDisplayableNode(node)
        return group


def _grab(window: Any) -> np.ndarray:
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy

    window.Render()
    reader = vtk.vtkWindowToImageFilter()
    reader.SetInput(window)
    reader.ReadFrontBufferOff()
    reader.Update()
    image = reader.GetOutput()
    width, height, _ = image.GetDimensions()
    pixels = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)
    return np.ascontiguousarray(pixels[::-1, :, :3])
