"""Structures that a fine-tuned model brings itself and the table of published ones does not have."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.structure import Code, Policy, Side, Structure
from MedalSLib.vocabulary.tables import structure, table

_CATEGORY = Code("85756007", "Tissue")
_SIDES: tuple[Side, ...] = ("left", "right")
_MODIFIERS = {"left": Code("7771000", "Left"), "right": Code("24028007", "Right")}
_SEPARATORS = re.compile(r"\s*[,;\n]\s*")


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


def own_keys(known: Iterable[str], modality: str) -> dict[str, str]:
    """Return the keys that only the model knows, by name in lower case.

    Args:
        known: Keys the model knows.
        modality: Modality asked for.
    """
    return {
        " ".join(key.partition("_")[2].casefold().split()): key
        for key in known
        if key.startswith(f"{modality}_") and key not in table().structures
    }


def split_own(text: str, own: dict[str, str]) -> tuple[list[tuple[str, str]], str]:
    """Take a model's own names out of a prompt.

    Args:
        text: What was typed, names separated by commas, semicolons or lines.
        own: Keys by name in lower case.

    Returns:
        (phrase, key) of each own name, and the rest of the text, which is the whole text if it holds none.
    """
    if not own:
        return [], text
    found, rest = [], []
    for part in _SEPARATORS.split(text.strip()):
        key = own.get(" ".join(part.casefold().split()))
        if key is None:
            rest.append(part)
        else:
            found.append((part, key))
    return found, ", ".join(rest) if found else text
