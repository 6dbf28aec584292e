"""The modality of an image, guessed from what is known about it and said in words, so that the user can overrule it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MedalSLib.vocabulary.modality import case_modality, dicom_modality

_AIR, _FAT, _BONE, _METAL = -500, -50, 100, 33000
_SAMPLES = 2_000_000
_AIR_HU, _LIFTED_TISSUE = (-1100, -850), (930, 1150)
_SOME_AIR, _MUCH_TISSUE, _CLIPPED = 0.005, 0.05, 0.1
_NORMALISED, _BYTE, _BONE_LIFTED, _AIR_EDGE = 30.0, 255.0, 1000.0, 900.0


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


def hounsfield_doubt(array: np.ndarray) -> str:
    """Return a sentence, with the remedy, if intensities cannot be the Hounsfield units of a CT as it was scanned.

    Args:
        array: Intensities of what is said to be a CT.

    Returns:
        The sentence; empty if nothing speaks against Hounsfield units.
    """
    sample = array.ravel()[:: max(1, array.size // _SAMPLES)]
    low, high = float(array.min()), float(array.max())
    span = f"The intensities go from {low:g} to {high:g}"
    air = float(np.mean((sample > _AIR_HU[0]) & (sample < _AIR_HU[1])))
    lifted = float(np.mean((sample > _LIFTED_TISSUE[0]) & (sample < _LIFTED_TISSUE[1])))
    if high - low <= _NORMALISED:
        return (
            f"{span}, so they were normalised and cannot be Hounsfield units: results will be wrong; use the CT as the "
            "scanner gave it."
        )
    if low >= 0 and high <= _BYTE and (low == 0 or high == _BYTE):
        return (
            f"{span}, as after a window, and cannot be Hounsfield units: use the CT as the scanner gave it, or choose "
            "the window 'as is' for all structures."
        )
    if air < _SOME_AIR and ((low >= 0 and high > _BONE_LIFTED) or lifted > _MUCH_TISSUE):
        return (
            f"{span}, which looks like Hounsfield units plus 1024: results will be wrong; subtract 1024, or export the "
            "CT with its rescale intercept."
        )
    if high <= _AIR or float(np.mean(sample > _AIR)) < _SOME_AIR:
        return (
            f"{span}, nearly all below those of tissue, which looks like Hounsfield units minus 1024: results will be "
            "wrong; add 1024, or export the CT with its rescale intercept once."
        )
    for bound, words in ((low, "from below"), (high, "from above")):
        if -_AIR_EDGE < bound < _BONE_LIFTED and float(np.mean(sample == bound)) > _CLIPPED:
            return (
                f"{span} and are cut off {words}, so a window was applied: lung or bone will not look as they should; "
                "use the CT as the scanner gave it."
            )
    return ""


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
