"""`resolve`: typed text, phrase by phrase, as published classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import replace

from MedalSLib.vocabulary.custom_classes import custom_keys, describe, split_custom_names
from MedalSLib.vocabulary.hints import with_hint
from MedalSLib.vocabulary.lexicon import bag_of, lexicon, side_words, speakable
from MedalSLib.vocabulary.modality import modality_in, normalize_modality
from MedalSLib.vocabulary.phrase_matching import find, without_context
from MedalSLib.vocabulary.phrases import Phrase, complete_from_neighbours, phrases
from MedalSLib.vocabulary.similarity import most_similar
from MedalSLib.vocabulary.spelling import corrected
from MedalSLib.vocabulary.structure import MODALITIES, Resolution, Structure
from MedalSLib.vocabulary.tables import preset_members, structures
from MedalSLib.vocabulary.words import Word, words

_SUGGESTIONS = 5
_SIMILAR = 80
_SHORTEST_TYPO = 4


def resolve(text: str, modality: str | None = None, known: Collection[str] = ()) -> list[Resolution]:
    """Return which classes a text names, phrase by phrase.

    Every word has to be accounted for: a phrase with a word that belongs to no structure ("kidney stone") or that
    excludes something ("not the liver") names nothing, because a wrong organ is worse than none.  A structure that is
    published in several spellings in one modality (CT: "Thyroid gland" and "Thyroid", "Inferior vena cava" and
    "Postcava", "Airways" and "Airway Tree") is named by the spelling typed, by a synonym in the preferred spelling
    (the table's column `spelling` marks the others).  A paired structure without a side means both sides.

    Args:
        text: Names, synonyms, abbreviations or sentences, in a list or one by one.
        modality: Modality of the image, however written; None to take it from the text, else the first of CT, MRI, US,
            PET and Microscopy that has the structure.
        known: Keys of the classes the model knows ("CT_Liver"); custom classes among them are recognized and
            suggested too.

    Returns:
        One resolution per phrase, in the order typed; empty if the text contains no word.

    Raises:
        PromptError: `modality` is not one.
    """
    text = unicodedata.normalize("NFKC", text)
    wanted = normalize_modality(modality) if modality else modality_in(words().read(text))
    return [
        with_hint(item, known, lambda part, modality=item.modality: _resolve_published(part, modality))  # type: ignore[misc]
        for item in _resolve_all(text, wanted, known)
    ]


def _resolve_all(text: str, wanted: str | None, known: Collection[str]) -> list[Resolution]:
    custom = custom_keys(frozenset(known), wanted) if known else {}
    if not custom:
        return _resolve_published(text, wanted)
    names = [describe(key).name for key in custom.values()]
    own = speakable(frozenset(custom.values()))
    found: list[Resolution] = []
    for part, key in split_custom_names(text, {name: key for name, key in custom.items() if key not in own}):
        published = _resolve_published(part, wanted, own) if not key or wanted is None else []
        if key and not (published and all(item.classes for item in published)):
            item = describe(key)
            found.append(Resolution(part, (item.name,), item.modality, (key,), (), 1.0))
        else:
            found += [_with_custom_names(resolution, names) for resolution in published]
    return found


def _resolve_published(text: str, modality: str | None, own: frozenset[str] = frozenset()) -> list[Resolution]:
    """Resolve a text by the tables alone, without custom classes but those that are read like published ones."""
    tokens = words().read(text)
    if not any(token.raw[0].isalnum() for token in tokens):
        return []
    if modality is not None:
        return _resolve_in(text, tokens, modality, own)
    readings = [_resolve_in(text, tokens, candidate, own) for candidate in MODALITIES]
    if len({len(reading) for reading in readings}) > 1:  # they split the text differently: take the best as a whole
        return max(readings, key=lambda reading: sum(item.confidence for item in reading) / len(reading))
    return [max(same, key=lambda item: item.confidence > 0) for same in zip(*readings, strict=True)]


def _with_custom_names(resolution: Resolution, names: Sequence[str]) -> Resolution:
    """Add custom classes with a similar name to the suggestions for a phrase that was not understood."""
    if resolution.classes:
        return resolution
    alike = [names[index] for index, _ in most_similar(resolution.phrase, names, _SUGGESTIONS, _SIMILAR, by_words=True)]
    return replace(resolution, suggestions=tuple(dict.fromkeys((*alike, *resolution.suggestions)))[:_SUGGESTIONS])


def _resolve_in(text: str, tokens: list[Word], modality: str, own: frozenset[str]) -> list[Resolution]:
    """Resolve the words of a text among the structures of one modality."""
    known = lexicon(modality, own)
    parts = phrases(tokens, known)
    alone = [None if part.negated else find(part.tokens, known) for part in parts]
    found = complete_from_neighbours(parts, alone, known)
    resolutions: list[Resolution] = []
    for part, items in zip(parts, found, strict=True):
        phrase = text[part.start : part.end]
        phrase += ")" if phrase.count("(") > phrase.count(")") else ""
        if items is None:
            resolutions.append(Resolution(phrase, (), modality, suggestions=_suggestions(part, modality)))
        else:
            for item in items:
                names = tuple(member.name for member in item.members)
                keys = tuple(member.key for member in item.members)
                resolutions.append(Resolution(phrase, names, modality, keys, confidence=item.confidence))
    return resolutions


def _suggestions(part: Phrase, modality: str) -> tuple[str, ...]:
    """Return names that share words with the phrase, then those of other modalities, then those that look alike."""
    lists = words()
    tokens = [t for t in part.tokens if t.raw not in lists.negation and not lists.modality_of(t)]
    spelled, _ = corrected(tokens)
    tokens = spelled if spelled is not None else tokens
    names = dict.fromkeys(item.name for item in _sharing(tokens, modality))
    for other in MODALITIES:
        if other != modality and not part.negated:
            exact = find(tokens, lexicon(other)) or []
            names |= dict.fromkeys(f"{item.name} ({other})" for one in exact for item in one.members)
    if len(names) < _SUGGESTIONS:
        content = [token.raw for token in tokens if token.raw not in lists.filler and not token.separator]
        phrase = " ".join(content)
        # A short abbreviation is like many names, and none of them.
        known = [item.name for item in structures(modality)] if len(phrase) >= _SHORTEST_TYPO else []
        alike = most_similar(phrase, known, _SUGGESTIONS, _SIMILAR, by_words=True)
        names |= dict.fromkeys(known[index] for index, _ in alike)
    return tuple(names)[:_SUGGESTIONS]


def _sharing(tokens: list[Word], modality: str) -> list[Structure]:
    """Return structures all of whose words are said, those with the most words first, on the side said if one is."""
    known = lexicon(modality)
    short = [known.abbreviations[token.raw][0] for token in tokens if token.raw in known.abbreviations]
    said = bag_of(without_context(tokens, modality)).union(*short)
    sides = side_words(tokens) - {"both"}
    bags = {bag for word in said for bag in known.by_word.get(word, ()) if bag <= said}
    ordered = sorted(bags, key=lambda bag: (-len(bag), sorted(bag)))
    members = [item for bag in ordered for item in known.entries.get(bag, [])]
    members += [
        item for bag in ordered if bag in known.presets for item in preset_members(known.presets[bag], modality)
    ]
    sided = [item for item in members if item.laterality in sides or not item.laterality]
    return sided if sides and sided else members
