"""The vocabulary: every published class with its facts, and the reading of what people type.

Pure Python; rapidfuzz is loaded when the first typo is met, and done without where it is not installed.  The facts lie
in Resources/Vocabulary.
"""

from MedalSLib.vocabulary.custom_classes import describe
from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.resolving import resolve
from MedalSLib.vocabulary.structure import MODALITIES, Policy, Resolution, Structure, Suggestion
from MedalSLib.vocabulary.suggesting import suggest
from MedalSLib.vocabulary.tables import presets, structure, structures, text_for
from MedalSLib.vocabulary.terminology import Code, Terminology, parse_terminology

__all__ = [
    "MODALITIES",
    "Code",
    "Policy",
    "Resolution",
    "Structure",
    "Suggestion",
    "Terminology",
    "describe",
    "normalize_modality",
    "parse_terminology",
    "presets",
    "resolve",
    "structure",
    "structures",
    "suggest",
    "text_for",
]
