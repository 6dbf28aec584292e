"""Similarity of texts: rapidfuzz where it is installed, the standard library in a bare 3D Slicer.

The measures of the fallback differ in detail and are slower; they are only used to correct typos and to suggest.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher


def osa_distance(a: str, b: str, cutoff: int) -> int:
    """Return the optimal string alignment distance (edits, with swaps of neighbours), `cutoff` + 1 if it is more.

    Args:
        a: One text.
        b: The other.
        cutoff: Largest distance of interest.
    """
    try:
        from rapidfuzz.distance import OSA
    except ImportError:
        return _osa_distance(a, b, cutoff)
    return int(OSA.distance(a, b, score_cutoff=cutoff))


def most_similar(
    text: str, choices: Sequence[str], limit: int, cutoff: float, by_words: bool = False
) -> list[tuple[int, float]]:
    """Return (index, similarity 0..100) of the choices that are most alike, best first.

    Args:
        text: What was typed.
        choices: Texts to compare it with.
        limit: Return at most so many.
        cutoff: Smallest similarity to return.
        by_words: Whether the words that they share count, in any order and case, instead of the text as a whole.
    """
    try:
        from rapidfuzz import fuzz, process
    except ImportError:
        texts = [" ".join(sorted(one.casefold().split())) if by_words else one for one in (text, *choices)]
        return _ranked([100 * _ratio(texts[0], choice) for choice in texts[1:]], limit, cutoff)
    scorer, processor = (fuzz.WRatio, str.casefold) if by_words else (fuzz.ratio, None)
    hits = process.extract(text, choices, scorer=scorer, processor=processor, limit=limit, score_cutoff=cutoff)
    return [(index, similarity) for _, similarity, index in hits]


def _ranked(scores: Sequence[float], limit: int, cutoff: float) -> list[tuple[int, float]]:
    order = sorted((index for index, score in enumerate(scores) if score >= cutoff), key=lambda index: -scores[index])
    return [(index, scores[index]) for index in order[:limit]]


def _ratio(a: str, b: str) -> float:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    return matcher.ratio() if matcher.quick_ratio() > 0.5 else 0.0


def _osa_distance(a: str, b: str, cutoff: int) -> int:
    if abs(len(a) - len(b)) > cutoff:
        return cutoff + 1
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        row = [i]
        for j, right in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return min(last[-1], cutoff + 1)
