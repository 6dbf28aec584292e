"""Modalities as people, DICOM headers and file names write them."""

from __future__ import annotations

from MedalSLib.errors import PromptError
from MedalSLib.vocabulary.structure import MODALITIES
from MedalSLib.vocabulary.words import Word, words

_NAMES = {name.casefold(): name for name in MODALITIES}
# Values of DICOM's Modality (0008,0060).
_DICOM = {"ct": "CT", "mr": "MRI", "us": "US", "ivus": "US", "pt": "PET", "sm": "Microscopy", "gm": "Microscopy"}
# Written alone these name a modality; inside a sentence they may mean something else ("pt": patient, "us": we).
_ALONE = _NAMES | _DICOM | {"em": "Microscopy", "echo": "US"}
_CASE_PREFIXES = _NAMES | {"mr": "MRI", "us3d": "US"}


def normalize_modality(text: str) -> str:
    """Return "CT", "MRI", "US", "PET" or "Microscopy" for any usual way to write it ("mr", "PT", "ultrasound").

    A hybrid ("PET/CT") is PET: that is the modality whose structures can only be asked for there.

    Raises:
        PromptError: It names no modality.
    """
    found = _ALONE.get(text.strip().casefold()) or modality_in(words().read(text))
    if found is None:
        raise PromptError(f"'{text}' is not a modality.", f"Choose one of: {', '.join(MODALITIES)}.")
    return found


def modality_in(tokens: list[Word]) -> str | None:
    """Return the modality that the words name, None if they name none; PET wins over the CT it is combined with.

    Regions say nothing about the modality: "pelvic CT" is CT, although the published code reads it as MRI.
    """
    named = {words().modality_of(token) for token in tokens}
    return next((name for name in ("PET", "Microscopy", "US", "MRI", "CT") if name in named), None)


def dicom_modality(value: str) -> str | None:
    """Return the modality for a value of DICOM's Modality (0008,0060), None for one without structures ("CR")."""
    return _DICOM.get(value.casefold())


def case_modality(file_name: str) -> str | None:
    """Return the modality with which the name of a challenge case begins ("CT_AMOS_...npz"), None if with none."""
    prefix, underscore, _ = file_name.partition("_")
    return _CASE_PREFIXES.get(prefix.casefold()) if underscore else None
