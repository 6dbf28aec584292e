"""The masks of `medals segment`: prompts by name, and what of them the user painted since the last result."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.vocabulary import resolve
from MedalSLib.volume import BoxMask, Grid
from MedalSLib.volume.challenge import ORIENTATION

_MASK_SUFFIXES = (".seg.nrrd", ".nrrd", ".nii.gz", ".nii", ".mha", ".mhd")
# What programs put behind the name of a segment when they copy, number or save it.
_TAIL = re.compile(r"[\s_-]*(\(\s*\d+\s*\)|copy|kopie|mask|seg(mentation)?|label|[\s_-]\d+)\s*$", re.I)
_REMEDY_NAMES = 'Name the segments after structures, or say what the labels are: --names "1=liver,2=spleen".'
_LISTED = 8


@dataclass(frozen=True)
class PromptMasks:
    """What a user gives besides text.

    Attributes:
        masks: Spatial prompts on the image's grid, by name.
        locked: What of them was painted or erased by hand, by name.
        notes: What the user should know: segments that were not understood, lie elsewhere, or came twice.
        names: All structures in the file of masks, also those that the text does not name.
    """

    masks: Mapping[str, BoxMask] = field(default_factory=dict)
    locked: Mapping[str, BoxMask] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def prompt_masks(arguments: argparse.Namespace, grid: Grid, modality: str, known: Collection[str] = ()) -> PromptMasks:
    """Read the masks of a command.

    Args:
        arguments: With `masks`, `names`, `painted`, `previous`, `text`, `mode` and `orientation`.
        grid: The image's grid.
        modality: The image's canonical modality.
        known: Keys that the model knows.

    Raises:
        InputError: A file cannot be read, or none of its segments can be used.
    """
    painted, previous = arguments.painted, arguments.previous
    if arguments.masks is None:
        if painted or previous:
            raise InputError("There is no mask of which something was painted.", "Give it with --masks.")
        return PromptMasks()
    reader = _Reader(grid, arguments.text, modality, frozenset(known), is_free=bool(painted or previous))
    reader.orientation = arguments.orientation or ORIENTATION
    masks = reader.read(arguments.masks, arguments.names)
    names = tuple(reader.seen)
    locked: dict[str, BoxMask] = {}
    if painted:
        locked = reader.read(painted, arguments.names)
        if orphans := [name for name in locked if name not in masks]:
            raise InputError(
                f"{painted.name} says what was painted of {', '.join(orphans)}, but there is no mask of that name.",
                "Give its segments the names of those in --masks.",
            )
    elif previous:
        before = reader.read(previous, arguments.names)
        # What is not there any more was erased as a whole.
        masks |= {name: BoxMask.empty(mask.shape) for name, mask in before.items() if name not in masks}
        locked = changed_since(masks, before)
    given = {name: mask for name, mask in masks.items() if not mask.is_empty or name in locked}
    notes = tuple(dict.fromkeys(reader.notes))
    if not given:
        named = f" for '{arguments.text}'" if arguments.text.strip() else " with a voxel in it"
        nothing = f"{arguments.masks.name} has no segment{named}."
        if reader.is_puzzled or painted or previous or arguments.mode == "refine" or not arguments.text.strip():
            raise InputError(" ".join((nothing, *notes)), _REMEDY_NAMES)
        notes += (f"{nothing[:-1]}, so the text alone counts.",)
    return PromptMasks(given, locked, notes, names)


def changed_since(masks: Mapping[str, BoxMask], previous: Mapping[str, BoxMask]) -> dict[str, BoxMask]:
    """Return what was painted of each mask: all in which it differs from the previous result.

    Args:
        masks: Masks by name.
        previous: The same before the user painted; what is not in it was begun by painting.
    """
    return {name: mask ^ previous.get(name, BoxMask.empty(mask.shape)) for name, mask in masks.items()}


class _Reader:
    """Reads segments onto the image's grid under the names of the structures they mean.

    Args:
        grid: The image's grid.
        text: Names as typed; segments of other structures are left out.
        modality: The image's modality.
        known: Keys that the model knows.
        is_free: Whether names may be the user's own, as for what is refined from paint.
    """

    def __init__(self, grid: Grid, text: str, modality: str, known: frozenset[str], is_free: bool) -> None:
        self._grid, self._modality, self._known, self._is_free = grid, modality, known, is_free
        self._phrases = {phrase.strip().casefold() for phrase in text.split(",") if phrase.strip()}
        self._wanted = [name for item in resolve(text, modality, known) for name in item.classes] if text else []
        self.notes: list[str] = []
        self.is_puzzled = False
        self.seen: dict[str, None] = {}
        self.orientation = ORIENTATION

    def read(self, path: Path, names: str | None = None) -> dict[str, BoxMask]:
        """Return the masks of a file, or of all segmentation files in a folder, by name.

        Args:
            path: File or folder.
            names: Names of labels, as `read_names` takes them.

        Raises:
            InputError: It cannot be read, or all of its segments lie elsewhere.
        """
        from MedalSLib.volume.files import existing
        from MedalSLib.volume.segment_names import read_names
        from MedalSLib.volume.segmentation_reading import read_segmentation

        table = read_names(names) if names else None
        files = _files(existing(path))
        found: dict[str, BoxMask] = {}
        strange: list[str] = []
        elsewhere: list[InputError] = []
        for file in files:
            segmentation = read_segmentation(file, table, self.orientation)
            self.notes += segmentation.warnings
            for segment in segmentation.segments:
                name = self._name(segment.name, file, alone=len(segmentation.segments) == 1)
                if name is None:
                    strange.append(segment.name)
                    continue
                self.seen[name] = None
                if self._phrases and not self._is_wanted(name):
                    continue
                try:
                    mask = segment.mask_on(segmentation.grid, self._grid)
                except InputError as error:
                    elsewhere.append(error)
                    continue
                if name in found:
                    self.notes.append(f"There are several masks of {name}; the first was taken, not '{segment.name}'.")
                    continue
                found[name] = BoxMask.of(mask)
        if elsewhere and not found:
            raise elsewhere[0]
        self.notes += [f"{error.cause} It was left out." for error in elsewhere]
        if strange:
            self.is_puzzled = True
            more = ", ..." if len(strange) > _LISTED else ""
            self.notes.append(f"Not understood and left out: {', '.join(strange[:_LISTED])}{more}.")
        return found

    def _name(self, name: str, file: Path, alone: bool) -> str | None:
        """Return the structure that a segment is, None if that is not understood.

        Args:
            name: Its name in the file.
            file: The file, after which a mask alone in it is named.
            alone: Whether it is the only segment of its file.
        """
        from MedalSLib.volume.segment_names import is_unnamed

        if is_unnamed(name):
            of_file = self._understood(file.name[: -len(suffix_of(file)) or None]) if alone else None
            if of_file is None and alone and len(self._wanted) == 1:
                return self._wanted[0]
            return of_file or (name if self._is_free else None)
        if self._is_free:
            return name
        return self._understood(name)

    def _is_wanted(self, name: str) -> bool:
        return name.casefold() in self._phrases or (self._understood(name) or name) in self._wanted

    def _understood(self, name: str) -> str | None:
        """Return the one structure that a name means, without what programs put behind it."""
        candidate = " ".join(name.split())
        while candidate:
            for spelled in (candidate, candidate.replace("_", " ")):
                items = resolve(spelled, self._modality, self._known)
                if len(items) == 1 and len(items[0].classes) == 1:
                    return items[0].classes[0]
            shorter = _TAIL.sub("", candidate)
            if shorter == candidate:
                return None
            candidate = shorter
        return None


def _files(path: Path) -> list[Path]:
    """Return the masks in a folder, or the one file."""
    if path.is_file():
        return [path]
    files = [item for item in sorted(path.iterdir()) if item.is_file() and suffix_of(item) in _MASK_SUFFIXES]
    if not files:
        raise InputError(f"There is no mask in the folder {path}.", f"Give a folder with {', '.join(_MASK_SUFFIXES)}.")
    return files
