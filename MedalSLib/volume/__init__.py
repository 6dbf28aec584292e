"""Images and masks: grids, orientation, intensity windows, reading and writing of files.

- `geometry`: `Grid` says where the voxels of an array lie in the patient; `NetworkFrame` turns arrays to the network's
  axes and back.  Nothing else in the project flips or permutes the axes of an image.
- `reading.read_image` gives an `Image`: intensities as the scanner gave them, grid, modality (`modality_guess`) and
  warnings.  `formats` says by its content what a file is; `nifti_reading`, `nrrd_reading`, `metaimage_reading` and
  `challenge` read it.  Of DICOM, `dicom_series` finds the files of a series, `dicom_slices` where each slice lies,
  `dicom_phases` the phases, `dicom_stack` the grid, `dicom_pixels` the values; `dicom_listing` lists a folder.
- `windows`: from raw intensities to the 0..255 that the networks take.
- `segmentation_reading.read_segmentation` and `writing.write_segmentation` (with `seg_nrrd`, `dicom_seg`): named
  masks with colours and codes (`segment_info`), in the formats that 3D Slicer and PACS read; `segment_names` reads
  names of labels from the tables of other programs.
- `resample.resample_mask`: a mask from another grid.  `preview.save_preview`: a picture for people without a viewer.

Files are not trusted: sizes are checked before memory is taken, and pickled text is read by `restricted_pickle`.

What reads and writes files is imported from its module, not from here: the Slicer extension ships without it, since
Slicer reads and writes its own.  Importing this room loads numpy only.
"""

from MedalSLib.volume.box import Box, bounding_box
from MedalSLib.volume.box_array import BoxArray
from MedalSLib.volume.geometry import Grid, NetworkFrame, Roi, axial_grid, same_grid
from MedalSLib.volume.mask import BoxMask, DenseMasks
from MedalSLib.volume.modality_guess import guess_modality
from MedalSLib.volume.windows import AS_IS, PERCENTILE, Window, apply_window, group_by_window, parse_window

__all__ = [
    "AS_IS",
    "PERCENTILE",
    "Box",
    "BoxArray",
    "BoxMask",
    "DenseMasks",
    "Grid",
    "NetworkFrame",
    "Roi",
    "Window",
    "apply_window",
    "axial_grid",
    "bounding_box",
    "group_by_window",
    "guess_modality",
    "parse_window",
    "same_grid",
]
