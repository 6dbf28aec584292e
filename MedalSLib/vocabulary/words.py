"""From a text to words: spelling, joined and inflected forms, sides, levels, and what kind of word each is."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

from MedalSLib.resources import resource

_DASHES = frozenset("-\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}")
_TOKEN = re.compile(
    rf"[^\W_]+(?:'[^\W\d_]{{1,2}}(?![^\W_]))?|[{''.join(sorted(_DASHES))}]|\.{{2,}}|[,;:\n|.?!•()\[\]{{}}&+/]"
)
_APOSTROPHE = "\N{RIGHT SINGLE QUOTATION MARK}"
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])")
_LEVEL = re.compile(r"(c|th|t|d|l|s)0?(\d{1,2})")
_COUNTS = {"c": 7, "t": 12, "l": 5, "s": 1}
_LEVELS = tuple(f"{letter}{i}" for letter, count in _COUNTS.items() for i in range(1, count + 1))
_COLUMN = {"cervix": "c", "thoracic": "t", "lumbar": "l", "sacrum": "s"}
_HARD = frozenset(",;:\n|.?!•()[]{}")
_SOFT = frozenset(("and", "&", "+", "/", "plus", "or", "then", "but"))


@dataclass(frozen=True)
class Word:
    """A word of a text.

    Attributes:
        raw: As typed, lower case, without accents and possessive.
        canon: Its base form ("renal" is "kidney"); equal for words that mean the same in a structure's name.
        start: Where it begins in the text.
        end: Where it ends.
        levels: Vertebral levels it stands for ("L1-L3": l1, l2, l3), else empty.
        upper: It was typed in capitals.
    """

    raw: str
    canon: str
    start: int = 0
    end: int = 0
    levels: tuple[str, ...] = ()
    upper: bool = False

    @property
    def separator(self) -> str:
        """Return "hard", "soft", or "" for a word that separates nothing."""
        return "hard" if self.raw in _HARD else "soft" if self.raw in _SOFT else ""


class Words:
    """The lists of Resources/Vocabulary/words.json, ready for look-up.

    Attributes:
        sides: Side ("left", "right", "both") by the words that say it, common misspellings included.
        forms: Base form by inflected or adjectival form ("renal": "kidney").
        joins: One word for several that belong together; a hyphen between them does not matter.
        modalities: Modality by the words that name it inside a sentence.
        negation: How far a negation reaches ("until the next clause", "until the end") by its word.
        filler: Words that change nothing about which structure is meant.
        generic: Filler everywhere but in the names of presets ("regions").
        soft_adjectives: Adjectives of place that may be left out ("abdominal").
        region_nouns: Places that may be left out where they only say where the image was taken.
        without_meaning: The four lists above together: words that name neither a structure nor a side.
        prepositions: Words after which a place only says where.
        sequences: Words about the imaging technique; "T1" and "T2" are among them beside a word for MRI.
        lookalikes: Proper words that are one typo away from a structure and are therefore never corrected.
        uncorrected: Words of names that are so common that a typo is not corrected to them.
        vertebra_words: Words that may stand beside a vertebral level.
        linking: Words that rule out a list without separators.
        dotted: Abbreviations whose dot ends no sentence.
        everything: Phrases that mean all there is.
        expansions: Meaning of common abbreviations that are no synonyms of a structure.
        translations: English word by the words for it in other languages, without accents.
        commands: Verbs of a request whose typos are corrected.
    """

    def __init__(self, lists: dict[str, Any]) -> None:
        self.sides = {word: side for side, many in lists["sides"].items() for word in many.split()}
        self.forms = {form: base for base, many in lists["forms"].items() for form in many.split()}
        self.forms |= {base: base for base in lists["forms"]}
        self.joins = {tuple(key.split()): value for key, value in lists["joins"].items()}
        self.modalities = {word: name for name, many in lists["modalities"].items() for word in many.split()}
        self.negation = {word: reach for reach, many in lists["negation"].items() for word in many.split()}
        self.filler, self.generic, self.soft_adjectives, self.region_nouns = (
            frozenset(lists[key].split()) for key in ("filler", "generic", "soft_adjectives", "region_nouns")
        )
        self.without_meaning = self.filler | self.generic | self.soft_adjectives | self.region_nouns
        self.prepositions, self.sequences, self.lookalikes, self.vertebra_words, self.linking = (
            frozenset(lists[key].split())
            for key in ("prepositions", "sequence_words", "lookalikes", "vertebra_words", "linking")
        )
        self.dotted = frozenset(lists["dotted"].split())
        self.uncorrected = frozenset(lists["uncorrected"].split())
        self.everything = frozenset(lists["everything"])
        self.expansions: dict[str, str] = lists["expansions"]
        self.translations = {word: name for name, many in lists["translations"].items() for word in many.split("|")}
        self.commands = tuple(lists["commands"].split())
        self._ordinals = {word: i for i, word in enumerate(lists["ordinals"].split(), 1)}
        self._british = tuple(lists["british"].items())
        self._longest_join = max(len(key) for key in self.joins)

    def read(self, text: str) -> list[Word]:
        """Return the words and separators of a text, joined ("gall bladder") and with vertebral levels recognized."""
        text = unicodedata.normalize("NFKC", text).replace(_APOSTROPHE, "'")
        tokens: list[Word] = []
        for match in _TOKEN.finditer(text):
            cuts = [0, *(cut.start() for cut in _CAMEL.finditer(match[0])), len(match[0])]
            for start, end in pairwise(cuts):
                tokens.append(self._word(match[0][start:end], match.start() + start, match.start() + end))
        tokens = _without_list_numbers(self._without_abbreviation_dots(tokens, text))
        tokens = self._joined(_leveled(tokens))
        tokens = [token for token in tokens if token.raw not in _DASHES]
        return self._ordinal_levels(self._joined(tokens))

    def base(self, raw: str) -> str:
        """Return the base form of a word: of its listed form, else without a plural s."""
        if raw in self.forms:
            return self.forms[raw]
        if len(raw) > 3 and raw.endswith("s") and not raw.endswith(("ss", "us", "is", "os")):
            return self.forms.get(raw[:-1], raw[:-1])
        return raw

    def modality_of(self, word: Word) -> str | None:
        """Return the modality a word names; "US" only in capitals, since "us" is a pronoun."""
        return "US" if word.raw == "us" and word.upper else self.modalities.get(word.raw)

    def _word(self, typed: str, start: int, end: int) -> Word:
        folded = typed.casefold().replace("œ", "oe").replace("æ", "ae")
        folded = "".join(c for c in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(c))
        stem, _, ending = folded.partition("'")
        raw = stem if ending in ("", "s") else stem + ending
        for british, american in self._british:
            raw = raw.replace(british, american)
        levels = _levels_of(raw)
        return Word(raw, levels[0] if levels else self.base(raw), start, end, levels, typed.isupper())

    def _without_abbreviation_dots(self, tokens: list[Word], text: str) -> list[Word]:
        """Drop dots that end an abbreviation ("lt. kidney", "R. kidney") or stand inside a word."""
        kept: list[Word] = []
        for token in tokens:
            if token.raw == ".":
                inside = token.end < len(text) and not text[token.end].isspace()
                last = kept[-1].raw if kept else ""
                short = (
                    (len(last) == 1 and last.isalpha())
                    or last in self.dotted
                    or (last in self.sides and len(last) <= 4)
                )
                if inside or (short and text[token.end :].strip()):
                    continue
            kept.append(token)
        return kept

    def _joined(self, tokens: list[Word]) -> list[Word]:
        joined: list[Word] = []
        i = 0
        while i < len(tokens):
            for size in range(min(self._longest_join, len(tokens) - i), 1, -1):
                run = tokens[i : i + size]
                single = self.joins.get(tuple(word.raw for word in run if word.raw not in _DASHES))
                if single is not None and run[-1].raw not in _DASHES:
                    joined.append(Word(single, self.base(single), run[0].start, run[-1].end))
                    i += size
                    break
            else:
                joined.append(tokens[i])
                i += 1
        return joined

    def _ordinal_levels(self, tokens: list[Word]) -> list[Word]:
        """Turn "third lumbar", "3rd lumbar", "lumbar 3" and "lumbar vertebra 3" into a level."""
        found = list(tokens)
        for i, word in enumerate(tokens):
            letter = _COLUMN.get(word.canon)
            if letter is None:
                continue
            before, after = i - 1, i + 1
            if after < len(tokens) and tokens[after].canon in ("vertebra", "level", "body"):
                after += 1
            for j in (before, after):
                number = self._number(tokens[j].raw, ordinal=j == before) if 0 <= j < len(tokens) else 0
                if f"{letter}{number}" in _LEVELS:
                    found[i] = replace(word, canon=f"{letter}{number}", levels=(f"{letter}{number}",))
                    found[j] = replace(tokens[j], raw="level", canon="level")
                    break
        return found

    def _number(self, raw: str, ordinal: bool) -> int:
        if ordinal:
            digits = raw[:-2] if raw.endswith(("st", "nd", "rd", "th")) else ""
            return self._ordinals.get(raw, int(digits) if digits.isascii() and digits.isdigit() else 0)
        return int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 3 else 0


def _levels_of(raw: str) -> tuple[str, ...]:
    match = _LEVEL.fullmatch(raw)
    if match is None:
        return ()
    level = f"{'t' if match[1] in ('th', 'd') else match[1]}{int(match[2])}"
    return (level,) if level in _LEVELS else ()


def _leveled(tokens: list[Word]) -> list[Word]:
    """Join a letter and a number to a level ("L 1", "L-1"), and two levels to a range ("T1-T4", "L1 to 5")."""
    joined: list[Word] = []
    for token in tokens:
        joined.append(token)
        for size in (2, 3):
            if level := _level_of(joined[-size:]):
                joined[-size:] = [level]
                break
        if len(joined) < 3 or not joined[-3].levels:
            continue
        first, link, last = joined[-3:]
        if link.raw not in _DASHES and link.raw not in ("to", "through", "thru", "until", "till", "..", "..."):
            continue
        end = last.levels or _levels_of(first.levels[0][0] + last.raw)
        if end:
            low, high = sorted((_LEVELS.index(first.levels[0]), _LEVELS.index(end[-1])))
            joined[-3:] = [Word("range", "range", first.start, last.end, _LEVELS[low : high + 1])]
    return joined


def _level_of(run: list[Word]) -> Word | None:
    """Return the level that a letter and a number are together; a dash, or nothing but a space, is between them."""
    letter, number = run[0], run[-1]
    between = [word.raw in _DASHES for word in run[1:-1]]
    known = ("c", "t", "th", "l", "s") if between else ("c", "t", "th", "d", "l", "s")
    if not number.raw.isdigit() or letter.raw not in known or not all(between):
        return None
    if not between and number.start - letter.end > 1:
        return None
    levels = _levels_of(letter.raw + number.raw)
    return Word(letter.raw + number.raw, levels[0], letter.start, number.end, levels, letter.upper) if levels else None


def _without_list_numbers(tokens: list[Word]) -> list[Word]:
    """Turn the numbers of a numbered list ("1. liver 2. spleen") into separators."""
    kept: list[Word] = []
    numbered = False
    for i, token in enumerate(tokens):
        marked = token.raw.isdigit() and i + 2 < len(tokens) and tokens[i + 1].raw in (".", ")")
        numbered = numbered or (marked and (not kept or kept[-1].separator == "hard"))
        kept.append(Word(",", ",", token.start, token.end) if marked and numbered else token)
    return kept


@lru_cache(maxsize=1)
def words() -> Words:
    """Read the word lists, once per process."""
    with resource("Vocabulary", "words.json").open(encoding="utf-8") as file:
        return Words(json.load(file))
