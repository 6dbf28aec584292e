"""Small images that every test of this room uses: an oblique CT, and DICOM series made on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dicom_series
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import EnhancedCTImageStorage, generate_uid

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


@pytest.fixture
def write_series() -> Callable[..., list[Path]]:
    """Writes a CT series of single files with shuffled names; returns the files in the order of k."""
    return dicom_series.write_series


@pytest.fixture
def write_enhanced() -> Callable[..., Path]:
    """Writes an enhanced multi-frame CT whose frames are stored in a shuffled order."""

    def write(path: Path, array: np.ndarray, grid: Grid) -> Path:
        ds = dicom_series.dicom_common(EnhancedCTImageStorage, generate_uid(), 4, array.shape[1:])
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
