"""How a segment is shown (colour) and what it is (codes)."""

from __future__ import annotations

from dataclasses import dataclass

from MedalSLib.vocabulary.structure import Structure
from MedalSLib.vocabulary.terminology import TISSUE, Terminology

Color = tuple[int, int, int]
"""Red, green, blue, 0..255."""

_PALETTE: tuple[Color, ...] = (
    (221, 130, 101), (128, 174, 128), (111, 184, 210), (241, 214, 145), (192, 104, 88), (157, 108, 162),
    (216, 101, 79), (144, 238, 144), (183, 156, 220), (230, 158, 140), (78, 152, 141), (255, 181, 158),
)  # fmt: skip


@dataclass(frozen=True)
class SegmentInfo:
    """How a segment is shown and what it is.

    Attributes:
        color: Its colour, None for one of a fixed list.
        terminology: Its codes, None for "Tissue".
        description: What else should be known about it, such as that it is cut off; empty for nothing.
    """

    color: Color | None = None
    terminology: Terminology | None = None
    description: str = ""

    @classmethod
    def of(cls, structure: Structure) -> SegmentInfo:
        """Return what the vocabulary says about a structure."""
        return cls(structure.color, structure.terminology)


def completed(info: SegmentInfo | None, index: int) -> SegmentInfo:
    """Return what is known of a segment, with a colour by its position and "Tissue" for what is not."""
    info = info or SegmentInfo()
    return SegmentInfo(info.color or _PALETTE[index % len(_PALETTE)], info.terminology or TISSUE, info.description)
