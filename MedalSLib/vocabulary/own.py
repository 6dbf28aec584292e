"""Structures that a fine-tuned model brings itself and the table of published ones does not have."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.structure import MODALITIES, Code, Policy, Side, Structure
from MedalSLib.vocabulary.tables import structure, table
from MedalSLib.vocabulary.words import words

_CATEGORY = Code("85756007", "Tissue")
_SIDES: tuple[Side, ...] = ("left", "right")
_MODIFIERS = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
_SEPARATORS = re.compile(r"[,;\n]")
_LINKS = re.compile(r"\s+(?:and|plus)\s+|[&+]", re.IGNORECASE)


def describe(key: str) -> Structure:
    """Return a structure by its key: of the table, or, for a model's own, with general facts (tissue, no exceptions).

    Args:
        key: "MODALITY_Name" ("CT_Liver", "CT_gallbladder wall").

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
        category=_CATEGORY,
        type=_CATEGORY,
        type_modifier=_MODIFIERS.get(side),
        region=None,
        region_modifier=None,
        color=(64 + shade % 160, 64 + (shade >> 8) % 160, 64 + (shade >> 16) % 160),
        policy=Policy(),
    )


@lru_cache(maxsize=16)
def _own_keys(known: frozenset[str], modality: str | None) -> dict[str, str]:
    own: dict[str, str] = {}
    for wanted in MODALITIES if modality is None else (modality,):
        for key in sorted(known - table().structures.keys()):
            if key.startswith(f"{wanted}_"):
                own.setdefault(_folded(key.partition("_")[2]), key)
    return own


def own_keys(known: Iterable[str], modality: str | None) -> dict[str, str]:
    """Return the keys that only the model knows, by name in lower case.

    Args:
        known: Keys the model knows.
        modality: Modality asked for; None for all of them, each name in the first modality that has it.
    """
    return dict(_own_keys(frozenset(known), modality))


def own_parts(text: str, own: Mapping[str, str]) -> list[tuple[str, str]]:
    """Divide a prompt into a model's own names and what lies between them.

    Names are separated by commas, semicolons and lines, and by "and" where that gives one of the model's own.

    Args:
        text: What was typed.
        own: Keys by name in lower case.

    Returns:
        (words, key) in the order typed; the key is empty for the rest, which is kept together with its separators.
    """
    found: list[tuple[int, int, str]] = []
    for start, end in _between(_SEPARATORS, text, 0, len(text)):
        key = _match(text[start:end], own)
        pieces = [(start, end, key)]
        if not key:
            divided = [(a, b, _match(text[a:b], own)) for a, b in _between(_LINKS, text, start, end)]
            pieces = divided if any(item[2] for item in divided) else pieces
        for piece in pieces:
            if found and not piece[2] and not found[-1][2]:
                found[-1] = (found[-1][0], piece[1], "")
            else:
                found.append(piece)
    parts = [(text[start:end].strip(), key) for start, end, key in found]
    return [(words, key) for words, key in parts if words]


def _match(phrase: str, own: Mapping[str, str]) -> str:
    """Return the key of the own name that a phrase is, words such as "the" around it left out; empty if none."""
    spoken = _folded(phrase).split()
    filler = words().filler
    while spoken:
        key = own.get(" ".join(spoken))
        if key is not None:
            return key
        if spoken[0] in filler:
            spoken = spoken[1:]
        elif spoken[-1] in filler:
            spoken = spoken[:-1]
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
