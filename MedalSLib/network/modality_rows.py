"""Modalities as rows of a text encoder's modality embedding (row 0 is CT, in the order of `MODALITIES`)."""

from __future__ import annotations

from collections.abc import Sequence

from MedalSLib.errors import InputError
from MedalSLib.vocabulary import MODALITIES, normalize_modality


def modality_rows(modality: str | Sequence[str], count: int) -> list[int]:
    """Return one row per text, given one modality for all or one for each, written in any usual way.

    Raises:
        PromptError: No such modality.
        InputError: Not as many as there are texts.
    """
    given = [modality] * count if isinstance(modality, str) else list(modality)
    if len(given) != count:
        raise InputError(f"There are {count} texts but {len(given)} modalities.", "Give one for all, or one for each.")
    return [MODALITIES.index(normalize_modality(name)) for name in given]
