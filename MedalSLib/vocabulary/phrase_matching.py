"""Match one phrase with the lexicon of one modality: every word must be accounted for, or it names nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from MedalSLib.vocabulary.lexicon import Bag, Lexicon, bag_of, raw_words
from MedalSLib.vocabulary.spelling import corrected
from MedalSLib.vocabulary.structure import Structure
from MedalSLib.vocabulary.tables import preset_members, table
from MedalSLib.vocabulary.words import Word, words

EXACT, ADDED_SIDES, SKIPPED_WORDS, CORRECTED = 1.0, 0.9, 0.9, 0.75
_MAX_RUN = 12
_ADJECTIVE = ("al", "ar", "ic", "ary", "ous", "iac")
_IMAGING = frozenset(
    ("scan", "scans", "imaging", "image", "images", "study", "studies", "series", "sequence", "sequences", "volumetry")
)


@dataclass(frozen=True)
class Found:
    """Structures that a phrase names, and the confidence in that (0..1)."""

    members: tuple[Structure, ...]
    confidence: float


def find(tokens: Sequence[Word], lexicon: Lexicon) -> list[Found] | None:
    """Return what a phrase names, None if it names nothing.

    Usually one item; several if the phrase lists structures without separating them ("liver spleen left kidney").
    """
    plain = [token for token in tokens if not token.separator]
    whole = find_one(tokens, lexicon)
    if whole is not None:
        return [whole]
    spelled, changed = corrected(plain)
    if spelled is None:
        return None
    if changed:
        whole = find_one(spelled, lexicon)
        if whole is not None:
            return [replace(whole, confidence=whole.confidence * CORRECTED)]
    return _list_of(spelled, lexicon, CORRECTED if changed else EXACT)


def find_one(tokens: Sequence[Word], lexicon: Lexicon) -> Found | None:
    """Return what correctly spelled words name together, None if they name nothing."""
    plain = [token for token in tokens if not token.separator]
    raw = raw_words(plain)
    if raw in lexicon.exact:
        return Found((lexicon.exact[raw],), EXACT)
    if raw in lexicon.phrases:
        return Found(preset_members(lexicon.phrases[raw], lexicon.modality), EXACT)
    content, sides = _expand(plain, lexicon)
    side = _one_side(sides)
    if side is None or not content:
        return None
    levels = _levels(content, side, lexicon)
    if levels is not None:
        return levels
    found = _match(content, side, lexicon, raw)
    if found is not None:
        return found
    kept = without_context(content, lexicon.modality)
    if len(kept) == len(content):
        return None
    found = _match(kept, side, lexicon, raw, with_presets=any(_is_imaging(token) for token in content))
    return found and replace(found, confidence=found.confidence * SKIPPED_WORDS)


def without_context(tokens: Sequence[Word], modality: str) -> list[Word]:
    """Drop words that say where or how the image was taken: "abdominal", "in the chest", "pelvic T2-weighted"."""
    lists = words()
    mr = modality == "MRI" and any(
        lists.modality_of(t) == "MRI" or t.raw in ("weighted", "w", "based", "naive", "image", "imaging")
        for t in tokens
    )
    kept = []
    for i, token in enumerate(tokens):
        bright = i + 1 < len(tokens) and tokens[i + 1].canon == "hyperintensity"  # "FLAIR hyperintensity" is a finding
        placed = modality == "MRI" and i > 0 and tokens[i - 1].raw in lists.prepositions  # "prostate on T2"
        sequence = token.raw in lists.sequences and (mr or placed or not token.levels) and not bright
        place = token.raw in lists.region_nouns and _is_context(tokens, i)
        if not (sequence or place or token.raw in lists.soft_adjectives):
            kept.append(token)
    return kept


def says_nothing(tokens: Sequence[Word], modality: str) -> bool:
    """Return whether the words name neither a structure nor a side: filler, modality, region."""
    lists = words()
    return not any(
        token.raw in lists.sides
        or token.raw in lists.negation
        or not (
            token.separator
            or token.raw in lists.without_meaning
            or (token.raw in lists.sequences and not token.levels)
            or lists.modality_of(token)
        )
        for token in tokens
    )


def _expand(tokens: Sequence[Word], lexicon: Lexicon) -> tuple[list[Word], list[str]]:
    """Return the words with abbreviations written out and modality words gone, and the sides they say."""
    lists = words()
    content: list[Word] = []
    sides: list[str] = []
    for token in tokens:
        short = lexicon.abbreviations.get(token.raw)
        if short is not None:
            content += [replace(token, raw=word, canon=word, levels=()) for word in sorted(short[0])]
            sides += [short[1]] if short[1] else []
        elif token.raw in lists.sides:
            sides.append(lists.sides[token.raw])
        else:
            content.append(token)
    return content, sides


def _one_side(sides: list[str]) -> str | None:
    """Return the side that was said: "", "left", "right" or "both"; None if two sides contradict each other."""
    said = set(sides)
    if len(said) > 1:
        return "both" if "both" in said and len(said) == 3 else None
    return said.pop() if said else ""


def _levels(content: Sequence[Word], side: str, lexicon: Lexicon) -> Found | None:
    lists = words()
    levels = [level for token in content for level in token.levels]
    others = [token for token in content if not token.levels and lists.modality_of(token) is None]
    rest = {
        token.canon
        for token in others
        if token.raw not in lists.filler | lists.generic | lists.vertebra_words | lists.soft_adjectives
        and token.canon not in lists.vertebra_words | {"thoracic", "lumbar", "cervix"}
        and token.raw not in lists.region_nouns
    }
    if not levels or rest or side or any(level not in lexicon.levels for level in levels):
        return None
    return Found(tuple(lexicon.levels[level] for level in dict.fromkeys(levels)), EXACT)


def _match(
    content: Sequence[Word], side: str, lexicon: Lexicon, raw: tuple[str, ...], with_presets: bool = True
) -> Found | None:
    """Match words with sides taken out; a preset is not narrowed by a region ("muscles of the neck")."""
    kept = [token for token in content if words().modality_of(token) is None]
    generic = bag_of(kept, keep_generic=True)
    if with_presets and generic in lexicon.presets:
        return _preset(lexicon.presets[generic], side, lexicon)
    bag = bag_of(kept)
    if with_presets and bag in lexicon.presets and bag not in lexicon.entries:
        return _preset(lexicon.presets[bag], side, lexicon)
    if bag in lexicon.entries:
        return _sided(lexicon.entries[bag], side, raw)
    return _qualified(bag, {token.raw for token in kept} | bag, side, lexicon, raw)


def _qualified(said: Bag, spelled: set[str], side: str, lexicon: Lexicon, raw: tuple[str, ...]) -> Found | None:
    """Match an entry whose concept allows the words that are left over ("humeral shaft")."""
    candidates = {bag for word in said for bag in lexicon.by_word.get(word, ()) if bag <= said}
    best: Found | None = None
    for bag in sorted(candidates, key=lambda bag: (-len(bag), sorted(bag))):
        named = lexicon.entries.get(bag, [])
        allowed = allows(named, said - bag)
        found = _sided(allowed, side, raw) if allowed else None
        if found is not None:
            best = replace(found, confidence=found.confidence * SKIPPED_WORDS)
            break
    return best


def allows(named: Sequence[Structure], extra: Bag) -> list[Structure]:
    """Return those of some structures whose concept allows more words beside its name."""
    lists = words()

    def qualifiers(item: Structure) -> set[str]:
        return {base for word in table().concepts[item.concept].qualifiers for base in (word, lists.base(word))}

    return [item for item in named if extra <= qualifiers(item)]


def _preset(preset: str, side: str, lexicon: Lexicon) -> Found | None:
    members = preset_members(preset, lexicon.modality)
    if side in ("left", "right"):
        members = tuple(item for item in members if item.laterality == side)
    elif side == "both":
        members = tuple(item for item in members if item.laterality)
    return Found(members, EXACT) if members else None


def _sided(named: Sequence[Structure], side: str, raw: tuple[str, ...]) -> Found | None:
    """Choose among structures that differ in side or in spelling; None for a side that the structure does not have."""
    by_side: dict[str, list[Structure]] = {}
    for item in named:
        by_side.setdefault(item.laterality, []).append(item)
    chosen = {one: _spelled(items, raw) for one, items in by_side.items()}
    if side in ("left", "right"):
        return Found((chosen[side],), EXACT) if side in chosen else None
    pair = tuple(item for one, item in chosen.items() if one)
    if side == "both":
        return Found(pair, EXACT) if len(pair) == 2 else None
    if "" in chosen:
        return Found((chosen[""],), EXACT)
    plural = any(word != words().base(word) and word.endswith("s") for word in raw)
    return Found(pair, EXACT if plural or len(pair) == 1 else ADDED_SIDES)


def _spelled(items: Sequence[Structure], raw: tuple[str, ...]) -> Structure:
    """Return the structure whose published name was typed, else the preferred spelling."""
    text = f" {' '.join(raw)} "
    for item in items:
        name = raw_words(word for word in words().read(item.name) if not word.separator)
        if f" {' '.join(name)} " in text:
            return item
    preferred = [item for item in items if item.key not in table().secondary]
    return (preferred or list(items))[0]


def _is_context(tokens: Sequence[Word], i: int) -> bool:
    """Return whether a region noun only says where: after a preposition, or beside a word about the imaging."""
    lists = words()
    j = i - 1
    while j >= 0 and (tokens[j].raw in ("the", "entire", "whole", "a") or tokens[j].raw in lists.region_nouns):
        j -= 1
    if j >= 0 and tokens[j].raw in lists.prepositions:
        return tokens[j].raw != "of" or (j > 0 and _is_imaging(tokens[j - 1]))
    if j >= 0 and (lists.modality_of(tokens[j]) or tokens[j].raw in lists.sequences):
        return True
    for token in tokens[i + 1 :]:
        if _is_imaging(token):
            return True
        if not (token.raw in lists.filler or token.raw in lists.region_nouns or token.raw in lists.sequences):
            return False
    return False


def _is_imaging(token: Word) -> bool:
    """Return whether a word is about the taking of images rather than about what they show."""
    return bool(words().modality_of(token)) or token.raw in _IMAGING


def _list_of(tokens: Sequence[Word], lexicon: Lexicon, confidence: float) -> list[Found] | None:
    """Read words as several structures without separators, if there is exactly one way to do so.

    Only nouns that name an organ and whose side is clear take part: in "renal artery" and "stomach cancer" the first
    word describes the second, and in "kidney left adrenal" the side may belong to either.
    """
    if len(tokens) > _MAX_RUN or any(token.raw in words().linking for token in tokens):
        return None
    splits = _splits(tokens, lexicon)
    if not splits:
        return None
    fewest = min(len(split) for split in splits)
    best = {tuple(found.members for found in split): split for split in splits if len(split) == fewest}
    if len(best) != 1:
        return None
    return [replace(found, confidence=found.confidence * confidence) for found in next(iter(best.values()))]


def _is_listable(found: Found, tokens: Sequence[Word]) -> bool:
    adjective = any(token.raw != token.canon and token.raw.endswith(_ADJECTIVE) for token in tokens)
    organs = all(item.kind == "semantic" for item in found.members)
    many = len(found.members) > len({item.concept for item in found.members}) * 2 or (
        len({item.concept for item in found.members}) > 1 and not any(token.levels for token in tokens)
    )
    return organs and found.confidence == EXACT and not adjective and not many


def _splits(tokens: Sequence[Word], lexicon: Lexicon) -> list[list[Found]]:
    """Return every way to read the words as at least two structures, by dynamic programming from the end."""
    starts: dict[int, list[list[Found]]] = {len(tokens): [[]]}
    for start in range(len(tokens) - 1, -1, -1):
        starts[start] = []
        for end in range(len(tokens), start, -1):
            found = find_one(tokens[start:end], lexicon) if starts.get(end) else None
            if found is not None and _is_listable(found, tokens[start:end]):
                starts[start] += [[found, *rest] for rest in starts[end]][:_MAX_RUN]
        if says_nothing(tokens[start : start + 1], lexicon.modality):
            starts[start] += starts[start + 1]
    return [split for split in starts[0] if len(split) > 1]
