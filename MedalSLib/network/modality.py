"""The modalities that text encoders know, in the order of their embedding."""

from __future__ import annotations

from collections.abc import Sequence

from MedalSLib.errors import InputError
from MedalSLib.vocabulary import normalize_modality

MODALITIES = ("CT", "MRI", "US", "PET", "Microscopy")
"""Position is the row of the published encoder's modality embedding."""


def modality_index(modality: str) -> int:
    """Return the row of a modality, written in any usual way.

    Raises:
        PromptError: No such modality.
    """
    return MODALITIES.index(normalize_modality(modality))


def modality_indices(modality: str | Sequence[str], count: int) -> list[int]:
    """Return one row per text, given one modality for all or one for each.

    Raises:
        PromptError: No such modality.
        InputError: Not as many as there are texts.
    """
    given = [modality] * count if isinstance(modality, str) else list(modality)
    if len(given) != count:
        raise InputError(f"There are {count} texts but {len(given)} modalities.", "Give one for all, or one for each.")
    return [modality_index(name) for name in given]
