"""What an image must be before a network sees it."""

from __future__ import annotations

import numpy as np

from MedalSLib.errors import InputError


def check_image(array_kji: np.ndarray) -> np.ndarray:
    """Return the image as an array of real numbers, unchanged if it already is one.

    Args:
        array_kji: Intensities (K, J, I).

    Raises:
        InputError: Not 3-D, not numeric, with NaN or infinite values, or the same value everywhere.
    """
    array = np.asarray(array_kji)
    if array.ndim != 3:
        remedy = "Choose one frame of it (--frame N on the command line)." if array.ndim == 4 else "Open a 3-D image."
        raise InputError(f"The image has {array.ndim} dimensions instead of 3.", remedy)
    if array.size == 0:
        raise InputError("The image has no voxels.", "Open another image.")
    if array.dtype == bool or not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise InputError(
            f"The image's voxels are of the type {array.dtype}, not scalar intensities.",
            "Open the image itself, not a mask or a colour picture.",
        )
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(
            "The image contains values that are not numbers (NaN) or infinite.",
            "Replace them with the value of air or background, then try again.",
        )
    if low == high:
        raise InputError(
            f"Every voxel of the image has the value {low:g}, so there is nothing to see in it.",
            "Check that the right file or series was opened.",
        )
    return array
