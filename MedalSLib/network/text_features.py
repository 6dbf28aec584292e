"""Features of a text for the compact encoder: hashed words and word pieces; side and vertebral level explicitly."""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

SIDES = ("", "left", "right", "both")
REGIONS = ("", "c", "t", "l", "s")
LARGEST_NUMBER = 31

_SIDE_WORDS = {
    "left": 1, "lt": 1, "l": 1, "sinistra": 1, "sinister": 1, "right": 2, "rt": 2, "r": 2, "dextra": 2, "dexter": 2,
    "both": 3, "bilateral": 3,
}  # fmt: skip
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
_REGION_WORDS = {"cervical": "c", "thoracic": "t", "dorsal": "t", "lumbar": "l", "sacral": "s"}
_LEVEL = re.compile(r"(c|t|th|l|s)(\d{1,2})")
_NUMBER = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class TextFeatures:
    """One text as numbers.

    Attributes:
        words: Hash numbers of its words and of pairs of neighboring words.
        pieces: Hash numbers of the three-character pieces of its words, word ends marked.
        side: Position in `SIDES`.
        region: Part of the spine, position in `REGIONS`.
        number: Number of a vertebra, rib or segment; 0 for none.
    """

    words: tuple[int, ...]
    pieces: tuple[int, ...]
    side: int
    region: int
    number: int


@lru_cache(maxsize=65536)
def text_features(text: str, buckets: int) -> TextFeatures:
    """Read a text.

    Args:
        text: A name or phrase; case, accents, underscores and punctuation do not matter.
        buckets: Hash numbers run from 0 to `buckets - 1`.
    """
    words = _words(text)
    side = region = number = 0
    for word in words:
        if level := _LEVEL.fullmatch(word):
            region, number = REGIONS.index(level[1][0]), min(int(level[2]), LARGEST_NUMBER)
        elif found := _NUMBER.fullmatch(word):
            number = min(int(found[1]), LARGEST_NUMBER)
        elif word in _ORDINALS:
            number = 1 + _ORDINALS.index(word)
        elif word in _REGION_WORDS:
            region = REGIONS.index(_REGION_WORDS[word])
        elif word in _SIDE_WORDS:
            side |= _SIDE_WORDS[word]
    pairs = [f"{first} {second}" for first, second in pairwise(words)]
    marked = [f"<{word}>" for word in words]
    pieces = [word[at : at + 3] for word in marked for at in range(len(word) - 2)]
    return TextFeatures(
        tuple(_bucket(word, buckets) for word in words + pairs),
        tuple(_bucket(piece, buckets) for piece in pieces),
        side,
        region,
        number,
    )


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(character for character in plain if not unicodedata.combining(character))
    return _WORD.findall(plain.replace("'s", ""))


def _bucket(text: str, buckets: int) -> int:
    return zlib.crc32(text.encode()) % buckets  # the same in every process, unlike hash()
