"""The pixels of a DICOM file as they are stored, however they are packed, and as the scanner meant them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.errors import InputError

_EXACT = 1 << 30


def read_dataset(path: Path, **options: Any) -> Any:
    """Read a DICOM file, with or without the preamble and file header that the standard asks for.

    Args:
        path: The file.
        options: As for `pydicom.dcmread`.
    """
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    dataset = pydicom.dcmread(path, force=True, **options)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return dataset


def values_of(path: Path, scales: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the frames of a file (frames, rows, columns) as the scanner meant them, in Hounsfield units for CT.

    MONOCHROME1 is about how an image is shown (dark is much), so it changes nothing here.

    Args:
        path: The file.
        scales: Rescale slope and intercept of each frame.
    """
    from pydicom.pixels import apply_modality_lut

    dataset = read_dataset(path)
    stored = _stored(dataset, path).reshape(-1, int(dataset.Rows), int(dataset.Columns))
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset))
    if len(set(scales)) == 1:
        return _scaled(stored, scales[0])
    return np.stack([_scaled(plane, scale) for plane, scale in zip(stored, scales, strict=True)])


def narrowed(array: np.ndarray) -> np.ndarray:
    """Return whole numbers as integers of 16 bits if they fit, else 32, so that Hounsfield units stay whole numbers."""
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or np.abs(array).max() >= _EXACT or not np.array_equal(array, np.rint(array)):
            return array
        array = array.astype(np.int32)
    low, high = int(array.min()), int(array.max())
    if array.dtype.itemsize > 2 and np.iinfo(np.int16).min <= low and high <= np.iinfo(np.int16).max:
        return array.astype(np.int16)
    return array


def _scaled(stored: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    slope, intercept = scale
    if scale == (1.0, 0.0):
        return stored
    if slope == round(slope) and intercept == round(intercept) and stored.dtype.kind in "ui":
        return stored.astype(np.int32) * int(slope) + int(intercept)
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _stored(dataset: Any, path: Path) -> np.ndarray:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or get_decoder(syntax).is_available:
        array = np.asarray(dataset.pixel_array)
    else:
        array = _by_gdcm(dataset, path)
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    unused = allocated - 1 - int(dataset.get("HighBit", stored - 1))
    if array.dtype.kind in "ui" and stored < allocated and array.dtype.itemsize * 8 == allocated:
        # Old files keep overlays and other things in the bits that are not used.
        array = (array << (unused if not syntax.is_compressed else allocated - stored)) >> (allocated - stored)
    return array


def _by_gdcm(dataset: Any, path: Path) -> np.ndarray:
    """Decode compressed pixels with the decoders of ITK.

    ITK also rescales, and inverts MONOCHROME1; so it is given a plain file with nothing but the compressed pixels.
    """
    import pydicom
    import SimpleITK
    from pydicom.uid import MultiFrameGrayscaleWordSecondaryCaptureImageStorage, generate_uid

    plain = pydicom.Dataset()
    plain.file_meta = pydicom.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    plain.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    plain.SOPInstanceUID, plain.Modality = generate_uid(), "OT"
    for name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "NumberOfFrames"):
        if name in dataset:
            setattr(plain, name, dataset[name].value)
    plain.SamplesPerPixel, plain.PhotometricInterpretation = 1, "MONOCHROME2"
    plain["PixelData"] = dataset["PixelData"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pixels.dcm"
        plain.save_as(file, enforce_file_format=True)
        try:
            return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        except RuntimeError as error:
            raise InputError(
                f"The pixels of {path} are damaged, or compressed in a way that cannot be read here "
                f"({dataset.file_meta.TransferSyntaxUID.name}).",
                "Export the series uncompressed, or load it into 3D Slicer and save the volume as .nrrd.",
            ) from error
