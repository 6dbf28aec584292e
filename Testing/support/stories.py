"""A user at the panel: a real chest CT, the starter model, three views, and what hands and eyes do with them.

A story acts through widgets and through the Segment Editor's own logic, asserts what the user cares about, and leaves
pictures of panel and views: in the folder MEDALS_SCREENSHOTS if that is set, with few enough colours for the
documentation, else among pytest's temporary files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PANEL_WIDTH = 480
VIEW_SIDE = 380
_FRAME = 80
_BETWEEN_STRUCTURES = 0.3
"""Seconds in which the window can be looked at."""
Crop = tuple[slice, slice, slice]
LOWER: Crop = (slice(0, 25), slice(1, 127), slice(1, 127))
"""The lower 250 mm of the chest (K, J, I): both lungs, heart and upper liver in a single patch of the starter."""
UPPER: Crop = (slice(8, 33), slice(1, 127), slice(1, 127))
LUNGS = ("Left lung", "Right lung")


def data_folder() -> Path:
    """Folder of slicerio's images; the story is skipped without it."""
    slicerio = pytest.importorskip("slicerio")
    return Path(slicerio.__file__).parent / "data"


class LastingEngine:
    """An engine that stays open when a panel closes it: opened once, used in many stories."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def open_session(self, *image: Any, **options: Any) -> Any:
        """Open an image; structures of its runs come one by one, however the model computes them."""
        session = self._engine.open_session(*image, **options)
        run = session.run

        def unhurried(request: Any, *, on_structure: Any = None, **hooks: Any) -> Any:
            def tell(name: str, mask: Any) -> None:
                on_structure(name, mask)
                time.sleep(_BETWEEN_STRUCTURES)

            return run(request, on_structure=on_structure and tell, **hooks)

        session.run = unhurried
        return session

    @property
    def in_parts(self) -> bool:
        """Whether the model computes lungs and aorta one after the other, each in a window of its own."""
        return "CT" not in self._engine.model.manifest.windows

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(scope="session")
def starter() -> Iterator[LastingEngine]:
    """The bundled starter, in this process."""
    pytest.importorskip("torch")
    from MedalSLib.engine import open_engine

    with open_engine("starter") as engine:
        yield LastingEngine(engine)


@pytest.fixture
def story(bench: Any, starter: LastingEngine, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Story]:
    """A user before the panel, with an empty scene and three views."""
    made = Story(bench, lambda _choice, _cancel: starter, tmp_path, request.node.name.removeprefix("test_"))
    yield made
    made.close()


class Story:
    """See the module.

    Args:
        bench: The panel of `Testing/panel/conftest.py`; its phantom is taken out of the scene.
        open_engine: Opens engines of every kind.
        folder: For files and pictures.
        title: Begins the names of pictures.
    """

    def __init__(self, bench: Any, open_engine: Callable[[Any, Any], Any], folder: Path, title: str) -> None:
        from slicer_host.views import Views

        self.bench, self.panel, self.slicer = bench, bench.panel, bench.slicer
        self.scene = bench.slicer.mrmlScene
        self.scene.RemoveNode(bench.ct)
        self._folder, self._title = folder, title
        self.use_engine(open_engine)
        self.views = Views(bench.host, VIEW_SIDE)
        bench.settle()

    # what is in the scene

    def use_engine(self, open_engine: Callable[[Any, Any], Any]) -> None:
        """Let the panel open engines of every kind in this way."""
        self.bench.model.engines.factories = dict.fromkeys(("isolated", "in-process", "remote"), open_engine)

    def load_chest(self, crop: Crop | None = LOWER, name: str = "CTChest4") -> Any:
        """Load the chest CT, or a part of it, as Slicer does: below a patient's study, shown in the slice views."""
        node = _read_volume(self.scene, data_folder() / "CTChest4.nrrd", name)
        if crop is not None:
            _crop(node, crop)
        hierarchy = self.slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(self.scene)
        patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), f"Patient of {name}")
        study = hierarchy.CreateStudyItem(patient, f"Study of {name}")
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), study)
        self.views.show(node)
        self.bench.settle()
        return node

    def truth(self, volume: Any) -> dict[str, np.ndarray]:
        """Return the lungs that a person drew, (K, J, I) on the grid of the volume, by published name."""
        from MedalSLib.slicer.volumes import gridOf
        from MedalSLib.volume.resample import resample_mask
        from MedalSLib.volume.segmentation_reading import read_segmentation

        drawn = read_segmentation(data_folder() / "Segmentation.seg.nrrd")
        masks = {one.name: one.mask for one in drawn.segments}
        return {name: resample_mask(masks[name.casefold()], drawn.grid, gridOf(volume)) for name in LUNGS}

    @property
    def segmentation(self) -> Any:
        """The segmentation that is chosen in the panel."""
        return self.bench.logic.parameters.segmentation

    def shown(self) -> int:
        """Return how many segments there are in the scene."""
        nodes = self.slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        return sum(node.GetSegmentation().GetNumberOfSegments() for node in nodes)

    def masks(self, segmentation: Any, volume: Any) -> dict[str, np.ndarray]:
        """Return every segment as Slicer exports it, (K, J, I) on the grid of a volume, by name."""
        from slicer_host.phantoms import slicerSays

        inside = segmentation.GetSegmentation()
        return {
            inside.GetSegment(one).GetName(): slicerSays(segmentation, one, volume) for one in inside.GetSegmentIDs()
        }

    def draw(self, volume: Any, name: str, mask: np.ndarray, segmentation: Any = None) -> Any:
        """Add a segment of the user's own, in a segmentation of his own unless one is given; returns that."""
        from slicer_host.phantoms import draw

        node = segmentation
        if node is None:
            node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode", self.scene.GenerateUniqueName("My drawing"))
            node.CreateDefaultDisplayNodes()
            node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        draw(node, volume, name, mask)
        self.bench.settle()
        return node

    # what hands do

    def type(self, text: str) -> None:
        """Type into the prompt field and leave it, so that no completion hides what is below."""
        self.bench.type(text)
        self.bench.view.prompt.completions.hide()

    def clear(self) -> None:
        """Choose Clear in the menu beside the field."""
        menu = self.bench.find("presetsButton").menu()
        menu.aboutToShow.emit()
        menu.actions()[-1].trigger()
        self.bench.settle()

    def turn_to(self, page: str) -> None:
        """Open a page of the panel by its title."""
        tabs = self.bench.view.tabs
        titles = [tabs.tabText(index) for index in range(tabs.count)]
        tabs.setCurrentIndex(titles.index(page))
        self.bench.settle()

    def press(self, name: str) -> None:
        """Press an enabled, visible button."""
        button = self.bench.find(name)
        assert button.visible and button.enabled, f"{name} cannot be pressed"
        button.click()
        self.bench.settle()

    def choose(self, name: str, value: str) -> None:
        """Choose an entry of a combo box by its value."""
        combo = self.bench.find(name)
        index = combo.findData(value)
        assert index >= 0, f"{name} does not offer {value}"
        combo.setCurrentIndex(index)
        combo.activated.emit(index)
        self.bench.settle()

    def run(self, button: str = "runButton") -> None:
        """Press Segment, or another button that runs, and wait for the end."""
        self.press(button)
        self.bench.during = None
        assert self.bench.model.run.state == "idle"

    def start_over(self) -> None:
        """Press Start over, which is offered where segments were corrected."""
        assert "replace your corrections" in self.bench.find("replacedLabel").text
        self.run("startOverButton")

    def once(self, moment: Callable[[], bool], action: Callable[[], object]) -> list[bool]:
        """Do something in the middle of the next run, at a moment; the list is empty until it was done."""
        done: list[bool] = []

        def look() -> None:
            if not done and self.bench.model.run.state == "running" and moment():
                done.append(True)
                action()

        self.bench.during = look
        return done

    def some_written(self) -> bool:
        """Whether the run that goes on has shown a structure and works on another."""
        states = {row.state for row in self.bench.model.run.rows}
        return {"found", "waiting"} <= states

    def paint(self, segment: str, centre: np.ndarray, radius: float, erase: bool = False) -> np.ndarray:
        """Paint or erase a ball with the embedded editor's logic, as its sphere brush does; returns the ball.

        Args:
            segment: Name of the segment.
            centre: Index (k, j, i) on the volume's grid.
            radius: Millimetres.
            erase: Whether the brush erases.
        """
        from vtk.util.numpy_support import vtk_to_numpy

        editor = self.bench.view.refine.editor
        logic, volume = editor._logic, editor.sourceVolumeNode()
        index = np.indices(self.slicer.util.arrayFromVolume(volume).shape)
        offset = np.moveaxis(index, 0, -1) - np.asarray(centre)
        ball = np.linalg.norm(offset * np.asarray(volume.GetSpacing())[::-1], axis=-1) < radius
        identifier = self.bench.segments()[segment]
        editor.setCurrentSegmentID(identifier)
        logic.ResetModifierLabelmapToDefault()
        brush = logic.GetModifierLabelmap()
        voxels = vtk_to_numpy(brush.GetPointData().GetScalars())
        assert voxels.size == ball.size, "the editor works on another grid than the volume"
        voxels[:] = ball.ravel()
        brush.Modified()
        mode = logic.ModificationModeRemove if erase else logic.ModificationModeAdd
        editor.saveStateForUndo()
        logic.ModifySegmentByLabelmap(editor.segmentationNode(), identifier, brush, mode, False, False)
        self.bench.settle()
        return ball

    # what eyes see

    def message(self) -> str:
        """Return what the panel says of the last run."""
        label = self.bench.find("messageLabel")
        return label.text if label.visible else ""

    def results(self) -> dict[str, list[str]]:
        """Return the list of structures: volume, state, role by name."""
        return self.bench.structures()

    def check_volumes(self, volume: Any) -> None:
        """The table's volumes are those of the segments that it names."""
        masks = self.masks(self.segmentation, volume)
        voxel_ml = float(np.prod(volume.GetSpacing())) / 1000
        for name, (shown, state, _role) in self.results().items():
            # After a sign, before where it is cut off; nothing is said of a segment that was there before.
            assert state.partition(",")[0][2:] in ("found", "refined", "corrected", ""), (name, state)
            assert float(shown.removeprefix("≥ ").removesuffix(" ml")) == pytest.approx(
                np.count_nonzero(masks[name]) * voxel_ml, abs=0.6
            )

    def picture(self, name: str = "") -> Path:
        """Take a picture of the panel, as high as it needs to be, beside the views."""
        from PySide6 import QtGui

        wanted = os.environ.get("MEDALS_SCREENSHOTS", "")
        folder = Path(wanted) if wanted else self._folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._title}{'-' if name else ''}{name}.png"
        images = self.views.images()
        panel = self._panel_picture(len(images) * VIEW_SIDE)
        whole = QtGui.QImage(PANEL_WIDTH + VIEW_SIDE, panel.height(), QtGui.QImage.Format.Format_RGB888)
        whole.fill(QtGui.QColor("black"))
        painter = QtGui.QPainter(whole)
        painter.drawPixmap(0, 0, panel)
        for number, pixels in enumerate(images):
            height, width, _ = pixels.shape
            view = QtGui.QImage(pixels.data, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
            painter.drawImage(PANEL_WIDTH, number * VIEW_SIDE, view)
        painter.end()
        assert whole.save(str(path))
        if wanted:
            _reduce_colours(path)
        return path

    def _panel_picture(self, least_height: int) -> Any:
        widget = self.bench.panel.widget
        page = self.bench.view.tabs.currentWidget()
        widget.resize(PANEL_WIDTH, least_height)
        self.bench.settle()
        wanted = page.sizeHint
        wanted = wanted() if callable(wanted) else wanted  # PySide6's own override of the property stays a method
        widget.resize(PANEL_WIDTH, max(least_height, wanted.height() + _FRAME))
        self.bench.settle()
        return widget.grab()

    def wait(self, what: Callable[[], bool], seconds: float = 60.0) -> None:
        """Let the application live until something is so."""
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "it never happened"
            self.bench.application.processEvents()
            time.sleep(0.01)

    def close(self) -> None:
        """Leave the panel."""
        self.bench.during = None
        self.views.close()


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Dice score of two masks."""
    return 2.0 * np.count_nonzero(first & second) / max(np.count_nonzero(first) + np.count_nonzero(second), 1)


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    """Whether two sets of segments are the same to the voxel."""
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def _reduce_colours(path: Path) -> None:
    from PIL import Image

    with Image.open(path) as image:
        reduced = image.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    reduced.save(path, optimize=True)


def _read_volume(scene: Any, path: Path, name: str) -> Any:
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(str(path))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    assert storage.ReadData(node)
    scene.RemoveNode(storage)  # the file is not ours to overwrite when the scene is saved
    node.CreateDefaultDisplayNodes()
    return node


def _crop(node: Any, crop: Crop) -> None:
    import slicer
    import vtk

    array = slicer.util.arrayFromVolume(node)[crop].copy()
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    k, j, i = (part.start for part in crop)
    node.SetOrigin(matrix.MultiplyPoint((i, j, k, 1))[:3])
    slicer.util.updateVolumeFromArray(node, array)
