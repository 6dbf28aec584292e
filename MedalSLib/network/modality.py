"""The modalities that text encoders know, in the order of their embedding."""

from __future__ import annotations

from collections.abc import Sequence

from MedalSLib.errors import InputError

MODALITIES = ("CT", "MRI", "US", "PET", "Microscopy")
"""Position is the row of the published encoder's modality embedding."""

_INDEX = {name.lower(): index for index, name in enumerate(MODALITIES)} | {"mr": 1, "ultrasound": 2, "pt": 3}


def modality_index(modality: str) -> int:
    """Return a modality's row; case does not matter, and DICOM's own codes (MR, PT) are understood.

    Raises:
        InputError: No such modality.
    """
    index = _INDEX.get(modality.strip().lower())
    if index is None:
        raise InputError(f'The modality "{modality}" is not known.', f"Use one of: {', '.join(MODALITIES)}.")
    return index


def modality_indices(modality: str | Sequence[str], count: int) -> list[int]:
    """Return one row per text, given one modality for all or one for each.

    Raises:
        InputError: No such modality, or not as many as there are texts.
    """
    given = [modality] * count if isinstance(modality, str) else list(modality)
    if len(given) != count:
        raise InputError(f"There are {count} texts but {len(given)} modalities.", "Give one for all, or one for each.")
    return [modality_index(name) for name in given]
