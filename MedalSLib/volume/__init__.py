"""Images and masks: grids, orientation, intensity windows, reading and writing of files.

- `geometry`: `Grid` says where the voxels of an array lie in the patient; `NetworkFrame` turns arrays to the network's
  axes and back.  Nothing else in the project flips or permutes the axes of an image.
- `read_image` (in `reading`, `dicom_reading`, `dicom_series`, `challenge`) gives an `Image`: intensities as the scanner
  gave them, grid, modality (`modality_guess`) and warnings.
- `windows`: from raw intensities to the 0..255 that the networks take.
- `read_segmentation` and `write_segmentation` (in `segmentation_reading`, `writing`, `seg_nrrd`, `dicom_seg`): named
  masks with colours and codes (`segment_info`), in the formats that 3D Slicer and PACS read.
- `resample_mask`: a mask from another grid.  `save_preview`: a picture for people without a viewer.

Files are not trusted: sizes are checked before memory is taken, and pickled text is read by `restricted_pickle`.

Importing this room loads numpy only; the libraries that read and write files are imported by the functions that need
them.
"""

from MedalSLib.volume.box import Box, bounding_box
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.challenge import ChallengeCase, read_challenge, write_challenge_result
from MedalSLib.volume.files import check_output
from MedalSLib.volume.geometry import Grid, NetworkFrame, Roi, axial_grid, same_grid
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask, DenseMasks
from MedalSLib.volume.modality_guess import guess_modality
from MedalSLib.volume.preview import save_preview
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.resample import resample_mask
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.segmentation import Segmentation
from MedalSLib.volume.segmentation_reading import read_segmentation
from MedalSLib.volume.windows import AS_IS, PERCENTILE, Window, apply_window, group_by_window, parse_window
from MedalSLib.volume.writing import check_segmentation_output, write_segmentation

__all__ = [
    "AS_IS",
    "PERCENTILE",
    "Box",
    "BoxArray",
    "BoxMask",
    "ChallengeCase",
    "DenseMasks",
    "Grid",
    "Image",
    "NetworkFrame",
    "Roi",
    "SegmentInfo",
    "Segmentation",
    "Window",
    "apply_window",
    "axial_grid",
    "bounding_box",
    "check_output",
    "check_segmentation_output",
    "group_by_window",
    "guess_modality",
    "parse_window",
    "read_challenge",
    "read_image",
    "read_segmentation",
    "resample_mask",
    "same_grid",
    "save_preview",
    "write_challenge_result",
    "write_segmentation",
]
