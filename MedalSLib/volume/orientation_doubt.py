"""Notices an image that lies upside down or mirrored: by the couch in a CT, and by where organs were found."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from MedalSLib.volume.geometry import Grid, NetworkFrame
from MedalSLib.volume.mask import BoxMask

_REMEDY = "Check the orientation of the file; of an .npz, which has none, say it (--orientation, such as LAS)."
_STEP_MM = 4.0
_AIR_HU, _AIR_WINDOWED = -600.0, 10.0
_SMALLEST_BODY_MM2 = 1_600.0
_COUCH_MM2 = 640.0
"""Less than this beside the body, as the mean of the slices, is no couch but a blanket, a line or a mask."""
_ONE_SIDED = 0.7
_APART_MM = 15.0

_RIGHT_TO_LEFT = (
    ("Liver", "Spleen"), ("Liver", "Stomach"), ("Gallbladder", "Spleen"), ("Gallbladder", "Stomach"),
    ("Inferior vena cava", "Aorta"),
)  # fmt: skip
_FRONT_TO_BACK = (
    ("Liver", "Left kidney"), ("Liver", "Right kidney"), ("Stomach", "Left kidney"), ("Mandible", "Spinal cord"),
    ("Mandible", "Brainstem"), ("Larynx", "Spinal cord"), ("Trachea", "Spinal cord"),
)  # fmt: skip
_HEAD_TO_FEET = (
    ("Left lung", "Liver"), ("Right lung", "Liver"), ("Heart", "Liver"), ("Left lung", "Left kidney"),
    ("Right lung", "Right kidney"), ("Liver", "Urinary bladder"), ("Left kidney", "Urinary bladder"),
    ("Right kidney", "Urinary bladder"), ("Brain", "Mandible"), ("Brainstem", "Larynx"), ("Mandible", "Larynx"),
)  # fmt: skip
_AXES = (
    (0, 1.0, _RIGHT_TO_LEFT, "left", "mirrored left to right"),
    (1, 1.0, _FRONT_TO_BACK, "behind", "turned back to front"),
    (2, 1.0, _HEAD_TO_FEET, "below", "turned feet to head"),
)
"""RAS axis, its sign towards the first of each pair, the pairs, how the first lies if it is wrong, and what is."""


def couch_doubt(array_kji: np.ndarray, grid: Grid, is_windowed: bool) -> str:
    """Return a sentence, with the remedy, if a CT has the couch in front of the patient; "" if not.

    Args:
        array_kji: CT (K, J, I).
        grid: Where it is said to lie.
        is_windowed: Whether the values are 0..255 after a window, and not Hounsfield units.
    """
    frame = NetworkFrame(grid)
    if not _is_couch_in_front(frame.to_network(array_kji), frame.spacing_dhw, is_windowed):
        return ""
    return f"The couch lies in front of the patient, so the image is upside down unless they lay prone. {_REMEDY}"


def organs_doubt(masks: Mapping[str, BoxMask], grid: Grid) -> str:
    """Return a sentence, with the remedy, if organs were found where they cannot be; "" if not.

    Args:
        masks: Masks (K, J, I) by published name.
        grid: Their grid.
    """
    centres = {name: _centre_ras(mask, grid) for name, mask in masks.items() if not mask.is_empty}
    for axis, sign, pairs, lies, what in _AXES:
        known = [(one, other) for one, other in pairs if one in centres and other in centres]
        off = {pair: sign * float(centres[pair[0]][axis] - centres[pair[1]][axis]) for pair in known}
        wrong = [pair for pair, distance in off.items() if distance < -_APART_MM]
        if wrong and 2 * len(wrong) > len(known):
            one, other = (name.lower() for name in wrong[0])
            found = f"The {one} was found {lies} {'of ' if lies == 'left' else ''}the {other}"
            return f"{found}: the image may be {what}. {_REMEDY}"
    return ""


def _centre_ras(mask: BoxMask, grid: Grid) -> np.ndarray:
    assert mask.box is not None
    crop = mask.crop()
    total = np.count_nonzero(crop)
    kji = []
    for axis, (start, stop) in enumerate(mask.box):
        others = tuple(other for other in range(3) if other != axis)
        kji.append(float(np.count_nonzero(crop, axis=others) @ np.arange(start, stop)) / total)
    return grid.index_to_ras(kji[::-1])


def _is_couch_in_front(array_dhw: np.ndarray, spacing_dhw: tuple[float, float, float], is_windowed: bool) -> bool:
    """Say whether what lies beside the body is a couch on the side that is taken for the front."""
    from scipy import ndimage

    steps = [max(1, round(_STEP_MM / size)) for size in spacing_dhw]
    coarse = array_dhw[:: steps[0], :: steps[1], :: steps[2]]
    area = spacing_dhw[1] * steps[1] * spacing_dhw[2] * steps[2]
    front = back = slices = 0
    for plane in coarse > (_AIR_WINDOWED if is_windowed else _AIR_HU):
        # Opened, so that a couch that the patient touches does not become a part of the body.
        parts, count = ndimage.label(ndimage.binary_opening(plane, iterations=2))
        sizes = np.bincount(parts.ravel(), minlength=2)[1:]
        if not count or sizes.max() * area < _SMALLEST_BODY_MM2:
            continue
        body = ndimage.binary_fill_holes(ndimage.binary_dilation(parts == sizes.argmax() + 1, iterations=3))
        rows = np.flatnonzero(body.any(axis=1))
        middle = (int(rows[0]) + int(rows[-1])) // 2
        beside = plane & ~body
        front += int(np.count_nonzero(beside[:middle]))
        back += int(np.count_nonzero(beside[middle + 1 :]))
        slices += 1
    return slices > 0 and front * area / slices > _COUCH_MM2 and front - back > _ONE_SIDED * (front + back)
