"""SNOMED CT terminology: segments get codes and standard colours, and codes tell which structure a segment is.

Slicer's terminology search by label is exact and case-sensitive, and an entry object that is used twice keeps the
modifier of its first use.  So the tag's text is written for each segment from the vocabulary's codes.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import slicer

from MedalSLib import vocabulary
from MedalSLib.errors import ModelError
from MedalSLib.resources import resource
from MedalSLib.vocabulary import Structure, Terminology, parse_terminology
from MedalSLib.vocabulary.tables import table
from MedalSLib.vocabulary.terminology import GENERAL_ANATOMY

OWN_CONTEXT = "Segmentation category and type - Medal S"
FILE_NAME = "SegmentationCategoryTypeModifier-MedalS.term.json"
"""The list that ships with Medal S, in `Resources`; `tools/write_terminology.py` writes it."""
Codes = tuple[str, str, str, str]
"""Code values of type, type modifier, region and region modifier; empty for none."""


def describe(segment: Any, structure: str, modality: str) -> None:
    """Give a segment the codes and the colour of a structure; general ones for a name that a model brings itself.

    Args:
        segment: vtkSegment.
        structure: Published name, or one of the model's own.
        modality: Modality of the run; another one that has the name will do.
    """
    found = structureNamed(structure, modality) or vocabulary.describe(f"{modality}_{structure}")
    segment.SetColor(*[value / 255 for value in found.color])
    segment.SetTag(slicer.vtkSegment.GetTerminologyEntryTagName(), serialized(found))


def structureNamed(name: str, modality: str) -> Structure | None:
    """Return what the vocabulary knows of a published name, in this modality or else in the first that has it."""
    structures = table().structures
    exact = structures.get(f"{modality}_{name}")
    return exact or next((item for item in structures.values() if item.name == name), None)


def serialized(structure: Structure) -> str:
    """Return a structure's codes as Slicer keeps them in a segment's tag.

    The context is Slicer's general list if that has the same type (and side), so that its selector shows the entry;
    the list that ships with Medal S otherwise.
    """
    return str(replace(structure.terminology, context=GENERAL_ANATOMY if _isGeneral(structure) else OWN_CONTEXT))


def structureOfTerminology(text: str, modality: str) -> str:
    """Return the published name that a segment's terminology tag means in a modality, empty if none.

    Compared by type, modifier and region codes; context, category and wording do not matter.  An entry that fits
    several structures (a kidney without a side) means none of them.
    """
    terminology = parse_terminology(text)
    names = () if terminology is None else _namesByCodes(modality).get(_codesOf(terminology), ())
    return names[0] if len(names) == 1 else ""


def loadTerminology(logic: Any) -> bool:
    """Load the list that ships with Medal S into Slicer's terminologies; call once the application has started.

    Args:
        logic: vtkSlicerTerminologiesModuleLogic.
    """
    try:
        path = resource(FILE_NAME)
    except ModelError:
        return False
    return bool(logic.LoadTerminologyFromFile(str(path)) == OWN_CONTEXT)


def _codesOf(terminology: Terminology) -> Codes:
    modifiers = (terminology.type_modifier, terminology.region, terminology.region_modifier)
    side, region, regionSide = (code.value if code else "" for code in modifiers)
    return terminology.type.value, side, region, regionSide


@lru_cache(maxsize=8)
def _namesByCodes(modality: str) -> dict[Codes, tuple[str, ...]]:
    found: dict[Codes, tuple[str, ...]] = {}
    for item in table().structures.values():
        # A published class with two spellings counts once, under the preferred one.
        if item.modality == modality and item.key not in table().secondary:
            codes = _codesOf(item.terminology)
            found[codes] = (*found.get(codes, ()), item.name)
    return found


def _isGeneral(structure: Structure) -> bool:
    """Whether Slicer's general list is loaded and has the structure's category, type and modifier."""
    modules = getattr(slicer, "modules", None)
    module = getattr(modules, "terminologies", None)
    if module is None:
        return False
    codes = structure.terminology
    modifier = codes.type_modifier
    found = module.logic().FindTerminologyNames(
        codes.category.scheme,
        codes.category.value,
        codes.type.scheme,
        codes.type.value,
        modifier.scheme if modifier else "",
        modifier.value if modifier else "",
        [GENERAL_ANATOMY],
    )
    return GENERAL_ANATOMY in tuple(found)
