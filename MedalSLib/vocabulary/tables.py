"""Reads the tables in Resources/Vocabulary: concepts.csv (what a thing is), structures.csv (classes), presets.csv.

A fact that holds in every modality and on both sides stands once, in concepts.csv.  List cells are separated by "|";
codes are written "value^meaning"; a synonym that names one side only ends in "=left" or "=right".
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from MedalSLib.errors import PromptError
from MedalSLib.resources import resource
from MedalSLib.vocabulary.structure import MODALITIES, Kind, Policy, Side, Structure
from MedalSLib.vocabulary.terminology import LEFT, RIGHT, Code, Terminology

_LEFT_SHADE = 0.7
"""Of the colour of a structure on the right; the two of a pair have one colour in the table."""
_SIDE_CODES = {"left": LEFT, "right": RIGHT}


@dataclass(frozen=True)
class Concept:
    """A row of concepts.csv.

    Attributes:
        row: The cells by column.
        synonyms: (text, side) of each synonym; side is "" if it names every side.
        qualifiers: Words that may stand beside its name without changing what is meant.
    """

    row: dict[str, str]
    synonyms: tuple[tuple[str, Side], ...]
    qualifiers: frozenset[str]


@dataclass(frozen=True)
class Table:
    """Everything in the tables.

    Attributes:
        structures: By key, in published order.
        concepts: By name.
        secondary: Keys of structures whose concept has a preferred spelling in the same modality; they are named
            only by their own published name.
        presets: Synonyms by preset name.
    """

    structures: dict[str, Structure]
    concepts: dict[str, Concept]
    secondary: frozenset[str]
    presets: dict[str, tuple[str, ...]]


@lru_cache(maxsize=1)
def table() -> Table:
    """Read the tables, once per process."""
    concepts: dict[str, Concept] = {}
    for row in _rows("concepts.csv"):
        sided = (synonym.partition("=") for synonym in _list(row["synonyms"]))
        synonyms = tuple((text, cast(Side, side)) for text, _, side in sided)
        concepts[row["concept"]] = Concept(row, synonyms, frozenset(row["qualifiers"].split()))
    structures: dict[str, Structure] = {}
    secondary = set()
    for row in _rows("structures.csv"):
        item = _structure(row, concepts[row["concept"]])
        structures[item.key] = item
        if row["spelling"] == "other":
            secondary.add(item.key)
    presets = {row["preset"]: _list(row["synonyms"]) for row in _rows("presets.csv")}
    return Table(structures, concepts, frozenset(secondary), presets)


def structure(key: str) -> Structure:
    """Return the structure with a key such as "CT_Liver".

    Raises:
        PromptError: There is no such key.
    """
    found = table().structures.get(key)
    if found is None:
        raise PromptError(f"'{key}' is not the key of a structure.", "Keys look like 'CT_Liver'; see 'medals names'.")
    return found


def unpublished(modality: str, name: str, side: Side) -> Structure | None:
    """Return a structure that no published class is, but that a concept describes; None if none does.

    Args:
        modality: Its modality.
        name: Its name.
        side: Its side, which the name says.
    """
    said = name.casefold().split()
    concept = table().concepts.get(" ".join(word for word in said if word != side))
    if concept is None:
        return None
    row = {"modality": modality, "name": name, "side": side, "kinds": "semantic", "policy": ""}
    return _structure(row, concept)


def structures(modality: str | None = None) -> tuple[Structure, ...]:
    """Return the structures of a modality, or all, in published order."""
    return tuple(item for item in table().structures.values() if modality in (None, item.modality))


def preset_members(preset: str, modality: str) -> tuple[Structure, ...]:
    """Return what a preset stands for in a modality: one spelling of each structure, in published order."""
    known = table()
    return tuple(s for s in structures(modality) if preset in s.groups and s.key not in known.secondary)


def presets(modality: str | None = None) -> dict[str, tuple[str, ...]]:
    """Return the presets as published names by preset name.

    Args:
        modality: Modality; a preset with fewer than two members in it is left out.  None for the members of the
            first modality (CT, MRI, ...) that has the preset.
    """
    found: dict[str, tuple[str, ...]] = {}
    for wanted in (modality,) if modality else MODALITIES:
        for preset in table().presets:
            members = preset_members(preset, wanted)
            if len(members) > 1:
                found.setdefault(preset, tuple(item.name for item in members))
    return found


def text_for(item: Structure) -> str:
    """Return the text that is fed to the text encoder for a structure: its published bare name."""
    return item.name


def _rows(name: str) -> list[dict[str, str]]:
    with resource("Vocabulary", name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _list(cell: str) -> tuple[str, ...]:
    return tuple(part for part in cell.split("|") if part)


def _code(cell: str) -> Code | None:
    value, _, meaning = cell.partition("^")
    return Code(value, meaning) if value else None


def _structure(row: dict[str, str], concept: Concept) -> Structure:
    facts = concept.row
    side = cast(Side, row["side"])
    region = _code(facts["region"])
    modifier = _SIDE_CODES.get(side) if facts["side_code"] == "modifier" else None
    category, kind = _code(facts["category"]), _code(facts["type"])
    if category is None or kind is None:
        raise ValueError(f"{row['name']} has no SNOMED CT code in concepts.csv")
    # The two of a pair are told apart by shade.
    shade = _LEFT_SHADE if side == "left" else 1.0
    red, green, blue = (round(shade * value) for value in bytes.fromhex(facts["color"].removeprefix("#")))
    return Structure(
        key=f"{row['modality']}_{row['name']}",
        name=row["name"],
        modality=row["modality"],
        kinds=cast(tuple[Kind, ...], _list(row["kinds"])),
        laterality=side,
        concept=facts["concept"],
        groups=_list(facts["groups"]),
        synonyms=_spoken(concept.synonyms, side),
        window=facts["window"] if row["modality"] == "CT" else "percentile",
        terminology=Terminology(
            category=category,
            type=kind,
            type_modifier=_code(facts["modifier"]) or (None if region else modifier),
            region=region,
            region_modifier=modifier if region else None,
        ),
        color=(red, green, blue),
        policy=_policy(_list(row["policy"])),
    )


def _spoken(synonyms: tuple[tuple[str, Side], ...], side: Side) -> tuple[str, ...]:
    """Return the synonyms that name this side, with the side said where the synonym does not say it itself."""
    return tuple(
        text if own or not side or side in text else f"{side} {text}"
        for text, own in synonyms
        if not own or own == side
    )


def _policy(flags: tuple[str, ...]) -> Policy:
    return Policy(
        postprocess="postprocess" in flags,
        stages=(1,) if "stage 1 only" in flags else (2,) if "stage 2 only" in flags else (1, 2),
        ignores_spacing="ignores spacing" in flags,
        refine_in_stages=() if "no refinement" in flags else (1,) if "no refinement in stage 2" in flags else (1, 2),
        box_growth=1.5 if "box growth 1.5" in flags else 1.1,
    )
