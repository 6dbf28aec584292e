"""Completions of the name that is being typed, at the cursor."""

from __future__ import annotations

import re
from dataclasses import dataclass

from MedalSLib.panel.chips import UNKNOWN_MODEL, ModelClasses
from MedalSLib.panel.i18n import tr as _
from MedalSLib.vocabulary import Suggestion, suggest

LIMIT = 8
_ITEM = re.compile(r"[^,;\n]*\Z")
_REST = re.compile(r"\A[^,;\n]*")


@dataclass(frozen=True)
class Completion:
    """One entry of the list below the field.

    Attributes:
        text: What is put into the field.
        label: What the list shows.
    """

    text: str
    label: str


def complete(
    text: str, cursor: int, modality: str | None, model: ModelClasses = UNKNOWN_MODEL
) -> tuple[Completion, ...]:
    """Return completions of the name that ends at the cursor, best first; names the model knows go before others.

    Args:
        text: The whole prompt.
        cursor: Position in it.
        modality: Modality of the image, None if it is not known.
        model: The model that will run.
    """
    typed = itemBefore(text, cursor).strip()
    if not typed:
        return ()
    known = model.classes
    found = suggest(typed, modality, 2 * LIMIT, known)
    ordered = sorted(found, key=lambda item: not _isKnown(item, known))
    return tuple(Completion(item.text, _label(item, known)) for item in ordered[:LIMIT])


def insert(text: str, cursor: int, completion: str) -> tuple[str, int]:
    """Put a completion in the place of the name at the cursor; return the new text and cursor.

    The name is finished with a comma, so that the next one can be typed at once.

    Args:
        text: The whole prompt.
        cursor: Position in it.
        completion: What replaces the name.
    """
    item = itemBefore(text, cursor)
    start = cursor - len(item)
    lead = item[: len(item) - len(item.lstrip())]
    rest = text[cursor:]
    rest = rest[len(_REST.match(rest)[0]) :]  # type: ignore[index]  # matches everywhere
    head = f"{text[:start]}{lead}{completion}"
    if rest:
        return head + rest, len(head)
    return f"{head}, ", len(head) + 2


def itemBefore(text: str, cursor: int) -> str:
    """Return the part of the name at the cursor that lies before it."""
    return _ITEM.search(text[:cursor])[0]  # type: ignore[index]  # matches everywhere


def _isKnown(item: Suggestion, known: object) -> bool:
    return not known or any(key in known for key in item.keys)  # type: ignore[operator]  # a collection of keys


def _label(item: Suggestion, known: object) -> str:
    label = item.text
    if item.kind == "preset":
        label = _("{name} — {count} structures").format(name=item.text, count=len(item.classes))
    elif sorted(item.matched.casefold().split()) != sorted(item.text.casefold().split()):
        label = f"{item.text} — {item.matched}"
    return label if _isKnown(item, known) else _("{name} (not in this model)").format(name=label)
