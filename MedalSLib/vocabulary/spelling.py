"""Typos: corrected only if exactly one word of the vocabulary is that close, and never if it is a word itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from MedalSLib.vocabulary.lexicon import all_words, lexicon
from MedalSLib.vocabulary.similarity import osa_distance
from MedalSLib.vocabulary.structure import MODALITIES
from MedalSLib.vocabulary.words import Word, words

_SHORTEST = 5  # letters; shorter words are corrected only where two of them are swapped
_LONG = 9  # letters from which two may be wrong


def corrected(tokens: Sequence[Word]) -> tuple[list[Word] | None, bool]:
    """Return the words with typos corrected, None if one is neither known nor correctable; and whether any was."""
    result: list[Word] = []
    for token in tokens:
        if is_known(token):
            result.append(token)
            continue
        parts = _unfused(token)
        if parts is None:
            nearest = _nearest(token.raw)
            if nearest is None:
                return None, False
            parts = [replace(token, raw=nearest, canon=words().base(nearest))]
        result += parts
    return result, len(result) != len(tokens) or any(a.raw != b.raw for a, b in zip(result, tokens, strict=True))


def is_known(token: Word) -> bool:
    """Return whether a word is in any list, so that it is not a typo."""
    lists = words()
    return bool(
        token.levels
        or token.separator
        or token.raw in lists.without_meaning
        or token.raw in lists.sides
        or token.raw in lists.sequences
        or token.raw in lists.negation
        or token.raw in lists.vertebra_words
        or lists.modality_of(token)
        or token.raw in all_words()
        or token.canon in all_words()
    )


def _unfused(token: Word) -> list[Word] | None:
    """Split a side that was typed without a space ("leftkidney", "kidneyleft")."""
    lists = words()
    for side in ("left", "right", "both", "lt", "rt"):
        for rest, order in ((token.raw.removeprefix(side), 0), (token.raw.removesuffix(side), 1)):
            if rest != token.raw and len(rest) > 3 and (rest in all_words() or lists.base(rest) in all_words()):
                pair = [replace(token, raw=side, canon=side), replace(token, raw=rest, canon=lists.base(rest))]
                return pair[::-1] if order else pair
    return None


@lru_cache(maxsize=4096)
def _nearest(raw: str) -> str | None:
    """Return the one word within the allowed distance, None if there is none or the choice is open.

    One letter wrong (or two swapped) from five letters on, two from nine letters on if the first letter is right.
    Two candidates of one base form ("kidney", "kidneys") are no ambiguity.
    """
    lists = words()
    if not raw.isalpha() or len(raw) < _SHORTEST - 1 or raw in lists.lookalikes:
        return None
    best: dict[int, set[str]] = {}
    for word in _correctable():
        allowed = 2 if len(word) >= _LONG and word[0] == raw[0] else 1
        if len(word) < _SHORTEST and sorted(raw) != sorted(word):
            continue
        distance = osa_distance(raw, word, allowed)
        if distance <= allowed:
            best.setdefault(distance, set()).add(word)
    if not best:
        return None
    candidates = best[min(best)]
    same = {lists.base(word) for word in candidates}
    return min(candidates, key=lambda word: (abs(len(word) - len(raw)), word)) if len(same) == 1 else None


@lru_cache(maxsize=1)
def _correctable() -> tuple[str, ...]:
    """Return the words that a typo may be corrected to: those of names, their forms, and the verbs of a request."""
    lists = words()
    spelled = {word for modality in MODALITIES for word in lexicon(modality).raw}
    names = {word for word in (*spelled, *lists.forms) if word.isalpha() and len(word) >= _SHORTEST - 1}
    names -= lists.filler | lists.generic | lists.sequences | lists.negation.keys() | lists.uncorrected
    return tuple(sorted(names | set(lists.commands)))
