"""Modalities as people and DICOM headers write them."""

from __future__ import annotations

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary.structure import MODALITIES
from MedalSLib.vocabulary.words import Word, words

# Written alone these name a modality; inside a sentence they may mean something else ("pt": patient, "us": we).
_ALONE = {"pt": "PET", "us": "US", "em": "Microscopy", "sm": "Microscopy", "gm": "Microscopy", "echo": "US"}


def normalize_modality(text: str) -> str:
    """Return "CT", "MRI", "US", "PET" or "Microscopy" for any usual way to write it ("mr", "PT", "ultrasound").

    A hybrid ("PET/CT") is PET: that is the modality whose structures can only be asked for there.

    Raises:
        PromptError: It names no modality.
    """
    plain = text.strip().casefold()
    for name in MODALITIES:
        if plain == name.casefold():
            return name
    if plain in _ALONE:
        return _ALONE[plain]
    found = modality_in(words().read(text))
    if found is None:
        raise PromptError(f"'{text}' is not a modality.", f"Choose one of: {', '.join(MODALITIES)}.")
    return found


def modality_in(tokens: list[Word]) -> str | None:
    """Return the modality that the words name, None if they name none; PET wins over the CT it is combined with.

    Regions say nothing about the modality: "pelvic CT" is CT, whatever the published code makes of it.
    """
    named = {words().modality_of(token) for token in tokens}
    return next((name for name in ("PET", "Microscopy", "US", "MRI", "CT") if name in named), None)
