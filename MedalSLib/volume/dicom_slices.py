"""The slices of DICOM files: where each lies, how its values are scaled, and what tells it from others at its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.files import reading

REMEDY_EXPORT = "Load the series into 3D Slicer and save the volume as .nrrd."


@dataclass(frozen=True)
class Slice:
    """One slice of a series: a file, or a frame of a multi-frame file.

    Attributes:
        path: The file.
        position: LPS position in mm of the first voxel's centre.
        orientation: Six cosines in LPS: direction of the rows, then of the columns.
        spacing: Distance in mm of rows, then of columns.
        shape: Rows, columns.
        marks: What may tell slices at the same place apart, as far as the header says it, in the order of `MARKS`.
        frame: Index in a multi-frame file, else 0.
        frames: Number of frames in the file.
        scale: Rescale slope and intercept.
    """

    path: Path
    position: tuple[float, float, float]
    orientation: tuple[float, ...]
    spacing: tuple[float, float]
    shape: tuple[int, int]
    marks: tuple[float | None, ...] = ()
    frame: int = 0
    frames: int = 1
    scale: tuple[float, float] = (1.0, 0.0)


Find = Callable[[str], Any]
"""Gives a value of a frame's functional groups, or of a single-frame file's header, None if it is not there."""


@dataclass(frozen=True)
class Mark:
    """Something that may tell the phases of a 4-D series apart.

    Attributes:
        name: In words, for messages.
        keywords: Attributes that say it, the first that is there counts.
        is_label: Whether all slices of a phase have the same value; else it is a time or number that goes on.
    """

    name: str
    keywords: tuple[str, ...]
    is_label: bool = True


MARKS = (
    Mark("temporal position", ("TemporalPositionIdentifier", "TemporalPositionIndex")),
    Mark("acquisition number", ("AcquisitionNumber", "FrameAcquisitionNumber")),
    Mark("cardiac phase", ("NominalPercentageOfCardiacPhase", "TriggerTime", "NominalCardiacTriggerDelayTime")),
    Mark("echo time", ("EchoTime", "EffectiveEchoTime")),
    Mark("b value", ("DiffusionBValue",)),
    Mark("acquisition time", ("AcquisitionDateTime", "FrameAcquisitionDateTime", "AcquisitionTime"), is_label=False),
    Mark("content time", ("ContentTime",), is_label=False),
    Mark("instance number", ("InstanceNumber",), is_label=False),
)
MARK_KEYWORDS = tuple(keyword for mark in MARKS for keyword in mark.keywords)


def slices_of(group: Sequence[Any], path: Path) -> list[Slice]:
    """Return the slices of a series, single-frame and multi-frame files alike.

    Args:
        group: Headers, with `filename`.
        path: The folder or file, for messages.

    Raises:
        InputError: A slice does not say where it lies.
    """
    slices: list[Slice] = []
    for header in group:
        with reading(Path(header.filename), "DICOM"):  # numbers that are none are found only now
            slices += _slices(header, path)
    return slices


def has_place(header: Any) -> bool:
    """Return whether a file says where in the patient its image, or its frames, lie."""
    if header.get("PerFrameFunctionalGroupsSequence"):
        return True
    return all(header.get(name) for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"))


def frames_in(header: Any) -> int:
    """Return the number of frames in a file."""
    return max(1, int(header.get("NumberOfFrames") or 1))


def _slices(header: Any, path: Path) -> list[Slice]:
    frames, groups = frames_in(header), header.get("PerFrameFunctionalGroupsSequence") or []
    if not groups and frames == 1:
        return [_slice(header.get, header, 0, 1, f"The DICOM images in {path} do")]
    file = Path(header.filename)
    if len(groups) != frames:
        raise InputError(
            f"The frames of {file} do not say where in the patient they lie (a film?).",
            "Choose an enhanced multi-frame image, or the folder of a series.",
        )
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    return [
        _slice(_finder([group, shared, header]), header, number, frames, f"Frame {number} of {file} does")
        for number, group in enumerate(groups)
    ]


def _finder(sources: Sequence[Any]) -> Find:
    """Return a look-up in functional groups: of the frame, then shared, then in the header itself."""

    def find(keyword: str) -> Any:
        for source in sources:
            if source is None:
                continue
            if (value := source.get(keyword)) is not None and keyword != "InstanceNumber":
                return value
            if source is sources[-1]:
                break
            for element in source:
                if element.VR == "SQ" and element.value and (value := element.value[0].get(keyword)) is not None:
                    return value
        return None

    return find


def _slice(find: Find, header: Any, frame: int, frames: int, what: str) -> Slice:
    position, orientation, spacing = (
        _numbers(find(keyword)) for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    )
    if len(position) != 3 or len(orientation) != 6 or len(spacing) != 2 or min(spacing) <= 0:
        raise InputError(f"{what} not say where in the patient they lie.", REMEDY_EXPORT)
    marks = [_mark(find, mark) for mark in MARKS]
    if frames > 1:
        marks[-1] = float(frame)
    slope, intercept = find("RescaleSlope"), find("RescaleIntercept")
    return Slice(
        path=Path(header.filename),
        position=(position[0], position[1], position[2]),
        orientation=tuple(orientation),
        spacing=(spacing[0], spacing[1]),
        shape=(int(header.Rows), int(header.Columns)),
        marks=tuple(marks),
        frame=frame,
        frames=frames,
        scale=(1.0 if slope in (None, "") else float(slope), 0.0 if intercept in (None, "") else float(intercept)),
    )


def _numbers(value: Any) -> list[float]:
    """Return the finite numbers of a multi-valued attribute, none if one of them is not finite."""
    if value is None or isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return []
    numbers = [float(entry) for entry in value if entry is not None]
    return numbers if np.isfinite(numbers).all() else []


def _mark(find: Find, mark: Mark) -> float | None:
    for keyword in mark.keywords:
        value = find(keyword)
        if value in (None, ""):
            continue
        try:
            return float(str(value))  # times are numbers too: HHMMSS.ffffff
        except ValueError:
            continue
    return None
