"""Small images that every test of this room uses: an oblique CT, and DICOM series made on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from MedalSLib.volume.geometry import Grid, lps_of_grid

SHAPE = (6, 9, 11)


@pytest.fixture
def ct() -> np.ndarray:
    """Hounsfield units in which every voxel differs."""
    values = np.linspace(-1000, 1500, int(np.prod(SHAPE))).astype(np.int16)
    return np.random.default_rng(0).permutation(values).reshape(SHAPE)


@pytest.fixture
def grid() -> Grid:
    """Oblique, anisotropic, left-handed, not axial, but with perpendicular axes."""
    a, b = np.deg2rad(20), np.deg2rad(-35)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    affine = np.eye(4)
    affine[:3, :3] = turn[:, (1, 2, 0)] * (-0.8, 0.9, -2.5)
    affine[:3, 3] = (12.5, -40.0, 71.25)
    assert np.linalg.det(affine) > 0
    affine[:3, 0] *= -1
    return Grid(SHAPE, affine)


@pytest.fixture
def chest() -> Path:
    """Folder of the real chest CT that slicerio ships."""
    import slicerio

    return Path(slicerio.__file__).parent / "data"


@pytest.fixture
def upright() -> Grid:
    """A right-handed axial grid with a DICOM-like origin."""
    affine = np.diag((-0.7, -0.8, 3.0, 1.0))
    affine[:3, 3] = (100.0, 120.0, -300.0)
    return Grid(SHAPE, affine)


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


@pytest.fixture
def write_series() -> Callable[..., list[Path]]:
    """Writes a CT series of single files with shuffled names; returns the files in the order of k."""

    def write(
        folder: Path, array: np.ndarray, grid: Grid, *, number: int = 1, series: str = "", time: int = 1, **tags: Any
    ) -> list[Path]:
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

    return write


@pytest.fixture
def write_enhanced() -> Callable[..., Path]:
    """Writes an enhanced multi-frame CT whose frames are stored in a shuffled order."""

    def write(path: Path, array: np.ndarray, grid: Grid) -> Path:
        ds = dicom_common(EnhancedCTImageStorage, generate_uid(), 4, array.shape[1:])
        _, spacing, direction = lps_of_grid(grid)
        cosines = np.asarray(direction).reshape(3, 3)
        orientation, measures = Dataset(), Dataset()
        orientation.ImageOrientationPatient = [f"{value:.8f}" for value in (*cosines[:, 0], *cosines[:, 1])]
        measures.PixelSpacing, measures.SliceThickness = [spacing[1], spacing[0]], spacing[2]
        shared = Dataset()
        shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
        ds.SharedFunctionalGroupsSequence = [shared]
        frames, planes = [], []
        for k in np.random.default_rng(5).permutation(len(array)):
            position, scale, frame = Dataset(), Dataset(), Dataset()
            x, y, z = grid.index_to_ras((0, 0, int(k)))
            position.ImagePositionPatient = [f"{value:.6f}" for value in (-x, -y, z)]
            scale.RescaleSlope, scale.RescaleIntercept, scale.RescaleType = 1, -1000 - int(k), "HU"
            frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [scale]
            frames.append(frame)
            planes.append((array[k].astype(np.int32) + 1000 + int(k)).astype(np.uint16))
        ds.PerFrameFunctionalGroupsSequence = frames
        ds.NumberOfFrames = len(frames)
        ds.PixelData = np.stack(planes).tobytes()
        ds.save_as(path)
        return path

    return write


@pytest.fixture
def even_ct(ct: np.ndarray) -> np.ndarray:
    """The CT in even numbers, which survive a rescale slope of 2."""
    return ct // 2 * 2
