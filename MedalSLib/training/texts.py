"""The texts a structure is called by in training: its names, its synonyms, and sentences about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from MedalSLib import vocabulary
from MedalSLib.errors import InputError

_INSTANCE_LABEL = "instance_label"


def prompt_table(table: Any, path: Path) -> dict[str, dict[int, tuple[str, ...]]]:
    """Read the challenge's prompt file: for each data set, texts by label.

    Args:
        table: Content such as `{"CT_Example": {"1": ["Liver", "Liver in abdominal CT"], "instance_label": 0}}`.
        path: Where it is from, for messages.

    Raises:
        InputError: It is not built so.
    """
    remedy = 'It should look like {"DATASET": {"1": ["name", "a sentence"], "instance_label": 0}}.'
    if not isinstance(table, dict):
        raise InputError(f"The prompt file {path} does not list data sets.", remedy)
    return {str(dataset): _texts(entry, f"{path}, {dataset}", remedy) for dataset, entry in table.items()}


def _texts(entry: Any, where: str, remedy: str) -> dict[int, tuple[str, ...]]:
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not a table of labels.", remedy)
    texts = {}
    for key, value in entry.items():
        if key == _INSTANCE_LABEL:
            continue
        lines = [value] if isinstance(value, str) else value
        if not str(key).isdecimal() or not isinstance(lines, list) or not lines:
            raise InputError(f"{where} has the entry {key!r}, which is not a label with texts.", remedy)
        if not all(isinstance(line, str) and line.strip() for line in lines):
            raise InputError(f"{where}, label {key}, has an empty text.", remedy)
        texts[int(key)] = tuple(dict.fromkeys(" ".join(line.split()) for line in lines))
    return texts


def texts_for_name(name: str, modality: str) -> tuple[str, ...]:
    """Return the texts of a structure that comes with a bare name, the text used at inference first.

    A name that the vocabulary knows gets its published name and its synonyms; any other name stands alone.
    """
    plain = " ".join(name.replace("_", " ").split())
    resolutions = vocabulary.resolve(plain, modality)
    if len(resolutions) == 1 and len(resolutions[0].classes) == 1:
        item = vocabulary.structure(resolutions[0].keys[0])
        return unique((vocabulary.text_for(item), plain, *item.synonyms))
    return (plain,)


def canonical_key(texts: Sequence[str], modality: str) -> str:
    """Return "MODALITY_Name" of a structure: its published name if the vocabulary knows it, else its first text."""
    resolutions = vocabulary.resolve(texts[0], modality)
    if len(resolutions) == 1 and len(resolutions[0].classes) == 1:
        return resolutions[0].keys[0]
    return f"{modality}_{texts[0]}"


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the texts without repetitions, whatever their capitals."""
    seen: dict[str, str] = {}
    for text in texts:
        seen.setdefault(text.casefold(), text)
    return tuple(seen.values())
