"""What the labels of a labelmap are called: tables of names from many programs, and names that say nothing."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError
from MedalSLib.volume.files import existing, reading

SIDE_CAR = ".labels.json"
_MAX_BYTES = 1 << 20
_UNNAMED = re.compile(r"(label|segment|class|region|roi)?[ _]*(\(?\d+\)?)?", re.I)
_PAIR = re.compile(r"\s*(\d+)\s*[=:]\s*(.+?)\s*")
_BACKGROUND = {"background", "clear label", ""}
_REMEDY = 'Give names as "1=liver,2=spleen", as JSON ({"1": "liver"} or a dataset.json), or as CSV (1,liver).'


def unnamed(value: int) -> str:
    """Return what a label without a name is called."""
    return f"Label {value}"


def is_unnamed(name: str) -> bool:
    """Return whether a name says nothing about what it stands for ("Label 1", "Segment_1")."""
    return _UNNAMED.fullmatch(name.strip()) is not None


def side_car(path: Path) -> Path:
    """Return the file beside a labelmap that keeps its names when another program saves the labelmap again."""
    return path.with_name(path.name[: -len(suffix_of(path)) or None] + SIDE_CAR)


def read_names(given: str) -> dict[int, str]:
    """Return names by label value.

    Args:
        given: A list as "1=liver,2=spleen", or a file: JSON (by value, by name, or the `dataset.json` of nnU-Net), CSV,
            or a table of ITK-SNAP or 3D Slicer.

    Raises:
        InputError: There is no such file, or no names in it.
    """
    pairs = [_PAIR.fullmatch(part) for part in given.split(",") if part.strip()]
    if pairs and all(pairs):
        return {int(pair[1]): pair[2] for pair in pairs if pair is not None}
    path = existing(given)
    if path.is_dir() or path.stat().st_size > _MAX_BYTES:
        raise InputError(f"{path} is no table of names.", _REMEDY)
    with reading(path, "a table of names"):
        text = path.read_text(encoding="utf-8-sig")
        names = _from_json(json.loads(text)) if text.lstrip().startswith("{") else _from_rows(text.splitlines())
    if not names:
        raise InputError(f"{path} has no names of labels.", _REMEDY)
    return names


def names_beside(path: Path) -> dict[int, str]:
    """Return the names that lie beside a labelmap that was written here, none if there are none."""
    beside = side_car(path)
    try:
        return read_names(str(beside)) if beside.is_file() else {}
    except InputError:
        return {}


def names_in_label_table(text: Any) -> dict[int, str]:
    """Return the names in a label table in XML, as Caret began it, none if it is something else."""
    content = text.encode() if isinstance(text, str) else bytes(text)
    if len(content) > _MAX_BYTES or b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        return {}
    try:
        labels = ElementTree.fromstring(content.strip(b"\0 \n")).iter("Label")
        return _without_background((int(label.get("Key", "0")), label.text or "") for label in labels)
    except (ElementTree.ParseError, ValueError):
        return {}


def _from_json(value: Any) -> dict[int, str]:
    if isinstance(value, Mapping) and isinstance(value.get("labels"), Mapping):
        value = value["labels"]
    pairs = []
    for key, entry in value.items() if isinstance(value, Mapping) else ():
        if str(key).isdecimal() and isinstance(entry, str):
            pairs.append((int(key), entry))
        elif isinstance(entry, int) and not isinstance(entry, bool):
            pairs.append((entry, str(key)))
    return _without_background(pairs)


def _from_rows(lines: Iterable[str]) -> dict[int, str]:
    """Read rows in which the first whole number is the label and the first word is its name."""
    kept = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    delimiter = next((sign for sign in ",;\t" if all(sign in line for line in kept)), " ")
    pairs = []
    for row in csv.reader(kept, delimiter=delimiter, skipinitialspace=True):
        cells = [cell.strip() for cell in row if cell.strip()]
        value = next((cell for cell in cells if cell.isdecimal()), None)
        name = next((cell for cell in cells if not _is_number(cell)), None)
        if value is not None and name is not None:
            pairs.append((int(value), name))
    return _without_background(pairs)


def _without_background(pairs: Iterable[tuple[int, str]]) -> dict[int, str]:
    return {value: name for value, name in pairs if value > 0 and name.strip().casefold() not in _BACKGROUND}


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
