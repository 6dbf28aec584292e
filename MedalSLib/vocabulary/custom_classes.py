"""Custom classes: structures of a fine-tuned model that the table of published ones does not have."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.structure import MODALITIES, Policy, Side, Structure
from MedalSLib.vocabulary.tables import structure, table, unpublished
from MedalSLib.vocabulary.terminology import LEFT, RIGHT, TISSUE
from MedalSLib.vocabulary.words import words

_SIDES: tuple[Side, ...] = ("left", "right")
_MODIFIERS = {"left": LEFT, "right": RIGHT}
_SEPARATORS = re.compile(r"[,;\n]")
_LINKS = re.compile(r"\s+(?:and|plus)\s+|[&+]", re.IGNORECASE)


def describe(key: str) -> Structure:
    """Return a structure by its key, "MODALITY_Name".

    A custom class gets the facts of the concept that it is named after, side aside ("MRI_Left thalamus"); without one
    general facts (code "Tissue", default policy).

    Raises:
        PromptError: It is no such key.
    """
    if key in table().structures:
        return structure(key)
    modality, _, name = key.partition("_")
    if not name:
        raise PromptError(f"'{key}' is not the key of a structure.", "Keys look like 'CT_Liver'.")
    modality = normalize_modality(modality)
    words = name.casefold().replace("_", " ").split()
    side: Side = next((side for side in _SIDES if side in words), "")
    if (found := unpublished(modality, name, side)) is not None:
        return replace(found, key=key)
    shade = zlib.crc32(name.casefold().encode())
    return Structure(
        key=key,
        name=name,
        modality=modality,
        kinds=("semantic",),
        laterality=side,
        concept=name,
        groups=(),
        synonyms=(),
        window="soft tissue" if modality == "CT" else "percentile",
        terminology=replace(TISSUE, type_modifier=_MODIFIERS.get(side)),
        color=(64 + shade % 160, 64 + (shade >> 8) % 160, 64 + (shade >> 16) % 160),
        policy=Policy(),
    )


@lru_cache(maxsize=16)
def custom_keys(known: frozenset[str], modality: str | None) -> dict[str, str]:
    """Return the keys of a model's custom classes, by name in lower case; not to be changed.

    Args:
        known: Keys the model knows.
        modality: Modality asked for; None for all of them, each name in the first modality that has it.
    """
    custom: dict[str, str] = {}
    for wanted in MODALITIES if modality is None else (modality,):
        for key in sorted(known - table().structures.keys()):
            if key.startswith(f"{wanted}_"):
                custom.setdefault(_folded(key.partition("_")[2]), key)
    return custom


def split_custom_names(text: str, custom: Mapping[str, str]) -> list[tuple[str, str]]:
    """Split a prompt into the names of custom classes and the text between them.

    Names are separated by commas, semicolons and lines, and by "and" where that gives the name of a custom class.

    Args:
        text: What was typed.
        custom: Keys by name in lower case.

    Returns:
        (words, key) in the order typed; the key is empty for the rest, which is kept together with its separators.
    """
    found: list[tuple[int, int, str]] = []
    for start, end in _between(_SEPARATORS, text, 0, len(text)):
        key = _match(text[start:end], custom)
        pieces = [(start, end, key)]
        if not key:
            divided = [(a, b, _match(text[a:b], custom)) for a, b in _between(_LINKS, text, start, end)]
            pieces = divided if any(item[2] for item in divided) else pieces
        for piece in pieces:
            if found and not piece[2] and not found[-1][2]:
                found[-1] = (found[-1][0], piece[1], "")
            else:
                found.append(piece)
    parts = [(text[start:end].strip(), key) for start, end, key in found]
    return [(words, key) for words, key in parts if words]


def _match(phrase: str, custom: Mapping[str, str]) -> str:
    """Return the key of the custom class that a phrase names, filler words around it left out; empty if none."""
    said = _folded(phrase).split()
    filler = words().filler
    while said:
        key = custom.get(" ".join(said))
        if key is not None:
            return key
        if said[0] in filler:
            said = said[1:]
        elif said[-1] in filler:
            said = said[:-1]
        else:
            break
    return ""


def _between(separators: re.Pattern[str], text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the bounds of what lies between the separators in a part of a text."""
    marks = [match.span() for match in separators.finditer(text, start, end)]
    begins, ends = [start, *(b for _, b in marks)], [*(a for a, _ in marks), end]
    return list(zip(begins, ends, strict=True))


def _folded(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
