"""`suggest`: completions while the user types, from a list that is prepared once per modality."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from MedalSLib.vocabulary.custom_classes import custom_keys, describe
from MedalSLib.vocabulary.lexicon import speakable
from MedalSLib.vocabulary.modality import normalize_modality
from MedalSLib.vocabulary.similarity import most_similar
from MedalSLib.vocabulary.structure import MODALITIES, Structure, Suggestion
from MedalSLib.vocabulary.tables import preset_members, structures, table
from MedalSLib.vocabulary.words import Word, words

_SIMILAR = 70
_SHORTEST_TYPO = 4
_LESION = 0.88
"""Weight of lesions where only the beginning was typed: so often the organ is meant."""
_MORPHOLOGIC = "49755003"
"""SNOMED CT category of lesions: morphologically altered structure."""
_PLURALS = {"humerus": "humeri", "thalamus": "thalami", "hippocampus": "hippocampi"}


@dataclass(frozen=True)
class _Candidate:
    """Something that can be typed: the name it leads to, its words as compared, and the suggestion without a score."""

    name: str
    folded: str
    weight: float
    lesion: bool
    suggestion: Suggestion


def suggest(prefix: str, modality: str | None = None, limit: int = 10, known: Collection[str] = ()) -> list[Suggestion]:
    """Return completions of what is being typed, best first: names, synonyms, presets, then names that look alike.

    Only the last item of a list is completed: after "liver, sple" the first suggestion is "Spleen".  A text that is not
    the beginning of anything is compared by its words' beginnings in any order ("kid l"), then as a typo.  Organs go
    before their lesions until a lesion's whole name is typed.

    Args:
        prefix: What has been typed so far; empty for the first entries of the list.
        modality: Modality of the image, however written; None for all of them, each name once.
        limit: At most so many.
        known: Keys of the classes the model knows; custom classes among them are completed too.

    Raises:
        PromptError: `modality` is not one.
    """
    tokens = words().read(prefix)
    last = max(
        (i for i, token in enumerate(tokens) if token.separator == "hard" or token.raw in ("&", "+")), default=-1
    )
    parts = _compared(tokens[last + 1 :])
    wanted = (normalize_modality(modality),) if modality else MODALITIES
    typed = " ".join(parts)
    scored: dict[str, tuple[float, _Candidate]] = {}
    offered = [(*_candidates(one), *_custom_candidates(frozenset(known), one)) for one in wanted]
    for candidate in (item for some in offered for item in some):
        _keep(scored, candidate, _score(candidate, parts, typed) if parts else candidate.weight)
    if len(scored) < limit and len(typed) >= _SHORTEST_TYPO:
        for some in offered:
            for index, similarity in most_similar(typed, [item.folded for item in some], 10, _SIMILAR):
                _keep(scored, some[index], similarity / 250)  # at most 0.4: after every match by the beginning of words
    ranked = sorted(scored.values(), key=lambda pair: -pair[0])  # stable: published order among equals
    return [replace(candidate.suggestion, score=round(score, 4)) for score, candidate in ranked[: max(limit, 0)]]


def _compared(tokens: Sequence[Word]) -> tuple[str, ...]:
    """Return words as they are compared: as spelled, vertebral levels in one way ("Th12" is "t12")."""
    return tuple(token.canon if token.levels else token.raw for token in tokens if not token.separator)


def _keep(scored: dict[str, tuple[float, _Candidate]], candidate: _Candidate, score: float) -> None:
    """Note a candidate unless its name has a better score already, or came in an earlier modality."""
    if score <= 0:
        return
    known = scored.get(candidate.name)
    earlier = known is not None and known[1].suggestion.modality != candidate.suggestion.modality
    if known is None or (score > known[0] and not earlier):
        scored[candidate.name] = (score, candidate)


def _score(candidate: _Candidate, parts: tuple[str, ...], typed: str) -> float:
    if candidate.folded == typed:
        return candidate.weight
    share = 0.05 * len(typed) / len(candidate.folded)
    weight = candidate.weight * (_LESION if candidate.lesion else 1.0)
    if candidate.folded.startswith(typed):
        return (0.9 + share) * weight
    starts = f" {candidate.folded}"
    return (0.7 + share) * weight if all(f" {part}" in starts for part in parts) else 0.0


@lru_cache(maxsize=len(MODALITIES))
def _candidates(modality: str) -> tuple[_Candidate, ...]:
    found: list[_Candidate] = []
    for item in structures(modality):
        found.append(_candidate(item.name, item.name, (item,), "structure", 1.0))
        if item.key in table().secondary:
            continue
        found += [_candidate(text, item.name, (item,), "structure", 0.97) for text in item.synonyms]
        found += (
            [_candidate(f"{item.concept} {item.laterality}", item.name, (item,), "structure", 0.95)]
            if item.laterality
            else []
        )
    for preset, synonyms in table().presets.items():
        members = preset_members(preset, modality)
        if len(members) > 1:
            found += [
                _candidate(text, preset, members, "preset", 0.98 if text == preset else 0.9)
                for text in (preset, *synonyms)
            ]
    found += _pairs(structures(modality))
    return tuple(found)


def _pairs(items: Iterable[Structure]) -> list[_Candidate]:
    """Return candidates for both sides at once ("both kidneys")."""
    sides: dict[str, list[Structure]] = {}
    for item in items:
        if item.laterality and item.key not in table().secondary:
            sides.setdefault(item.concept, []).append(item)
    return [
        _candidate(text, f"both {_plural(concept)}", tuple(pair), "preset", 0.93)
        for concept, pair in sides.items()
        if len(pair) == 2
        for text in dict.fromkeys((concept, _plural(concept), f"both {concept}", f"both {_plural(concept)}"))
    ]


def _plural(concept: str) -> str:
    """Return a concept in the plural: "upper lobes of lung", "iliac arteries"; Latin words in -s have the same one."""
    head, of, rest = concept.partition(" of ")
    before, _space, noun = head.rpartition(" ")
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        many = f"{noun[:-1]}ies"
    else:
        many = _PLURALS.get(noun, noun if noun.endswith("s") else f"{noun}s")
    return f"{before} {many}{of}{rest}".strip()


@lru_cache(maxsize=32)
def _custom_candidates(known: frozenset[str], modality: str) -> tuple[_Candidate, ...]:
    items = [describe(key) for key in custom_keys(known, modality).values()]
    named = [
        _candidate(text, item.name, (item,), "structure", 1.0) for item in items for text in (item.name, *item.synonyms)
    ]
    own = speakable(frozenset(item.key for item in items))
    return (*named, *_pairs([item for item in items if item.key in own]))


def _candidate(
    typed: str, text: str, members: tuple[Structure, ...], kind: Literal["structure", "preset"], weight: float
) -> _Candidate:
    parts = _compared(words().read(typed))
    suggestion = Suggestion(
        text=text,
        classes=tuple(item.name for item in members),
        modality=members[0].modality,
        keys=tuple(item.key for item in members),
        matched=typed,
        kind=kind,
        score=0.0,
    )
    lesion = all(item.terminology.category.value == _MORPHOLOGIC for item in members)
    return _Candidate(text.casefold(), " ".join(parts), weight, lesion, suggestion)
