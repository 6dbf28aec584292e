"""Segments as spatial prompts, and as places that no result may enter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from MedalSLib.panel.chips import UNKNOWN_MODEL, ModelClasses
from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.signal import Signal
from MedalSLib.vocabulary import resolve

if TYPE_CHECKING:
    from MedalSLib.panel.workspace import Workspace
    from MedalSLib.slicer.matching import SegmentMatch
    from MedalSLib.slicer.strokes import Strokes

Use = Literal["", "prompt", "paint", "exclude"]


@dataclass(frozen=True)
class SegmentRow:
    """One segment of the chosen segmentation.

    Attributes:
        segmentID: ID of the segment.
        name: Its name.
        use: "" not used, "prompt" its mask is a prompt, "paint" it is carried on from the user's paint, "exclude" no
            result may enter it.
        structure: Published name it stands for as a prompt; empty if that has to be said.
        how: What the structure was concluded from, in words.
        locked: Whether no run changes it.
        empty: Whether it has no voxels, so that it can be no prompt.
        isResult: Whether Medal S wrote it.
        edit: What the user did to it since its last result, in words; empty if nothing.
        right: How many of its slices the user found right.
        color: Red, green and blue, 0..1.
        visible: Whether it is shown in the views.
    """

    segmentID: str
    name: str
    use: Use
    structure: str
    how: str
    locked: bool
    empty: bool
    isResult: bool = False
    edit: str = ""
    right: int = 0
    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    visible: bool = True

    @property
    def problem(self) -> str:
        """Why the row cannot be used as it is, empty if it can."""
        if self.use == "prompt" and self.empty:
            return _("{name} is empty: draw it first, or do not use it.").format(name=self.name)
        if self.use == "prompt" and not self.structure:
            return _("Say which structure {name} stands for.").format(name=self.name)
        return ""


class SpatialPresenter:
    """The segments of the chosen segmentation and what the next run takes them for.

    Args:
        workspace: The application.

    Attributes:
        changed: Emitted when a row changed.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._unnamed: set[str] = set()
        self._modality = ""
        self._model = UNKNOWN_MODEL
        self.changed = Signal()
        self.rows: tuple[SegmentRow, ...] = ()

    def refresh(self, modality: str) -> None:
        """Read the segments again: the segmentation changed, or another one was chosen."""
        self._modality = modality or "CT"
        strokes = self._workspace.strokes(self._modality)
        edits = _edits(strokes) if strokes is not None else {}
        found = self._workspace.segments(self._modality)
        rows = tuple(self._row(item, edits.get(item.segmentID, "")) for item in found)
        if rows != self.rows:
            self.rows = rows
            self.changed.emit()

    def useModel(self, model: ModelClasses) -> None:
        """Take note of the model that will run: segments may be named after structures that it brings itself."""
        if model != self._model:
            self._model = model
            self.refresh(self._modality)

    @property
    def prompts(self) -> dict[str, str]:
        """Published name by ID of each segment that is a prompt."""
        return {row.segmentID: row.structure for row in self.rows if row.use == "prompt" and row.structure}

    @property
    def results(self) -> tuple[str, ...]:
        """Published names that have a result."""
        return tuple(row.structure for row in self.rows if row.isResult and not row.empty)

    @property
    def excluded(self) -> tuple[str, ...]:
        """IDs of the segments that no result may enter."""
        return tuple(row.segmentID for row in self.rows if row.use == "exclude")

    @property
    def problems(self) -> tuple[str, ...]:
        """What has to be settled before a run."""
        return tuple(row.problem for row in self.rows if row.problem)

    def use(self, segmentID: str, use: Use) -> None:
        """Choose what a segment is used for."""
        state = self._workspace.state
        prompts = {key: name for key, name in state.spatialPrompts.items() if key != segmentID}
        self._unnamed.discard(segmentID)
        if use == "prompt":
            name = next((row.structure for row in self.rows if row.segmentID == segmentID), "")
            if name:
                prompts[segmentID] = name
            else:
                self._unnamed.add(segmentID)
        state.spatialPrompts = prompts
        if use == "paint":
            self._workspace.takeAsPaint(segmentID)
        excluded = [key for key in state.excluded if key != segmentID]
        state.excluded = (*excluded, segmentID) if use == "exclude" else tuple(excluded)
        self.refresh(self._modality)

    def name(self, segmentID: str, typed: str) -> bool:
        """Say which structure a segment stands for, in the user's words; False if they name not exactly one."""
        names = self._namesIn(typed)
        if len(names) != 1:
            self.changed.emit()  # the table shows the former name again
            return False
        state = self._workspace.state
        state.spatialPrompts = {**state.spatialPrompts, segmentID: names[0]}
        self._unnamed.discard(segmentID)
        state.excluded = tuple(key for key in state.excluded if key != segmentID)
        self.refresh(self._modality)
        return True

    def lock(self, segmentID: str, locked: bool) -> None:
        """Lock or unlock a segment."""
        self._workspace.lock(segmentID, locked)
        self.refresh(self._modality)

    def makeVisible(self, segmentIDs: Iterable[str], visible: bool) -> None:
        """Show segments in the views, or hide them."""
        self._workspace.makeVisible(segmentIDs, visible)
        self.refresh(self._modality)

    def _namesIn(self, text: str) -> list[str]:
        return [name for item in resolve(text, self._modality, self._model.classes) for name in item.classes]

    def _row(self, item: SegmentMatch, edit: str) -> SegmentRow:
        state = self._workspace.state
        structure, source = item.structure, item.how
        if source in ("", "name"):  # the workspace knows the published names only
            names = self._namesIn(item.name)
            structure, source = (names[0], "name") if len(names) == 1 else ("", "")
        chosen = state.spatialPrompts.get(item.segmentID, "")
        use: Use = "prompt" if chosen or item.segmentID in self._unnamed else "paint" if edit else ""
        if item.segmentID in state.excluded:
            use = "exclude"
        reason = {
            "result": _("written by Medal S"),
            "terminology": _("from its terminology"),
            "name": _("from its name"),
        }.get(source, "")
        how = _("chosen by you") if chosen and chosen != structure else reason
        return SegmentRow(
            item.segmentID,
            item.name,
            use,
            chosen or structure,
            how,
            item.locked,
            item.empty,
            isResult=source == "result",
            edit=edit,
            right=len(self._workspace.checked(item.segmentID)),
            color=item.color,
            visible=item.visible,
        )


def _edits(strokes: Strokes) -> dict[str, str]:
    """Return what was done to the edited segments, by ID."""
    return {
        segmentID: _("painted by hand") if name in strokes.byHand else _("corrected")
        for name, segmentID in strokes.segmentIDs.items()
    }
