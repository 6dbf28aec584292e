"""What a segment is, in codes that 3D Slicer and DICOM understand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from MedalSLib.vocabulary.structure import Code, Structure

Color = tuple[int, int, int]
"""Red, green, blue, 0..255."""

GENERAL_ANATOMY = "Segmentation category and type - 3D Slicer General Anatomy list"
DICOM_REGIONS = "Anatomic codes - DICOM master list"
_PALETTE: tuple[Color, ...] = (
    (221, 130, 101), (128, 174, 128), (111, 184, 210), (241, 214, 145), (192, 104, 88), (157, 108, 162),
    (216, 101, 79), (144, 238, 144), (183, 156, 220), (230, 158, 140), (78, 152, 141), (255, 181, 158),
)  # fmt: skip
_SEPARATORS = re.compile(r"[~^|\s]+")
_ITEMS = 7


@dataclass(frozen=True)
class Terminology:
    """Codes of a segment, as 3D Slicer's terminology entry has them.

    Attributes:
        category: Category of the segmented property ("Anatomical Structure").
        type: Type of the segmented property ("Kidney").
        type_modifier: Modifier of the type ("Left").
        region: Anatomic region.
        region_modifier: Modifier of the region.
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


def parse_terminology(text: str) -> Terminology | None:
    """Read Slicer's form; None if it does not name a category and a type."""
    items = text.split("~")
    items += [""] * (_ITEMS - len(items))
    codes = [_parse_triple(item) for item in (items[1], items[2], items[3], items[5], items[6])]
    if codes[0] is None or codes[1] is None:
        return None
    return Terminology(codes[0], codes[1], codes[2], codes[3], codes[4], context=items[0], region_context=items[4])


@dataclass(frozen=True)
class SegmentInfo:
    """How a segment is shown and what it is.

    Attributes:
        color: Its colour, None for one of a fixed list.
        terminology: Its codes, None for "Tissue".
    """

    color: Color | None = None
    terminology: Terminology | None = None

    @classmethod
    def of(cls, structure: Structure) -> SegmentInfo:
        """Return what the vocabulary says about a structure."""
        return cls(
            color=structure.color,
            terminology=Terminology(
                structure.category,
                structure.type,
                structure.type_modifier,
                structure.region,
                structure.region_modifier,
            ),
        )


def tissue() -> Terminology:
    """Return the entry that 3D Slicer gives to a segment of unknown kind."""
    from MedalSLib.vocabulary.structure import Code

    code = Code("85756007", "Tissue")
    return Terminology(code, code)


def completed(info: SegmentInfo | None, index: int) -> SegmentInfo:
    """Return what is known of a segment, with a colour by its position and "Tissue" for what is not."""
    info = info or SegmentInfo()
    return SegmentInfo(info.color or _PALETTE[index % len(_PALETTE)], info.terminology or tissue())


def _triple(code: Code | None) -> str:
    return "^^" if code is None else "^".join((_clean(code.scheme), _clean(code.value), _clean(code.meaning)))


def _parse_triple(text: str) -> Code | None:
    from MedalSLib.vocabulary.structure import Code

    parts = text.split("^")
    return Code(value=parts[1], meaning=parts[2], scheme=parts[0]) if len(parts) == 3 and parts[1] else None


def _clean(text: str) -> str:
    """Return the text without the characters that separate fields."""
    return _SEPARATORS.sub(" ", text).strip()
