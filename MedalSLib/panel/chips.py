"""What each typed name was understood as, before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from MedalSLib.panel.i18n import tr as _
from MedalSLib.vocabulary import MODALITIES, Resolution, resolve
from MedalSLib.vocabulary.similarity import osa_distance
from MedalSLib.vocabulary.words import words

ChipState = Literal["understood", "guessed", "unknown", "unsupported"]
_NAMED = 3
_CERTAIN = 0.99
_LETTERS_A_TYPO = 3
"""A word and another are the same with a typo in so many letters."""


@dataclass(frozen=True)
class ModelClasses:
    """What is known of the model that will run.

    Attributes:
        title: Its name in words.
        classes: What it knows, as "MODALITY_Published name", or with a name that the model brings itself; empty if
            that is not known yet.
    """

    title: str = ""
    classes: Collection[str] = ()


UNKNOWN_MODEL = ModelClasses()
"""No model is chosen, or what it knows is not known yet: every name counts as known."""


@dataclass(frozen=True)
class Chip:
    """One name of the prompt.

    Attributes:
        phrase: The words as typed.
        state: "understood"; "guessed" if a typo was corrected or a side added; "unknown" if it names nothing;
            "unsupported" if the model does not know any of it.
        classes: Published names it means and the model knows.
        lost: Published names it means and the model does not know.
        suggestions: What may have been meant, or is near it.
        text: What the chip shows.
        explanation: The same in a sentence, for the tool tip and the screen reader.
    """

    phrase: str
    state: ChipState
    classes: tuple[str, ...]
    lost: tuple[str, ...]
    suggestions: tuple[str, ...]
    text: str
    explanation: str

    @property
    def needsDecision(self) -> bool:
        """Whether the user has to look: something was guessed, or is not understood, or not in the model."""
        return self.state != "understood" or bool(self.lost)

    @property
    def runs(self) -> bool:
        """Whether the chip names something that can be segmented."""
        return bool(self.classes)


def readPrompt(text: str, modality: str | None, model: ModelClasses = UNKNOWN_MODEL) -> tuple[Chip, ...]:
    """Return a chip for each name in a prompt.

    Args:
        text: What was typed.
        modality: Modality of the image; None if it is not known.
        model: The model that will run.
    """
    return tuple(_chip(item, model) for item in resolve(text, modality, model.classes))


def suggestionParts(suggestion: str) -> tuple[str, str]:
    """Return a suggestion's name and, for "Name (MRI)", the only modality that has it; empty if it needs no other."""
    for modality in MODALITIES:
        if suggestion.endswith(f" ({modality})"):
            return suggestion[: -len(modality) - 3], modality
    return suggestion, ""


def _chip(item: Resolution, model: ModelClasses) -> Chip:
    if not item.classes:
        return _unknown(item)
    known = [not model.classes or key in model.classes for key in item.keys]
    classes = tuple(name for name, yes in zip(item.classes, known, strict=True) if yes)
    lost = tuple(name for name, yes in zip(item.classes, known, strict=True) if not yes)
    if not classes:
        return _unsupported(item, lost, model)
    state: ChipState = "understood" if item.confidence >= _CERTAIN else "guessed"
    shown = _summary(classes)
    same = len(classes) == 1 and classes[0].casefold() == item.phrase.casefold()
    text = shown if same else f"{item.phrase} → {shown}"
    explanation = _("“{phrase}” is understood as {names}.").format(phrase=item.phrase, names=", ".join(classes))
    if state == "guessed":
        explanation += " " + _("Check that this is what you mean.")
    if lost:
        text += " " + _("({count} not in this model)").format(count=len(lost))
        explanation += " " + _("{model} does not know {names}.").format(model=model.title, names=", ".join(lost))
    return Chip(item.phrase, state, classes, lost, (), text, explanation)


def _unknown(item: Resolution) -> Chip:
    """Return the chip of a phrase that names nothing.

    A suggestion is asked about only if it can have been meant: a kidney is near "kidney stone" and is another thing.
    """
    near = ", ".join(item.suggestions)
    text = _("{phrase}: not understood").format(phrase=item.phrase)
    if item.suggestions and (item.hint or _accounts(item.suggestions[0], item.phrase)):
        text = _("{phrase}: {suggestion}?").format(phrase=item.phrase, suggestion=item.suggestions[0])
        explanation = _("“{phrase}” was not understood. Did you mean {names}?").format(phrase=item.phrase, names=near)
    elif near:
        explanation = _("“{phrase}” was not understood. Near it are: {names}.").format(phrase=item.phrase, names=near)
    else:
        explanation = _("“{phrase}” names no structure that Medal S has in {modality}.").format(
            phrase=item.phrase, modality=item.modality
        )
    return Chip(item.phrase, "unknown", (), (), item.suggestions, text, explanation)


def _accounts(suggestion: str, phrase: str) -> bool:
    """Whether each word of a phrase is a word of a suggestion, but for typos."""
    offered = [token.raw for token in words().read(suggestionParts(suggestion)[0])]
    typed = [token.raw for token in words().read(phrase) if not token.separator]
    typed = [word for word in typed if word not in words().filler]

    def alike(one: str, other: str) -> bool:
        allowed = len(one) // _LETTERS_A_TYPO
        return osa_distance(one, other, allowed) <= allowed

    return all(any(alike(word, other) for other in offered) for word in typed)


def _unsupported(item: Resolution, lost: tuple[str, ...], model: ModelClasses) -> Chip:
    text = _("{phrase}: not in this model").format(phrase=item.phrase)
    explanation = _(
        "{model} does not know {names} in {modality} images. Get the model that does, or paint it yourself."
    ).format(model=model.title, names=", ".join(lost), modality=item.modality)
    return Chip(item.phrase, "unsupported", (), lost, (), text, explanation)


def _summary(names: tuple[str, ...]) -> str:
    if len(names) <= _NAMED:
        return ", ".join(names)
    return _("{first} and {count} more").format(first=names[0], count=len(names) - 1)
