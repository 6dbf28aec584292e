"""Coded concepts (SNOMED CT) of a segment, in the form in which 3D Slicer serializes them."""

from __future__ import annotations

import re
from dataclasses import dataclass

GENERAL_ANATOMY = "Segmentation category and type - 3D Slicer General Anatomy list"
DICOM_REGIONS = "Anatomic codes - DICOM master list"
_SEPARATORS = re.compile(r"[~^|\s]+")
_ITEMS = 7


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Attributes:
        value: Code value, such as "10200004".
        meaning: Code meaning, such as "Liver".
        scheme: Coding scheme designator; "SCT" is SNOMED CT.
    """

    value: str
    meaning: str
    scheme: str = "SCT"


LEFT, RIGHT = Code("7771000", "Left"), Code("24028007", "Right")


@dataclass(frozen=True)
class Terminology:
    """Codes of a segment, as 3D Slicer's terminology entry has them.

    Attributes:
        category: Category of the segmented property ("Anatomical Structure").
        type: Type of the segmented property ("Kidney").
        type_modifier: Left, right or another modifier of the type, None if there is none.
        region: Anatomic region, where the type alone does not say it.
        region_modifier: Left or right region, None if there is none.
        context: Slicer's name of the list that the category and type come from.
        region_context: Slicer's name of the list that the region comes from.
    """

    category: Code
    type: Code
    type_modifier: Code | None = None
    region: Code | None = None
    region_modifier: Code | None = None
    context: str = GENERAL_ANATOMY
    region_context: str = DICOM_REGIONS

    def __str__(self) -> str:
        """Return Slicer's form: context~category~type~modifier~region context~region~region modifier."""
        codes = [_triple(code) for code in (self.category, self.type, self.type_modifier)]
        regions = [_triple(code) for code in (self.region, self.region_modifier)]
        return "~".join([_clean(self.context), *codes, _clean(self.region_context), *regions])


TISSUE = Terminology(Code("85756007", "Tissue"), Code("85756007", "Tissue"))
"""What 3D Slicer gives to a segment of unknown kind."""


def parse_terminology(text: str) -> Terminology | None:
    """Read Slicer's form; None if it does not name a category and a type."""
    items = text.split("~")
    items += [""] * (_ITEMS - len(items))
    codes = [_parse_triple(item) for item in (items[1], items[2], items[3], items[5], items[6])]
    if codes[0] is None or codes[1] is None:
        return None
    return Terminology(codes[0], codes[1], codes[2], codes[3], codes[4], context=items[0], region_context=items[4])


def _triple(code: Code | None) -> str:
    return "^^" if code is None else "^".join((_clean(code.scheme), _clean(code.value), _clean(code.meaning)))


def _parse_triple(text: str) -> Code | None:
    parts = text.split("^")
    return Code(value=parts[1], meaning=parts[2], scheme=parts[0]) if len(parts) == 3 and parts[1] else None


def _clean(text: str) -> str:
    """Return the text without the characters that separate fields."""
    return _SEPARATORS.sub(" ", text).strip()
