"""Writes small DICOM images for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from MedalSLib.volume.geometry import Grid, lps_of_grid


def dicom_meta(sop_class: str, uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def dicom_common(sop_class: str, series: str, number: int, shape: tuple[int, int]) -> FileDataset:
    uid = generate_uid()
    ds = FileDataset("", {}, file_meta=dicom_meta(sop_class, uid), preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, uid, series
    ds.StudyInstanceUID = ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.7"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Doe^Jane", "SECRET-1", "19700101", "F"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20240101", "120000", "1", "1"
    ds.ReferringPhysicianName = ""
    ds.Modality, ds.SeriesNumber, ds.Manufacturer = "CT", number, "Maker"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    return ds


def write_series(
    folder: Path, array: np.ndarray, grid: Grid, *, number: int = 1, series: str = "", time: int = 1, **tags: Any
) -> list[Path]:
    """Write a CT series of single files with shuffled names; return the files in the order of k."""
    folder.mkdir(parents=True, exist_ok=True)
    series = series or generate_uid()
    _, spacing, direction = lps_of_grid(grid)
    cosines = np.asarray(direction).reshape(3, 3)
    names = np.random.default_rng(number + time).permutation(len(array))
    paths = []
    for k, plane in enumerate(array):
        ds = dicom_common(CTImageStorage, series, number, plane.shape)
        x, y, z = grid.index_to_ras((0, 0, k))
        ds.ImagePositionPatient = [f"{value:.6f}" for value in (-x, -y, z)]
        ds.ImageOrientationPatient = [f"{value:.8f}" for value in (*cosines[:, 0], *cosines[:, 1])]
        ds.PixelSpacing = [spacing[1], spacing[0]]
        ds.SliceThickness = spacing[2]
        ds.InstanceNumber, ds.AcquisitionNumber = int(names[k]) + 1, time
        ds.RescaleSlope, ds.RescaleIntercept = 2, -1024
        ds.PixelData = ((plane.astype(np.int32) + 1024) // 2).astype(np.uint16).tobytes()
        for key, value in tags.items():
            setattr(ds, key, value)
        path = folder / f"IM{number}-{time}-{names[k]:03d}"
        ds.save_as(path)
        paths.append(path)
    return paths
