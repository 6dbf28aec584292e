"""What the vocabulary knows about a structure: plain facts, read once from the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from MedalSLib.vocabulary.terminology import Terminology

Kind = Literal["semantic", "instance"]
Side = Literal["", "left", "right"]

MODALITIES = ("CT", "MRI", "US", "PET", "Microscopy")
"""The order is fixed: it is that of the published text encoder's modality embedding (row 0 is CT), and the order in
which a structure is looked up when no modality is given."""


@dataclass(frozen=True)
class Policy:
    """Which published rules apply to a class (reference behaviour: stages, resampling policy, prompted patches).

    Attributes:
        postprocess: The component filter is applied to its label.
        stages: 1 or 2 if only that stage is run for it, else both.
        ignores_spacing: Its volumes are resampled as if their spacing were unknown.
        refine_in_stages: Stages in which an instance target is refined from its own thresholded prediction.
        box_growth: Factor by which stage 1's box grows for stage 2.
    """

    postprocess: bool = False
    stages: tuple[int, ...] = (1, 2)
    ignores_spacing: bool = False
    refine_in_stages: tuple[int, ...] = (1, 2)
    box_growth: float = 1.1


@dataclass(frozen=True)
class Structure:
    """One published modality-class.

    Attributes:
        key: "MODALITY_Published name" ("CT_Liver"), unique.
        name: Published name, spelled as published.
        modality: One of `MODALITIES`.
        kinds: Kinds it is published as; MRI's vertebrae and intervertebral discs are published as both, so 241
            structures stand for the 243 published modality-classes.
        laterality: "left", "right" or "".
        concept: What it is, whatever the modality and side ("kidney").
        groups: Presets it belongs to.
        synonyms: Other names and abbreviations of it, each with its side where it has one.
        window: Name of its intensity window ("soft tissue", "lung", "bone", "brain"; "percentile" outside CT).
        terminology: SNOMED CT codes of category, type, side and region.
        color: Red, green, blue, 0..255.
        policy: Published rules that apply to it.
    """

    key: str
    name: str
    modality: str
    kinds: tuple[Kind, ...]
    laterality: Side
    concept: str
    groups: tuple[str, ...]
    synonyms: tuple[str, ...]
    window: str
    terminology: Terminology
    color: tuple[int, int, int]
    policy: Policy

    @property
    def kind(self) -> Kind:
        """The kind it is treated as unless asked otherwise: the first it is published as."""
        return self.kinds[0]


@dataclass(frozen=True)
class Resolution:
    """What one phrase was understood as.

    Attributes:
        phrase: The words as typed.
        classes: Canonical published names, empty if nothing was understood.
        modality: Modality in which `classes` are meant, or in which they were looked for.
        keys: Keys of `classes` ("CT_Right kidney").
        suggestions: Names that may have been meant; "Name (MRI)" for one that exists only in another modality.
        confidence: 1 for a name or synonym, less where a side was added, words were skipped or a typo was
            corrected, 0 if nothing was understood.
        hint: What a phrase that names no structure means, or how to ask instead, as a sentence.
    """

    phrase: str
    classes: tuple[str, ...]
    modality: str
    keys: tuple[str, ...] = ()
    suggestions: tuple[str, ...] = ()
    confidence: float = 0.0
    hint: str = ""


@dataclass(frozen=True)
class Suggestion:
    """A completion.

    Attributes:
        text: What to put into the text field; it resolves to `classes`.
        classes: Published names it means.
        modality: Modality of `classes`.
        keys: Keys of `classes`.
        matched: The synonym that matched what was typed, equal to `text` if the name itself did.
        kind: "structure" or "preset".
        score: Rank, 0..1.
    """

    text: str
    classes: tuple[str, ...]
    modality: str
    keys: tuple[str, ...]
    matched: str
    kind: Literal["structure", "preset"]
    score: float
