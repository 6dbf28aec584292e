"""Time series: the frames of a sequence of volumes, and a segmentation for each of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

import slicer

from MedalSLib.errors import InputError
from MedalSLib.slicer.segmentations import placeBesideVolume, prepareSegmentation


@dataclass(frozen=True, eq=False)
class VolumeSequence:
    """A volume node that shows one frame at a time.

    Attributes:
        browser: vtkMRMLSequenceBrowserNode that moves through the frames.
        sequence: vtkMRMLSequenceNode with the frames.
        volume: The proxy: the volume node in the scene that shows the current frame.
    """

    browser: Any
    sequence: Any
    volume: Any

    @property
    def count(self) -> int:
        """Number of frames."""
        return int(self.browser.GetNumberOfItems())

    @property
    def current(self) -> int:
        """Index of the frame that is shown; the first while none was chosen."""
        return max(0, int(self.browser.GetSelectedItemNumber()))

    def show(self, frame: int) -> None:
        """Show a frame; the results on its segmentation are stored first.

        Raises:
            InputError: There is no such frame.
        """
        if not 0 <= frame < self.count:
            raise InputError(
                f"{self.volume.GetName()} has {self.count} frames, none with the number {frame + 1}.",
                "Choose one of its frames.",
            )
        self.browser.SetSelectedItemNumber(frame)
        _logic().UpdateProxyNodesFromSequences(self.browser)

    def frames(self, chosen: Iterable[int] | None = None) -> Generator[int, None, None]:
        """Show one frame after the other, and the first shown one again at the end (also after an error).

        Args:
            chosen: Which ones; None for all.
        """
        shown = self.current
        try:
            for frame in range(self.count) if chosen is None else chosen:
                self.show(frame)
                yield frame
        finally:
            if self.browser.GetScene() is not None:  # the scene may have been closed meanwhile
                self.show(shown)


def sequenceOf(volumeNode: Any) -> VolumeSequence | None:
    """Return the sequence of which a volume shows a frame, None if it shows none."""
    logic = _logic()
    browser = logic.GetFirstBrowserNodeForProxyNode(volumeNode)
    if browser is None:
        return None
    return VolumeSequence(browser, browser.GetSequenceNode(volumeNode), volumeNode)


def addSegmentationSequence(series: VolumeSequence) -> Any:
    """Add a segmentation that has its own segments in each frame, and return its proxy node.

    The new sequence moves with the volume's and keeps what is written while a frame is shown.
    """
    scene = series.volume.GetScene()
    wanted = scene.GenerateUniqueName(f"{series.volume.GetName()} segmentation")
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", f"{wanted} sequence")
    sequence.SetIndexName(series.sequence.GetIndexName())
    sequence.SetIndexUnit(series.sequence.GetIndexUnit())
    sequence.SetIndexType(series.sequence.GetIndexType())
    template = slicer.vtkMRMLSegmentationNode()
    for item in range(series.sequence.GetNumberOfDataNodes()):
        sequence.SetDataNodeAtValue(template, series.sequence.GetNthIndexValue(item))
    series.browser.AddSynchronizedSequenceNode(sequence)
    _logic().UpdateProxyNodesFromSequences(series.browser)
    proxy = series.browser.GetProxyNode(sequence)
    proxy.SetName(wanted)
    series.browser.SetSaveChanges(sequence, True)
    prepareSegmentation(proxy, series.volume)
    placeBesideVolume(proxy, series.volume)
    return proxy


def frameOf(node: Any) -> int:
    """Return the index of the frame that a proxy node shows; 0 for a node that does not change with time."""
    browser = _logic().GetFirstBrowserNodeForProxyNode(node)
    return 0 if browser is None else max(0, int(browser.GetSelectedItemNumber()))


class HeldFrame:
    """Keeps a frame on show while something is written on it: the user may look at others meanwhile.

    Args:
        node: Proxy node that is written on; one that does not change with time, or None, needs no holding.
    """

    def __init__(self, node: Any) -> None:
        self._browser = None if node is None else _logic().GetFirstBrowserNodeForProxyNode(node)
        self._frame = 0 if self._browser is None else int(self._browser.GetSelectedItemNumber())

    def restore(self) -> None:
        """Show the frame again if another one is shown."""
        browser = self._browser
        if browser is None or browser.GetScene() is None or browser.GetSelectedItemNumber() == self._frame:
            return
        browser.SetSelectedItemNumber(self._frame)
        _logic().UpdateProxyNodesFromSequences(browser)


def _logic() -> Any:
    return slicer.modules.sequences.logic()
