"""An image that was read: intensities, grid, modality, source and warnings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedalSLib.errors import InputError
from MedalSLib.volume.geometry import Grid
from MedalSLib.volume.modality_guess import ModalityGuess

THICKEST_TO_THINNEST = 10.0
LARGEST_MM = 3000.0


@dataclass(frozen=True)
class Source:
    """Where an image came from; nothing here identifies a patient.

    Attributes:
        path: What the user named.
        format: "NIfTI", "NRRD", "MetaImage", "DICOM" or "challenge npz".
        files: DICOM files in the order of the slices, which a DICOM SEG must refer to; else the one file.
    """

    path: Path
    format: str
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """A 3-D image on its grid.

    Attributes:
        array_kji: Intensities (K, J, I) as the scanner gave them (Hounsfield units for CT); finite and varying.
        grid: Where the voxels lie.
        modality: The modality and why it is taken for that.
        source: Where the image came from.
        warnings: Sentences the user should read.
        windowed: Whether the intensities are 0..255 after a window already, as the challenge's are; then the window
            "as is" is right.
    """

    array_kji: np.ndarray
    grid: Grid
    modality: ModalityGuess
    source: Source
    warnings: tuple[str, ...] = ()
    windowed: bool = False


def checked_intensities(array: np.ndarray, path: Path | str) -> np.ndarray:
    """Return the intensities as a native-endian array of at most 32 bits if they make an image.

    Raises:
        InputError: Complex or colour values, NaN or infinity, or the same value everywhere.
    """
    if array.dtype.kind not in "uifb":
        raise InputError(
            f"The voxels of {path} are of the type {array.dtype}, which is not an intensity.",
            "Convert it to an image with one number per voxel.",
        )
    if array.dtype.kind == "b":
        array = array.astype(np.uint8)
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
        bad = array.size - int(np.count_nonzero(np.isfinite(array)))
        if bad:
            raise InputError(
                f"{bad} voxels of {path} are not finite numbers (NaN or infinity).",
                "Replace them, for example by the intensity of air or by 0.",
            )
    low, high = array.min(), array.max()
    if low == high:
        raise InputError(
            f"All voxels of {path} have the same intensity ({low:g}).", "Choose an image that shows something."
        )
    if array.dtype.kind in "ui" and array.dtype.itemsize > 4:
        array = array.astype(
            np.int32 if np.iinfo(np.int32).min <= low and high <= np.iinfo(np.int32).max else np.float32
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def check_volume(shape: tuple[int, ...], path: Path | str) -> None:
    """Refuse what is not a volume.

    Raises:
        InputError: Fewer than three axes with more than one voxel.
    """
    if len([size for size in shape if size > 1]) < 3:
        raise InputError(
            f"{path} is a 2-D image ({'x'.join(map(str, shape))} voxels).",
            "Choose a volume with at least two slices, such as the whole DICOM series.",
        )


def chosen_frame(frame: int | None, frames: int, path: Path | str, said: str = "") -> int:
    """Return the index of the frame to read.

    Args:
        frame: What the user chose, None for nothing, which is enough where there is one frame.
        frames: Number of frames in the image.
        path: The file, for the message.
        said: How the frames were told apart ("by their echo time"), for the message.

    Raises:
        InputError: No frame was chosen of several, or one that is not there.
    """
    if frame is None and frames == 1:
        return 0
    if frame is None:
        raise InputError(
            f"{path} is 4-D: it has {frames} frames{said and f', told apart {said}'}.",
            f"Choose one of them, 0 to {frames - 1} (frame=0, or --frame 0 on the command line).",
        )
    if not 0 <= frame < frames:
        raise InputError(f"{path} has no frame {frame}.", f"Choose one from 0 to {frames - 1}.")
    return frame


def grid_warnings(grid: Grid) -> tuple[str, ...]:
    """Return what is unusual about a grid, as sentences."""
    spacing = grid.spacing_ijk
    said = []
    widest = max(size * count for size, count in zip(spacing, grid.shape_ijk, strict=True))
    if widest > LARGEST_MM:
        said.append(f"The image is {widest / 1000:.3g} m long by its header; its spacing or unit is probably wrong.")
    if max(spacing) / min(spacing) > THICKEST_TO_THINNEST:
        sizes = " x ".join(f"{size:.3g}" for size in spacing)
        said.append(f"The voxels are very uneven ({sizes} mm); thin structures may be lost across the slices.")
    return tuple(said)
