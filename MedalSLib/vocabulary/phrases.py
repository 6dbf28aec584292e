"""Split a text into phrases that each name something: lists, shared words, shared sides, compound names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from MedalSLib.vocabulary.lexicon import Lexicon, bag_of, side_words
from MedalSLib.vocabulary.phrase_matching import (
    ADDED_SIDES,
    Found,
    allows,
    find,
    find_one,
    says_nothing,
    without_context,
)
from MedalSLib.vocabulary.words import Word, words

_EVERYTHING = frozenset(("everything", "anything", "all", "organs", "organ", "rest", "nothing"))


@dataclass(frozen=True)
class Phrase:
    """Words that belong together.

    Attributes:
        tokens: The words, separators inside a compound name included.
        start: Where the phrase begins in the text.
        end: Where it ends.
        hard: A comma or "but" stands before it, rather than "and": it does not share words with what precedes.
        negated: It is what the text says not to take.
    """

    tokens: tuple[Word, ...]
    start: int
    end: int
    hard: bool = True
    negated: bool = False

    def joined(self, other: Phrase, link: tuple[Word, ...] = ()) -> Phrase:
        """Return this phrase with a following one appended."""
        return replace(
            self,
            tokens=(*self.tokens, *link, *other.tokens),
            end=max(self.end, other.end),
            negated=self.negated or other.negated,
        )


def phrases(tokens: list[Word], lexicon: Lexicon) -> list[Phrase]:
    """Return the phrases of a text in the order in which they stand."""
    parts = _with_compounds(_segments(tokens), lexicon)
    parts = _without_asides(_negations(parts), lexicon.modality)
    return _with_shared_sides(parts)


def complete_from_neighbours(
    parts: list[Phrase], found: list[list[Found] | None], lexicon: Lexicon
) -> list[list[Found] | None]:
    """Complete phrases that lack a word which their neighbour says.

    "upper and lower lobe of the left lung", "gluteus maximus and medius", "left anterior and posterior segment of the
    eyeball": the first takes the end of the second, or the second the beginning of the first.  "Left kidney and
    adrenal" is the left adrenal, unlike "left kidney and the adrenal" or "left kidney and adrenals".

    Args:
        parts: The phrases.
        found: What each phrase names by itself, None for nothing.
        lexicon: Names of the modality.

    Returns:
        What each phrase names with the words of its neighbours.
    """
    result = list(found)
    for i in range(len(parts) - 2, -1, -1):
        if result[i] is None and found[i + 1] and not parts[i].negated and not parts[i + 1].hard:
            ends = parts[i + 1].tokens
            result[i] = _with_words(parts[i], [ends[cut:] for cut in range(1, len(ends))], lexicon)
            if result[i]:
                result[i + 1] = _with_side_of(parts[i], parts[i + 1], lexicon) or result[i + 1]
    # From the start, so that a side or the beginning of a name is passed on from each phrase to the next.
    for i in range(1, len(parts)):
        if _takes_side(parts[i], result[i]) and result[i - 1] and not parts[i].hard:
            result[i] = _with_side_of(parts[i - 1], parts[i], lexicon) or result[i]
        if result[i] is None and result[i - 1] and not parts[i].negated and not parts[i].hard:
            starts = parts[i - 1].tokens
            heads = [starts[:cut] for cut in range(len(starts) - 1, 0, -1)]
            result[i] = _with_words(parts[i], heads, lexicon, before=True)
            if result[i]:
                result[i - 1] = _with_side_of(parts[i], parts[i - 1], lexicon) or result[i - 1]
    return result


def _takes_side(part: Phrase, found: list[Found] | None) -> bool:
    """Return whether a phrase names one of a pair without a side, as later items of "left kidney and adrenal" do."""
    determined = part.tokens[0].raw in ("the", "a", "an", "each", "any", "every")
    return found is not None and [item.confidence for item in found] == [ADDED_SIDES] and not determined


def _with_side_of(sided: Phrase, other: Phrase, lexicon: Lexicon) -> list[Found] | None:
    """Read a phrase that says no side on the side of the neighbour it shares words with."""
    side = next((token for token in sided.tokens if token.raw in words().sides), None)
    if side is None or side_words(other.tokens):
        return None
    return find((side, *other.tokens), lexicon)


def _segments(tokens: Iterable[Word]) -> list[tuple[Phrase, tuple[Word, ...]]]:
    """Cut at separators; each segment comes with the separator words before it."""
    segments: list[tuple[Phrase, tuple[Word, ...]]] = []
    run: list[Word] = []
    link: tuple[Word, ...] = ()
    for token in (*tokens, Word(",", ",")):
        exception = token.raw == "but" and any(word.raw in _EVERYTHING for word in run)
        if not token.separator or exception:
            run.append(replace(token, raw="except", canon="except") if exception else token)
            continue
        if run:
            hard = any(word.separator == "hard" or word.raw == "but" for word in link)
            segments.append((Phrase(tuple(run), run[0].start, run[-1].end, hard or not segments), link))
            run, link = [], ()
        link = (*link, token)
    return segments


def _with_compounds(segments: list[tuple[Phrase, tuple[Word, ...]]], lexicon: Lexicon) -> list[Phrase]:
    """Put names together that contain a separator ("Portal vein and splenic vein")."""
    joined: list[Phrase] = []
    i = 0
    while i < len(segments):
        size = 1
        for longer in range(min(4, len(segments) - i), 1, -1):
            run = segments[i : i + longer]
            soft = all(not phrase.hard for phrase, _ in run[1:])
            headed = longer == 2 and [token.raw for token in run[1][1]] == [":"]  # "left lung: upper lobe"
            tokens = [token for phrase, _ in run for token in phrase.tokens]
            if (soft and _is_compound(tokens, lexicon)) or (headed and find_one(tokens, lexicon) is not None):
                size = longer
                break
        whole = segments[i][0]
        for phrase, link in segments[i + 1 : i + size]:
            whole = whole.joined(phrase, link)
        joined.append(whole)
        i += size
    return joined


def _is_compound(tokens: list[Word], lexicon: Lexicon) -> bool:
    for kept in (tokens, without_context(tokens, lexicon.modality)):
        said = bag_of(token for token in kept if words().modality_of(token) is None)
        if said in lexicon.compounds or any(
            bag < said and allows(lexicon.entries.get(bag, ()), said - bag) for bag in lexicon.compounds
        ):
            return True
    return False


def _negations(parts: list[Phrase]) -> list[Phrase]:
    """Mark what is excluded: "not" reaches to the next clause, "except" to the end."""
    marked: list[Phrase] = []
    reach = ""
    for part in parts:
        if part.hard and reach != "until the end":
            reach = ""
        said = [words().negation[token.raw] for token in part.tokens if token.raw in words().negation]
        if said:
            reach = max((*said, reach), key=len) if "until the end" not in said else "until the end"
        marked.append(replace(part, negated=bool(reach)))
    return marked


def _without_asides(parts: list[Phrase], modality: str) -> list[Phrase]:
    """Append parts that name nothing ("in the abdomen", "please") to the part before, or drop them at the start."""
    kept: list[Phrase] = []
    for part in parts:
        if len(parts) > 1 and not part.negated and says_nothing(part.tokens, modality):
            if kept and not part.hard:
                kept[-1] = kept[-1].joined(part)
        else:
            kept.append(part)
    return kept or parts[:1]


def _with_shared_sides(parts: list[Phrase]) -> list[Phrase]:
    """Give a side that stands alone ("kidneys, left and right"; "left, right kidney") to its neighbour."""
    given: list[Phrase] = []
    pending: Phrase | None = None
    for i, part in enumerate(parts):
        lone = _only_sides(part) and not part.negated
        following = parts[i + 1] if i + 1 < len(parts) else None
        backward = given and pending is None and not side_words(given[-1].tokens)
        if lone and (backward and (part.hard or following is None)):
            given[-1] = _sides_merged(given[-1], part, given[-1].tokens)
        elif lone and following is not None:
            pending = part if pending is None else _sides_merged(pending, part, ())
        elif lone and given:
            given[-1] = _sides_merged(given[-1], part, given[-1].tokens)
        elif pending is not None:
            merged = _sides_merged(pending, part, part.tokens)
            given.append(replace(merged, hard=pending.hard))
            pending = None
        else:
            given.append(part)
    if pending is not None:
        given.append(pending)
    return given


def _sides_merged(first: Phrase, second: Phrase, tokens: tuple[Word, ...]) -> Phrase:
    """Join two phrases into one that says the sides of both."""
    sides = side_words((*first.tokens, *second.tokens))
    side = sides.pop() if len(sides) == 1 else "both"
    rest = tuple(token for token in tokens if token.raw not in words().sides)
    merged = first.joined(second)
    return replace(merged, tokens=(Word(side, side, merged.start, merged.start), *rest))


def _only_sides(part: Phrase) -> bool:
    said = [token for token in part.tokens if token.raw not in words().filler]
    return bool(said) and all(token.raw in words().sides for token in said)


def _with_words(
    part: Phrase, borrowed: list[tuple[Word, ...]], lexicon: Lexicon, before: bool = False
) -> list[Found] | None:
    """Read a phrase together with words of its neighbour: the first of `borrowed` with which it names something."""
    for piece in borrowed:
        if side_words(part.tokens) and side_words(piece):
            piece = tuple(token for token in piece if token.raw not in words().sides)
        found = find_one((*piece, *part.tokens) if before else (*part.tokens, *piece), lexicon)
        if found is not None:
            return [found]
    return None
