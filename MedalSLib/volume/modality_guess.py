"""The modality of an image, guessed from what is known about it and said in words, so that the user can overrule it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedalSLib.vocabulary.modality import case_modality, dicom_modality

_AIR, _FAT, _BONE, _METAL = -500, -50, 100, 33000
_SAMPLES = 2_000_000


@dataclass(frozen=True)
class ModalityGuess:
    """A modality and why.

    Attributes:
        modality: One of `vocabulary.MODALITIES`.
        reason: The reason as a sentence for the user.
        certain: False if the user should be asked to check.
    """

    modality: str
    reason: str
    certain: bool


def guess_modality(array: np.ndarray, dicom_value: str = "", file_name: str = "") -> ModalityGuess:
    """Guess the modality of an image.

    Args:
        array: Raw intensities.
        dicom_value: DICOM Modality (0008,0060), if the image has one; it is trusted.
        file_name: Name of a challenge case, whose beginning says the modality ("CT_AMOS_...npz"), if it is one.
    """
    if (modality := dicom_modality(dicom_value)) is not None:
        return ModalityGuess(modality, f"The DICOM header says {dicom_value.upper()}.", True)
    if (modality := case_modality(file_name)) is not None:
        return ModalityGuess(modality, f"The file name begins with {file_name.split('_')[0]}.", True)
    return _from_intensities(array)


def _from_intensities(array: np.ndarray) -> ModalityGuess:
    low, high = float(array.min()), float(array.max())
    span = f"The intensities go from {low:g} to {high:g}"
    sample = array.ravel()[:: max(1, array.size // _SAMPLES)]
    whole = bool(np.issubdtype(array.dtype, np.integer) or (sample == np.round(sample)).all())
    if low <= _AIR and _BONE <= high <= _METAL:
        return ModalityGuess("CT", f"{span}, as Hounsfield units do with air and bone in the image.", True)
    if whole and low <= _FAT and _BONE <= high <= _METAL:
        return ModalityGuess(
            "CT", f"{span} in whole numbers, like Hounsfield units of a CT without air; please check.", False
        )
    if array.dtype == np.uint8:
        return ModalityGuess("US", f"{span} in bytes, as ultrasound has them; please check.", False)
    return ModalityGuess(
        "MRI", f"{span}, which are not Hounsfield units, so this is taken for MRI; please check.", False
    )
