"""What to say about a phrase that names no structure: everything at once, other languages, common abbreviations."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import replace

from MedalSLib.vocabulary.custom_classes import describe
from MedalSLib.vocabulary.structure import Resolution
from MedalSLib.vocabulary.tables import presets
from MedalSLib.vocabulary.words import words

Resolve = Callable[[str], list[Resolution]]


def with_hint(resolution: Resolution, known: Collection[str], resolve: Resolve) -> Resolution:
    """Return a resolution with what can be said if its phrase was not understood.

    "Everything" is everything that the model knows, where that is known.

    Args:
        resolution: Of one phrase.
        known: Keys of the classes that the model knows; empty if no model is asked.
        resolve: Resolves a text in the modality of the phrase.
    """
    if resolution.classes:
        return resolution
    phrase = _plain(resolution.phrase)
    if phrase in words().everything:
        return _everything(resolution, known)
    if meaning := words().expansions.get(phrase):
        near = tuple(dict.fromkeys(name for item in resolve(meaning) for name in item.classes))
        said = "" if near else ", which is none of the structures"
        return replace(resolution, suggestions=near, hint=f"{resolution.phrase} is the {meaning}{said}.")
    translated = " ".join(words().translations.get(word, word) for word in _tokens(phrase))
    if translated != phrase:
        found = [item for item in resolve(translated) if item.classes]
        if found:
            names = tuple(dict.fromkeys(name for item in found for name in item.classes))
            return replace(resolution, suggestions=names, hint="Names are understood in English.")
    return resolution


def _everything(resolution: Resolution, known: Collection[str]) -> Resolution:
    keys = tuple(key for key in known if key.startswith(f"{resolution.modality}_"))
    if keys:
        return replace(
            resolution, classes=tuple(describe(key).name for key in keys), keys=keys, suggestions=(), confidence=1.0
        )
    groups = tuple(presets(resolution.modality))
    return replace(resolution, suggestions=groups[:5], hint="Name the structures, or a group of them.")


def _plain(text: str) -> str:
    """Return a text in lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in decomposed if unicodedata.category(c) != "Mn")).strip(" .!?")


def _tokens(phrase: str) -> list[str]:
    whole = words().translations
    return [phrase] if phrase in whole else phrase.split()
