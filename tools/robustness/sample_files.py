"""Small whole files of every format that is read, to be damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.volume import Grid, axial_grid
from MedalSLib.volume.geometry import lps_of_grid
from MedalSLib.volume.writing import write_segmentation

_SHAPE = (5, 9, 8)


def write_samples(folder: Path) -> list[Path]:
    """Write one file of each format into a folder (a DICOM series into a folder of its own), and return their paths.

    Args:
        folder: An empty folder.
    """
    import nibabel
    import nrrd
    import SimpleITK

    random = np.random.default_rng(0)
    image = random.normal(0, 300, _SHAPE).astype(np.int16)
    labels = (image > 200).astype(np.uint8) + (image < -200).astype(np.uint8) * 2
    grid = axial_grid(_SHAPE, (3.0, 0.8, 0.7))
    paths = [folder / name for name in ("a.nii", "a.nii.gz", "a.nrrd", "b.nrrd", "c.nrrd", "a.nhdr", "a.mha", "b.mha",
                                        "labels.nii.gz", "labels.mha")]  # fmt: skip
    for path in paths:
        content = labels if path.name.startswith("labels") else image
        if ".nii" in path.name:
            nifti = nibabel.Nifti1Image(content.T, grid.affine_ras)
            nifti.set_qform(grid.affine_ras, code="scanner")
            nibabel.save(nifti, path)
        elif path.suffix in (".nrrd", ".nhdr"):
            encoding = {"a.nrrd": "gzip", "b.nrrd": "raw", "c.nrrd": "bzip2", "a.nhdr": "raw"}[path.name]
            header = {"space": "left-posterior-superior", "space directions": np.diag((0.7, 0.8, 3.0)),
                      "space origin": np.zeros(3), "kinds": ["domain"] * 3, "encoding": encoding}  # fmt: skip
            nrrd.write(str(path), content.T, header)
        else:
            SimpleITK.WriteImage(SimpleITK.GetImageFromArray(content), str(path), useCompression=path.name == "b.mha")
    np.savez(folder / "CT_case.npz", imgs=(image // 8 + 128).clip(0, 255).astype(np.uint8), spacing=np.ones(3),
             segs=labels, text_prompts=np.array({"1": "liver", "instance_label": 0}, dtype=object))  # fmt: skip
    masks = {"Liver": labels == 1, "Spleen": labels == 2}
    for name in ("seg.seg.nrrd", "seg.nii.gz"):
        write_segmentation(folder / name, masks, grid)
    (folder / "names.json").write_text(json.dumps({"labels": {"background": 0, "liver": 1}}))
    (folder / "names.csv").write_text("label,name\n1,liver\n2,spleen\n")
    series = _write_series(folder / "series", image, grid)
    enhanced = _write_enhanced(folder / "enhanced.dcm", image, grid)
    from MedalSLib.volume.reading import read_image

    source = read_image(folder / "series")
    write_segmentation(folder / "seg.dcm", {"Liver": source.array_kji > 100}, source.grid, source=source)
    return [*paths, folder / "CT_case.npz", folder / "seg.seg.nrrd", folder / "seg.nii.gz", folder / "names.json",
            folder / "names.csv", series[2], enhanced, folder / "seg.dcm"]  # fmt: skip


def _header(sop_class: str, series: str, shape: tuple[int, ...]) -> Any:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    uid = generate_uid(entropy_srcs=[series, str(shape)])
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(sop_class), uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = sop_class, uid, series
    ds.StudyInstanceUID = ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.9"
    ds.PatientID, ds.Modality, ds.SeriesNumber, ds.SeriesDescription = "phantom", "CT", 3, "chest"
    ds.Rows, ds.Columns = shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def _write_series(folder: Path, image: np.ndarray, grid: Grid) -> list[Path]:
    from pydicom.uid import CTImageStorage, generate_uid

    folder.mkdir()
    _, spacing, _ = lps_of_grid(grid)
    paths: list[Path] = []
    for k, plane in enumerate(image):
        ds = _header(CTImageStorage, "1.2.826.0.1.3680043.8.498.10", plane.shape)
        uid = generate_uid(entropy_srcs=["slice", str(k)])
        ds.SOPInstanceUID = uid
        ds.file_meta.MediaStorageSOPInstanceUID = uid
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, k * spacing[2]], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.InstanceNumber, ds.RescaleSlope, ds.RescaleIntercept = [spacing[1], spacing[0]], k, 1, 0
        ds.PixelData = plane.tobytes()
        paths.append(folder / f"{k}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def _write_enhanced(path: Path, image: np.ndarray, grid: Grid) -> Path:
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedCTImageStorage

    _, spacing, _ = lps_of_grid(grid)
    ds = _header(EnhancedCTImageStorage, "1.2.826.0.1.3680043.8.498.11", image.shape[1:])
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient, measures.PixelSpacing = [1, 0, 0, 0, 1, 0], [spacing[1], spacing[0]]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    ds.SharedFunctionalGroupsSequence, frames = [shared], []
    for k in range(len(image)):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, k * spacing[2]]
        frame.PlanePositionSequence = [position]
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence, ds.NumberOfFrames = frames, len(frames)
    ds.PixelData = image.tobytes()
    ds.save_as(path, enforce_file_format=True)
    return path
