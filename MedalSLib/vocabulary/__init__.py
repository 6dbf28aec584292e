"""The vocabulary: every published class with its facts, and the reading of what people type.

Pure Python; rapidfuzz is loaded when the first typo is met, and done without where it is not installed.  The facts lie
in Resources/Vocabulary.
"""

from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.own import describe, own_keys, own_parts
from MedalSLib.vocabulary.resolving import resolve
from MedalSLib.vocabulary.structure import MODALITIES, Code, Policy, Resolution, Structure, Suggestion
from MedalSLib.vocabulary.suggesting import suggest
from MedalSLib.vocabulary.tables import presets, structure, structures, text_for
from MedalSLib.vocabulary.terminology import terminology_entry

__all__ = [
    "MODALITIES",
    "Code",
    "Policy",
    "Resolution",
    "Structure",
    "Suggestion",
    "describe",
    "normalize_modality",
    "own_keys",
    "own_parts",
    "presets",
    "resolve",
    "structure",
    "structures",
    "suggest",
    "terminology_entry",
    "text_for",
]
