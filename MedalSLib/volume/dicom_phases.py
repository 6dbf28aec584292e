"""The phases of a 4-D DICOM series: slices at the same place, told apart by what their headers say about time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.dicom_slices import MARKS, REMEDY_EXPORT, Slice

_MOSTLY = 0.5


@dataclass(frozen=True)
class Phases:
    """Slices by phase.

    Attributes:
        members: The slices of each phase, at most one at each place.
        said: How the phases are told apart, in words; empty if there is one.
        warnings: What the user should know.
    """

    members: tuple[list[Slice], ...]
    said: str = ""
    warnings: tuple[str, ...] = ()


def split_phases(places: Sequence[Sequence[Slice]], path: Path) -> Phases:
    """Tell the slices at each place apart, by time or acquisition.

    Args:
        places: The slices at each place, in the order of the places.
        path: The folder or file, for messages.

    Raises:
        InputError: Nothing in the headers tells slices at one place apart.
    """
    most = max(len(place) for place in places)
    if most == 1:
        return Phases(([place[0] for place in places],))
    for number, mark in enumerate(MARKS):
        phases = _by_label(places, number, most) if mark.is_label else _by_order(places, number)
        if phases is None:
            continue
        if _overlap(phases, places) > _MOSTLY:
            return Phases(tuple(phases), f"by their {mark.name}")
        return Phases(
            (_joined(phases, places),),
            warnings=(f"Some slices lie at the same place as others of another {mark.name}; one of each was read.",),
        )
    if all(_identical(place) for place in places):
        copies = sum(len(place) - 1 for place in places)
        return Phases(([place[0] for place in places],), warnings=(f"{copies} copies of slices were left out.",))
    crowded = next(place for place in places if len(place) > 1)
    raise InputError(
        f"Several images in {path} lie at the same place ({', '.join(_name(item) for item in crowded[:3])}), and "
        "neither time nor acquisition number tells them apart.",
        REMEDY_EXPORT.replace("the series", "one phase of the series"),
    )


def _name(item: Slice) -> str:
    return item.path.name if item.frames == 1 else f"frame {item.frame + 1}"


def _by_label(places: Sequence[Sequence[Slice]], number: int, most: int) -> list[list[Slice]] | None:
    """Return the slices by a value that all slices of a phase share; None if it does not tell them apart."""
    phases: dict[float, list[Slice]] = defaultdict(list)
    for place in places:
        values = [item.marks[number] for item in place]
        if None in values or len(set(values)) < len(values):
            return None
        for value, item in zip(values, place, strict=True):
            phases[value or 0.0].append(item)
    return [phases[value] for value in sorted(phases)] if len(phases) == most else None


def _by_order(places: Sequence[Sequence[Slice]], number: int) -> list[list[Slice]] | None:
    """Return the slices by the order of a time or number at each place.

    That is an order of phases only if the whole volume was measured again and again, or one place after the other.
    """
    if len({len(place) for place in places}) > 1:
        return None
    values = np.array([[np.nan if item.marks[number] is None else item.marks[number] for item in place]
                       for place in places], dtype=np.float64)  # fmt: skip
    if np.isnan(values).any() or any(len(set(row)) < len(row) for row in values.tolist()):
        return None
    ordered = np.sort(values, axis=1)
    by_place = sorted(zip(ordered[:, 0], ordered[:, -1], strict=True))
    volume_after_volume = (ordered[:, :-1].max(axis=0) < ordered[:, 1:].min(axis=0)).all()
    place_after_place = all(before[1] < after[0] for before, after in pairwise(by_place))
    if not (volume_after_volume or place_after_place):
        return None
    order = np.argsort(values, axis=1, kind="stable")
    return [[place[order[at, rank]] for at, place in enumerate(places)] for rank in range(values.shape[1])]


def _overlap(phases: Sequence[Sequence[Slice]], places: Sequence[Sequence[Slice]]) -> float:
    """Return how much of the second-largest phase lies at places of others: 1 for 4-D series."""
    second = sorted(phases, key=len)[-2]
    crowded = {id(item) for place in places if len(place) > 1 for item in place}
    shared = sum(id(item) in crowded for item in second) / len(second)
    return shared * min(1.0, len(second) / (_MOSTLY * len(places)))


def _joined(phases: Sequence[Sequence[Slice]], places: Sequence[Sequence[Slice]]) -> list[Slice]:
    """Return one slice for each place, of the largest phase that has one there."""
    rank = {id(item): number for number, phase in enumerate(sorted(phases, key=len, reverse=True)) for item in phase}
    return [min(place, key=lambda item: rank[id(item)]) for place in places]


def _identical(place: Sequence[Slice]) -> bool:
    """Return whether all slices at a place have the same pixels."""
    import pydicom

    if len(place) == 1:
        return True
    if any(item.frames > 1 for item in place):
        return False
    return len({pydicom.dcmread(item.path, force=True).get("PixelData") for item in place}) == 1
