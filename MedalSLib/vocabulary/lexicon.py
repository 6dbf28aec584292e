"""Names, synonyms and presets of one modality as bags of base words, so that word order and inflection do not matter.

"Left kidney", "kidney, left" and "renal left" are one entry: the bag {kidney} with two targets, one per side.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from MedalSLib.vocabulary.custom_classes import describe
from MedalSLib.vocabulary.structure import MODALITIES, Structure
from MedalSLib.vocabulary.tables import Table, preset_members, structures, table
from MedalSLib.vocabulary.words import Word, words

Bag = frozenset[str]


@dataclass
class Lexicon:
    """What can be said in one modality.

    Attributes:
        modality: The modality.
        entries: Structures by bag; several where the bag leaves the side or the spelling open.
        presets: Preset names by bag.
        exact: Structures by the words of their published name (or of a synonym that only looks sided) as spelled.
        phrases: Preset names by the words of their name or synonym as they are spelled.
        abbreviations: (bag, side) that an abbreviation stands for.
        compounds: Bags of names that hold a word which otherwise separates phrases ("prostate/uterus").
        levels: Structures by vertebral level.
        by_word: Bags by each of their words.
        raw: Every word as spelled in a name or synonym, longest forms of abbreviations aside.
    """

    modality: str
    entries: dict[Bag, list[Structure]] = field(default_factory=dict)
    presets: dict[Bag, str] = field(default_factory=dict)
    exact: dict[tuple[str, ...], Structure] = field(default_factory=dict)
    phrases: dict[tuple[str, ...], str] = field(default_factory=dict)
    abbreviations: dict[str, tuple[Bag, str]] = field(default_factory=dict)
    compounds: set[Bag] = field(default_factory=set)
    levels: dict[str, Structure] = field(default_factory=dict)
    by_word: dict[str, set[Bag]] = field(default_factory=dict)
    raw: set[str] = field(default_factory=set)


@lru_cache(maxsize=4 * len(MODALITIES))
def lexicon(modality: str, own: frozenset[str] = frozenset()) -> Lexicon:
    """Return the lexicon of a modality, built once per process.

    Args:
        modality: The modality.
        own: Keys of a model's own classes that can be said like published ones (see `speakable`).
    """
    known = table()
    built = Lexicon(modality)
    items = (*structures(modality), *(item for item in map(describe, sorted(own)) if item.modality == modality))
    for item in items:
        _add_name(built, item)
    for item in items:
        if item.key not in known.secondary:
            _add_synonyms(built, item, known)
    for preset, synonyms in known.presets.items():
        if len(preset_members(preset, modality)) > 1:
            _add_preset(built, preset, (preset, *synonyms))
    for bag in (*built.entries, *built.presets):
        for word in bag:
            built.by_word.setdefault(word, set()).add(bag)
    return built


@lru_cache(maxsize=16)
def speakable(custom: frozenset[str]) -> frozenset[str]:
    """Return those of a model's own classes that the tables have a concept for and no published name in the way.

    They are read like published ones: with sides in any form and place, for both sides at once, by synonyms.

    Args:
        custom: Keys of custom classes.
    """
    items = [describe(key) for key in custom]
    return frozenset(
        item.key
        for item in items
        if item.concept in table().concepts and bag_of(words().read(item.name)) not in lexicon(item.modality).entries
    )


@lru_cache(maxsize=1)
def all_words() -> frozenset[str]:
    """Return every word of every modality, as spelled and in its base form: none of them is a typo."""
    known: set[str] = set()
    for modality in MODALITIES:
        one = lexicon(modality)
        known |= one.raw | set(one.by_word) | set(one.abbreviations)
    for concept in table().concepts.values():
        known |= concept.qualifiers
    return frozenset(known)


def raw_words(tokens: Iterable[Word]) -> tuple[str, ...]:
    """Return words as spelled."""
    return tuple(token.raw for token in tokens)


def side_words(tokens: Iterable[Word]) -> set[str]:
    """Return the sides that the words say."""
    return {words().sides[token.raw] for token in tokens if token.raw in words().sides}


def bag_of(tokens: Iterable[Word], keep_generic: bool = False) -> Bag:
    """Return the base words that carry the meaning of a name: without sides and filler words."""
    lists = words()
    return frozenset(
        token.canon
        for token in tokens
        if not token.separator
        and token.raw not in lists.sides
        and token.raw not in lists.filler
        and (keep_generic or token.raw not in lists.generic)
    )


def _add_name(built: Lexicon, item: Structure) -> None:
    tokens = words().read(item.name)
    built.exact[raw_words(token for token in tokens if not token.separator)] = item
    _remember(built, tokens)
    if item.concept.startswith("vertebra "):
        built.levels[tokens[-1].canon] = item
    bag = bag_of(tokens)
    built.entries.setdefault(bag, []).append(item)
    if any(token.separator for token in tokens):
        built.compounds.add(bag)


def _add_synonyms(built: Lexicon, item: Structure, known: Table) -> None:
    name_bag = bag_of(words().read(item.name))
    for text, side in (*known.concepts[item.concept].synonyms, (item.concept, "")):
        if side and side != item.laterality:
            continue
        tokens = words().read(text)
        own_side = side_words(tokens)
        if own_side and not item.laterality:  # "right colon" is no side of the colon: only these very words
            built.exact.setdefault(raw_words(tokens), item)
            continue
        if own_side and item.laterality not in own_side:
            continue
        if " " not in text and sum(letter.isupper() for letter in text) > 1:  # an abbreviation
            built.abbreviations[tokens[0].raw] = (name_bag, side)
            continue
        _remember(built, tokens)
        bag = bag_of(_expanded(built, tokens))
        named = built.entries.setdefault(bag, [])
        if not any(other.laterality == item.laterality or not other.laterality for other in named):
            named.append(item)
        if any(token.separator for token in tokens):
            built.compounds |= {bag, bag_of(tokens)}  # with its abbreviations written out, and as typed


def _add_preset(built: Lexicon, preset: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        tokens = words().read(text)
        _remember(built, tokens)
        built.phrases.setdefault(raw_words(token for token in tokens if not token.separator), preset)
        bag = bag_of(tokens, keep_generic=True)
        if bag and bag not in built.entries and not bag <= words().soft_adjectives:
            built.presets.setdefault(bag, preset)
        if any(token.separator for token in tokens):
            built.compounds.add(bag)


def _expanded(built: Lexicon, tokens: list[Word]) -> list[Word]:
    """Replace abbreviations inside a synonym ("LV cavity") by what they stand for, as far as that is known."""
    expanded: list[Word] = []
    for token in tokens:
        bag, _ = built.abbreviations.get(token.raw, (None, ""))
        expanded += [token] if bag is None else [Word(word, word) for word in sorted(bag)]
    return expanded


def _remember(built: Lexicon, tokens: list[Word]) -> None:
    built.raw |= {token.raw for token in tokens if token.raw.isalpha() and not token.separator}
