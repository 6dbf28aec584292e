"""The prompt field's presenter: text, chips, completions, presets, and the last prompts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from MedalSLib.panel import completion
from MedalSLib.panel.chips import UNKNOWN_MODEL, Chip, ModelClasses, readPrompt, suggestionParts
from MedalSLib.panel.completion import Completion
from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.signal import Signal
from MedalSLib.vocabulary import presets, resolve

if TYPE_CHECKING:
    from MedalSLib.panel.model_chooser import ModelRow
    from MedalSLib.slicer.parameters import Parameters

EVERYTHING = "everything"
"""The preset that the vocabulary reads as all that the model knows."""
_RECENT = 10


class PromptPresenter:
    """Knows what is typed and what it means in the modality at hand, for the model at hand.

    Args:
        state: Where text and chosen modality are kept.
        settings: Where the last prompts are kept, between patients and sessions.
        modelsKnowing: Returns the other models that know structures ("MODALITY_Published name").

    Attributes:
        changed: Emitted when text, modality, model or chips changed.
    """

    def __init__(
        self,
        state: Parameters,
        settings: Settings,
        modelsKnowing: Callable[[Collection[str]], tuple[ModelRow, ...]] = lambda _keys: (),
    ) -> None:
        self._state = state
        self._settings = settings
        self._modelsKnowing = modelsKnowing
        self._detected = ""
        self._model = UNKNOWN_MODEL
        self._chips: tuple[Chip, ...] = ()
        self._key: tuple[object, ...] | None = None
        self._typing = False
        self.changed = Signal()

    @property
    def text(self) -> str:
        """What was typed, as it was typed."""
        return self._state.prompt

    @text.setter
    def text(self, text: str) -> None:
        if text != self._state.prompt:
            self._state.prompt = text
            self.changed.emit()

    @property
    def typing(self) -> bool:
        """Whether a name is being typed, with completions on show: too early to say that it is not understood."""
        return self._typing

    @typing.setter
    def typing(self, typing: bool) -> None:
        if typing != self._typing:
            self._typing = typing
            self.changed.emit()

    @property
    def detected(self) -> str:
        """The modality the image seems to have; empty without an image."""
        return self._detected

    @property
    def chosen(self) -> str:
        """The modality the user chose; empty for the detected one."""
        return self._state.modality

    @property
    def modality(self) -> str:
        """The modality in use; empty if there is none to go by."""
        return self._state.modality or self._detected

    def detect(self, modality: str) -> None:
        """Take note of the modality that the image seems to have."""
        if modality != self._detected:
            self._detected = modality
            self.changed.emit()

    def choose(self, modality: str) -> None:
        """Use a modality; the empty one for the detected one."""
        if modality != self._state.modality:
            self._state.modality = modality
            self.changed.emit()

    def useModel(self, model: ModelClasses) -> None:
        """Take note of the model that will run."""
        if model != self._model:
            self._model = model
            self.changed.emit()

    @property
    def model(self) -> ModelClasses:
        """The model that will run, as far as it is known."""
        return self._model

    @property
    def chips(self) -> tuple[Chip, ...]:
        """A chip for each name."""
        key = (self.text, self.modality, self._model)
        if key != self._key:
            self._chips = readPrompt(self.text, self.modality or None, self._model)
            self._key = key
        return self._chips

    @property
    def structures(self) -> tuple[str, ...]:
        """Published names to segment, each once, in the order typed."""
        return tuple(dict.fromkeys(name for chip in self.chips for name in chip.classes))

    @property
    def problems(self) -> tuple[Chip, ...]:
        """Names that will not be segmented."""
        return tuple(chip for chip in self.chips if not chip.runs)

    @property
    def meanings(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """What was typed and what it stands for, where that is several structures or one of another name."""
        return tuple(
            (chip.phrase, chip.classes)
            for chip in self.chips
            if not chip.needsDecision and chip.phrase.casefold() not in (name.casefold() for name in chip.classes)
        )

    def modelsFor(self, chip: Chip) -> tuple[ModelRow, ...]:
        """Return the models that know what the chosen one does not know of a name."""
        return self._modelsKnowing([f"{self.modality or 'CT'}_{name}" for name in chip.lost]) if chip.lost else ()

    @property
    def presets(self) -> dict[str, tuple[str, ...]]:
        """Published names by preset that the model knows at least one of; all that it knows is one of them."""
        modality = self.modality or "CT"
        found = presets(modality)
        known = self._model.classes
        if not known:
            return found
        some = {name: tuple(n for n in all_ if f"{modality}_{n}" in known) for name, all_ in found.items()}
        return {name: members for name, members in {EVERYTHING: self.everything, **some}.items() if members}

    @property
    def recent(self) -> tuple[str, ...]:
        """The last prompts, newest first."""
        return self._settings.recentPrompts

    def remember(self) -> None:
        """Keep the names that were understood among the last prompts: nothing else of what was typed."""
        text = ", ".join(chip.phrase for chip in self.chips if chip.runs)
        if text and self.recent[:1] != (text,):
            others = [one for one in self.recent if one.casefold() != text.casefold()]
            self._settings.recentPrompts = (text, *others)[:_RECENT]

    @property
    def everything(self) -> tuple[str, ...]:
        """Names of all that the model knows in the modality at hand; none while that is not known."""
        start = f"{self.modality or 'CT'}_"
        return tuple(known.removeprefix(start) for known in sorted(self._model.classes) if known.startswith(start))

    def complete(self, text: str, cursor: int) -> tuple[Completion, ...]:
        """Return completions of the name at the cursor."""
        return completion.complete(text, cursor, self.modality or None, self._model)

    def addPreset(self, name: str) -> None:
        """Add a preset to the prompt, unless it is there."""
        if name.casefold() not in (chip.phrase.casefold() for chip in self.chips):
            text = self.text.rstrip().rstrip(",;")
            self.text = f"{text}, {name}" if text else name

    def remove(self, index: int) -> None:
        """Take a name out of the prompt."""
        self._replace(index, "")

    def accept(self, index: int, suggestion: str) -> None:
        """Put a suggestion in the place of a name; one of another modality chooses that modality."""
        name, modality = suggestionParts(suggestion)
        self._replace(index, name)
        if modality:
            self.choose(modality)

    def clear(self) -> None:
        """Empty the field."""
        self.text = ""

    def _replace(self, index: int, replacement: str) -> None:
        kept = [self._alone(chip) for chip in self.chips]
        kept[index] = replacement
        self.text = ", ".join(item for item in kept if item)

    def _alone(self, chip: Chip) -> str:
        """Return words that mean the same without their neighbours ("left and right kidney" share a word)."""
        names = (*chip.classes, *chip.lost)
        again = resolve(chip.phrase, self.modality or None, self._model.classes)
        if not names or {name for item in again for name in item.classes} == set(names):
            return chip.phrase
        return ", ".join(names)
