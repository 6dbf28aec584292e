"""The modality is guessed with a reason, and said to be uncertain where it is."""

from __future__ import annotations

import numpy as np
import pytest

from MedalSLib.volume import guess_modality


def test_the_dicom_header_is_believed() -> None:
    for code, modality in {"CT": "CT", "MR": "MRI", "US": "US", "PT": "PET", "SM": "Microscopy"}.items():
        guess = guess_modality(np.array([0, 5]), code)
        assert (guess.modality, guess.certain) == (modality, True)
        assert code in guess.reason


@pytest.mark.parametrize(
    ("array", "modality", "certain"),
    [
        (np.array([-1024, 0, 1500], np.int16), "CT", True),
        (np.array([-3024.0, 0.5, 3070.0], np.float32), "CT", True),
        (np.array([-180, 40, 700], np.int16), "CT", False),
        (np.array([0, 900], np.uint16), "MRI", False),
        (np.array([-2.3, 4.1], np.float32), "MRI", False),
        (np.array([0, 255], np.uint8), "US", False),
    ],
)
def test_intensities_say_what_they_can(array: np.ndarray, modality: str, certain: bool) -> None:
    guess = guess_modality(array)
    assert (guess.modality, guess.certain) == (modality, certain)
    assert guess.reason.endswith(".") and ("please check" in guess.reason) is not certain


def test_the_name_of_a_challenge_case_says_its_modality() -> None:
    bytes_image = np.array([0, 255], np.uint8)
    for name, modality in {"CT_AMOS_1.npz": "CT", "MR_x.npz": "MRI", "Microscopy_y.npz": "Microscopy"}.items():
        assert guess_modality(bytes_image, file_name=name).modality == modality
    assert guess_modality(bytes_image, file_name="ctlike.npz").modality == "US"
