"""The vocabulary: every published class with its facts, and what typed text means.

The facts are tables in Resources/Vocabulary (concepts.csv, structures.csv, presets.csv, words.json), read by `tables`
and `words` into the dataclasses of `structure` and `terminology`.  `resolve` goes this way:

1. `words` turns the text into words: spelling variants, joined and inflected forms, sides, vertebral levels.
2. `modality` finds the modality where the caller gives none.
3. `custom_classes` takes out the names that only a fine-tuned model knows.
4. `phrases` splits the rest into phrases, one for each structure or preset.
5. `phrase_matching` looks a phrase up in the `lexicon` of the modality, in which names and synonyms are bags of words;
   `spelling` corrects typos (with `similarity`) where exactly one word is close enough.
6. `resolving` puts the results together, with suggestions for what was not understood.

`suggest` (in `suggesting`) completes names while the user types.

Pure Python; rapidfuzz is imported when the first typo is met, and the standard library does its work where it is not
installed.
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
