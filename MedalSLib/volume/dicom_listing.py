"""What is in a DICOM folder, series by series, before one is chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_series import FoundSeries, find_series, images_in, is_grey, is_usable, number_of
from MedalSLib.volume.dicom_slices import has_place, slices_of
from MedalSLib.volume.dicom_stack import phases_of


@dataclass(frozen=True)
class SeriesListing:
    """One series of a folder.

    Attributes:
        number: Series number, 0 if there is none.
        uid: Series UID.
        description: Series description as the scanner wrote it.
        modality: DICOM Modality.
        images: Number of slices.
        size: Columns, rows and slices of a phase; of a series that is no volume, without meaning.
        phases: Number of phases; 1 for a 3-D series.
        phases_by: How the phases are told apart, in words; empty for one.
        usable: Whether it can be segmented.
        why_not: Why it cannot, as a sentence; empty if it can.
    """

    number: int
    uid: str
    description: str
    modality: str
    images: int
    size: tuple[int, int, int]
    phases: int = 1
    phases_by: str = ""
    usable: bool = True
    why_not: str = ""


def list_series(folder: Path, on_progress: Callable[[float], None] | None = None) -> list[SeriesListing]:
    """Return the series of a folder and its subfolders; the first is the one that is read by default.

    Args:
        folder: The folder.
        on_progress: Called with the share that is done; may raise to stop.

    Raises:
        InputError: A DICOM file is damaged; it is named.
    """
    found: FoundSeries = find_series(folder, on_progress)
    return [_listing(group, folder) for group in found.series]


def _listing(group: list[Any], folder: Path) -> SeriesListing:
    head = group[0]
    images = images_in(group)
    phases, by, why_not = 1, "", ""
    count = images
    if not is_usable(group):
        why_not = "It is no volume of grey images with a place." if len(group) > 1 else "It is a single image."
    else:
        try:
            told = phases_of(slices_of([h for h in group if is_grey(h) and has_place(h)], folder), folder)
            phases, by, count = len(told.members), told.said, len(told.members[0])
        except InputError as error:
            why_not = error.cause
    return SeriesListing(
        number=number_of(head),
        uid=str(head.get("SeriesInstanceUID") or ""),
        description=str(head.get("SeriesDescription") or ""),
        modality=str(head.get("Modality") or ""),
        images=images,
        size=(int(head.get("Columns") or 0), int(head.get("Rows") or 0), count),
        phases=phases,
        phases_by=by,
        usable=not why_not,
        why_not=why_not,
    )
